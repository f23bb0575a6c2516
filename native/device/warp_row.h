// An output row in the registers of one warp, and its way to memory: what the decode pipeline and its combine share.
#pragma once

#include "device/epilogue.h"
#include "device/problem.h"
#include "device/ptx/math.h"
#include "device/warp_product.h"

namespace sieve {

// kChannels / 32 channels a lane, in vectors of up to four.
template <int kChannels>
struct WarpRow {
  static constexpr int kCount = kChannels / 32;
  static constexpr int kVector = kCount < 4 ? kCount : 4;
  static_assert(kVector == 2 || kVector == 4, "vectors of 8 or 16 bytes");
  using Vector = std::conditional_t<kVector == 2, float2, float4>;

  float values[kCount];

  // First channel of the lane's vector number i.
  __device__ static int channel(int i) { return (i * 32 + lane_index()) * kVector; }

  // values += factor row, for a row of `channels` floats.
  __device__ void add(float factor, const float *row, int channels) {
#pragma unroll
    for (int i = 0; i < kCount / kVector; ++i) {
      if (channel(i) >= channels) continue;
      const Vector vector = *reinterpret_cast<const Vector *>(row + channel(i));
      const float *parts = reinterpret_cast<const float *>(&vector);
#pragma unroll
      for (int e = 0; e < kVector; ++e) values[i * kVector + e] = fmaf(factor, parts[e], values[i * kVector + e]);
    }
  }

  __device__ void scale(float factor) {
#pragma unroll
    for (int i = 0; i < kCount; ++i) values[i] *= factor;
  }

  __device__ void store(float *row, int channels) const {
#pragma unroll
    for (int i = 0; i < kCount / kVector; ++i) {
      if (channel(i) >= channels) continue;
      Vector vector;
#pragma unroll
      for (int e = 0; e < kVector; ++e) reinterpret_cast<float *>(&vector)[e] = values[i * kVector + e];
      *reinterpret_cast<Vector *>(row + channel(i)) = vector;
    }
  }

  __device__ float sum_of_squares(int channels) const {
    float sum = 0.0f;
#pragma unroll
    for (int i = 0; i < kCount; ++i)
      if (channel(i / kVector) < channels) sum = fmaf(values[i], values[i], sum);
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, distance);
    return sum;
  }
};

// Applies the epilogue (RMSNorm, output scale, gate, gain) to a row of `channels` and stores it.
template <typename Element, int kChannels>
__device__ inline void store_warp_row(const WarpRow<kChannels> &row, int channels, const EpilogueView &epilogue,
                                      const TensorView &output, OutputType type, int batch, int head, int query) {
  using Row = WarpRow<kChannels>;
  const float mean_square = row.sum_of_squares(channels) / static_cast<float>(channels);
  const float factor = epilogue_factor(epilogue, mean_square, batch, head, query);
  void *target = output.row(batch, head, query, type == OutputType::kFloat32 ? 4 : 2);
#pragma unroll
  for (int i = 0; i < Row::kCount / 2; ++i) {
    const int channel = Row::channel(2 * i / Row::kVector) + 2 * i % Row::kVector;
    if (channel >= channels) continue;
    float a = row.values[2 * i] * factor, b = row.values[2 * i + 1] * factor;
    if (epilogue.norm_gain != nullptr) {
      a *= epilogue.norm_gain[channel];
      b *= epilogue.norm_gain[channel + 1];
    }
    if (type == OutputType::kFloat32)
      *reinterpret_cast<float2 *>(static_cast<float *>(target) + channel) = make_float2(a, b);
    else
      *reinterpret_cast<uint32_t *>(static_cast<uint16_t *>(target) + channel) = ptx::cvt_x2<Element>(a, b);
  }
}

}  // namespace sieve
