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

// Applies the epilogue to the row of 16-row tile m, half (rows g and g + 8) and stores it. `row` counts in the tensor.
template <typename Element, int kChannels>
__device__ inline void store_row(const float (&accumulators)[kChannels / 8][4], int half, float unscale,
                                 const EpilogueView &epilogue, const TensorView &output, OutputType type, int batch,
                                 int head, int row, bool inside) {
  float squares = 0.0f;
#pragma unroll
  for (int n = 0; n < kChannels / 8; ++n) {
    const float a = accumulators[n][2 * half] * unscale, b = accumulators[n][2 * half + 1] * unscale;
    squares += a * a + b * b;
  }
  squares = row_sum(squares);  // every lane takes part, also those of rows outside
  if (!inside) return;
  const float factor = epilogue_factor(epilogue, squares * (1.0f / kChannels), batch, head, row);
  void *target = output.row(batch, head, row, type == OutputType::kFloat32 ? 4 : 2);
#pragma unroll
  for (int n = 0; n < kChannels / 8; ++n) {
    const int channel = n * 8 + 2 * (lane_index() & 3);
    float a = accumulators[n][2 * half] * unscale * factor, b = accumulators[n][2 * half + 1] * unscale * factor;
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
