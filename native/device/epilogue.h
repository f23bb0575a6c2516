// The end of every operator: RMSNorm with gain, output scale, gate, conversion, store; in this order.
#pragma once

#include "device/problem.h"
#include "device/ptx/math.h"
#include "device/sequence.h"
#include "device/warp_product.h"

namespace sieve {

// Factor of a whole output row, from its mean square and its gate.
__device__ inline float epilogue_factor(const EpilogueView &epilogue, float mean_square, int batch, int head, int row) {
  float factor = epilogue.output_scale;
  if (epilogue.rms_norm) {
    // A row of zeros stays zero also where norm_eps is 0.
    const float power = mean_square + epilogue.norm_eps;
    factor *= power > 0.0f ? 1.0f / sqrtf(power) : (power == 0.0f ? 0.0f : power);
  }
  if (epilogue.gate != nullptr) {
    const float logit = epilogue.gate[batch * epilogue.gate_batch_stride + head * epilogue.gate_head_stride +
                                      row * epilogue.gate_row_stride];
    factor *= 1.0f / (1.0f + expf(-logit));
  }
  return factor;
}

// Afterwards lane t of a quad holds word t of each of its lanes, in their order: the row goes out in pieces of 16 bytes
// instead of 4.
__device__ inline void transpose_quad(uint32_t (&words)[4]) {
  const int lane = lane_index();
#pragma unroll
  for (int step = 1; step < 4; step *= 2) {
    const bool upper = (lane & step) != 0;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if ((i & step) != 0) continue;
      const uint32_t received = __shfl_xor_sync(0xffffffffu, upper ? words[i] : words[i + step], step);
      (upper ? words[i] : words[i + step]) = received;
    }
  }
}

// What the accumulators of a row are multiplied by, the gain apart. The accumulators behind `channels` <= kChannels are
// 0; `row` counts in the tensor. Every lane takes part, also those of rows outside.
template <int kChannels>
__device__ inline float output_factor(const float (&accumulators)[kChannels / 8][4], int half, float unscale,
                                      const EpilogueView &epilogue, int channels, int batch, int head, int row,
                                      bool inside) {
  if (!epilogue.rms_norm && epilogue.gate == nullptr && epilogue.output_scale == 1.0f) return unscale;
  float squares = 0.0f;
#pragma unroll
  for (int n = 0; n < kChannels / 8; ++n) {
    const float a = accumulators[n][2 * half] * unscale, b = accumulators[n][2 * half + 1] * unscale;
    squares += a * a + b * b;
  }
  squares = row_sum(squares);
  if (!inside) return unscale;
  return unscale * epilogue_factor(epilogue, squares / static_cast<float>(channels), batch, head, row);
}

// Two neighbouring output channels.
__device__ inline float2 output_pair(float a, float b, float factor, const float *gain, int channel, int channels) {
  float2 pair = make_float2(a * factor, b * factor);
  if (gain != nullptr && channel < channels) {
    pair.x *= gain[channel];
    pair.y *= gain[channel + 1];
  }
  return pair;
}

// Stores half (rows g and g + 8) of a 16-row tile, times a factor.
template <typename Element, int kChannels>
__device__ inline void store_scaled_row(const float (&accumulators)[kChannels / 8][4], int half, float factor,
                                        const EpilogueView &epilogue, const TensorView &output, OutputType type,
                                        int channels, int batch, int head, int row, bool inside) {
  char *target = static_cast<char *>(output.row(batch, head, row, type == OutputType::kFloat32 ? 4 : 2));
  const int lane = lane_index() & 3;
  static_assert(kChannels % 32 == 0, "a quad stores 32 channels at once");
#pragma unroll
  for (int group = 0; group < kChannels / 32; ++group) {
    uint32_t words[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int n = 4 * group + i, channel = n * 8 + 2 * lane;
      const float2 pair = output_pair(accumulators[n][2 * half], accumulators[n][2 * half + 1], factor,
                                      epilogue.norm_gain, channel, channels);
      if (type == OutputType::kFloat32) {
        if (inside && channel < channels) *reinterpret_cast<float2 *>(target + channel * 4) = pair;
      } else {
        words[i] = ptx::cvt_x2<Element>(pair.x, pair.y);
      }
    }
    if (type == OutputType::kFloat32) continue;
    transpose_quad(words);
    const int channel = (4 * group + lane) * 8;
    if (inside && channel < channels)
      *reinterpret_cast<uint4 *>(target + channel * 2) = make_uint4(words[0], words[1], words[2], words[3]);
  }
}

// Applies the epilogue to half of a 16-row tile and stores it.
template <typename Element, int kChannels>
__device__ inline void store_row(const float (&accumulators)[kChannels / 8][4], int half, float unscale,
                                 const EpilogueView &epilogue, const TensorView &output, OutputType type, int channels,
                                 int batch, int head, int row, bool inside) {
  if (output.data == nullptr) return;  // a forward run for its bitmap alone
  const float factor =
      output_factor<kChannels>(accumulators, half, unscale, epilogue, channels, batch, head, row, inside);
  store_scaled_row<Element, kChannels>(accumulators, half, factor, epilogue, output, type, channels, batch, head, row,
                                       inside);
}

}  // namespace sieve
