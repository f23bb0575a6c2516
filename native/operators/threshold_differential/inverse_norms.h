// Inverse L2 norms of query and key rows, one float a row: r = 1 / max(||x||_2, 1e-12), summed in fp32. Runs before the
// kernels that multiply scores with them, and clears the counter from which those take their tiles.
#pragma once

#include <cstdint>

#include "device/element.h"
#include "device/problem.h"
#include "device/ptx/grid_dependency.h"

namespace sieve::threshold_differential {

constexpr float kNormFloor = 1e-12f;
constexpr int kInverseNormThreads = 256;

// Up to four tensors are done by one launch.
struct InverseNormArguments {
  TensorView tensor[4];
  float *inverse_norms[4];  // [batch, heads, rows]
  int32_t heads[4];
  int32_t rows[4];
  int64_t count[4];    // batch * heads * rows
  int32_t *next_tile;  // or nullptr
};

template <typename Element>
__device__ inline float square_sum(uint32_t pair) {
  const float2 values = unpack<Element>(pair);
  return values.x * values.x + values.y * values.y;
}

// Inverse norm of a row of which kLanes neighbouring lanes hold 8 channels each, in all of them. Every kernel sums in
// this order: the same row has the same inverse norm in forward and decode.
template <typename Element, int kLanes>
__device__ inline float inverse_norm(const uint4 &values) {
  static_assert(32 % kLanes == 0, "a row stays within a warp");
  float sum = square_sum<Element>(values.x) + square_sum<Element>(values.y) + square_sum<Element>(values.z) +
              square_sum<Element>(values.w);
#pragma unroll
  for (int step = kLanes / 2; step > 0; step /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, step);
  const float norm = sqrtf(sum);
  return 1.0f / (norm < kNormFloor ? kNormFloor : norm);  // NaN stays NaN
}

// Neighbouring lanes read one row, 16 bytes each; blockIdx.y names the tensor.
template <typename Element, int kHeadDim>
__global__ void __launch_bounds__(kInverseNormThreads) inverse_norms(const __grid_constant__ InverseNormArguments a) {
  constexpr int kLanes = kHeadDim / 8;
  ptx::griddepcontrol_launch_dependents();
  const int tensor = static_cast<int>(blockIdx.y);
  if (blockIdx.x == 0 && tensor == 0 && threadIdx.x == 0 && a.next_tile != nullptr) *a.next_tile = 0;
  const int64_t index = (static_cast<int64_t>(blockIdx.x) * kInverseNormThreads + threadIdx.x) / kLanes;
  const int lane = static_cast<int>(threadIdx.x) % kLanes;
  const bool inside = index < a.count[tensor];
  uint4 values{};
  if (inside) {
    const int64_t row = index % a.rows[tensor], head = index / a.rows[tensor] % a.heads[tensor],
                  batch = index / a.rows[tensor] / a.heads[tensor];
    const TensorView &view = a.tensor[tensor];
    const uint16_t *source = static_cast<const uint16_t *>(view.data) + batch * view.batch_stride +
                             head * view.head_stride + row * view.row_stride + lane * 8;
    values = *reinterpret_cast<const uint4 *>(source);
  }
  const float inverse = inverse_norm<Element, kLanes>(values);
  if (inside && lane == 0) a.inverse_norms[tensor][index] = inverse;
}

}  // namespace sieve::threshold_differential
