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
constexpr int kNormedRows = 64;  // rows of one head that a thread block takes

// Up to four tensors are done by one launch.
struct InverseNormArguments {
  TensorView tensor[4];
  float *inverse_norms[4];  // [batch, heads, rows]
  int32_t heads[4];
  int32_t rows[4];
  int32_t batch;
  int32_t channels;
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

// The rows of this thread block (blockIdx.y names the tensor, blockIdx.x counts 64 rows of one head after another), of
// which a thread has one a pass, 8 channels of it.
template <int kHeadDim>
struct NormedRows {
  static constexpr int kLanes = kHeadDim / 8;
  static constexpr int kRowsOfPass = kInverseNormThreads / kLanes, kPasses = kNormedRows / kRowsOfPass;

  int tensor;
  int64_t head;  // of all batch entries
  int group;     // of 64 rows
  uint4 values[kPasses];  // zeros outside

  __device__ int lane() const { return static_cast<int>(threadIdx.x) % kLanes; }
  __device__ int row(int pass) const {
    return group * kNormedRows + pass * kRowsOfPass + static_cast<int>(threadIdx.x) / kLanes;
  }
  __device__ bool inside(const InverseNormArguments &a, int pass) const { return row(pass) < a.rows[tensor]; }
  __device__ int64_t index(const InverseNormArguments &a, int pass) const { return head * a.rows[tensor] + row(pass); }

  // False where the tensor has no such rows.
  __device__ bool load(const InverseNormArguments &a) {
    tensor = static_cast<int>(blockIdx.y);
    const int groups = (a.rows[tensor] + kNormedRows - 1) / kNormedRows, block = static_cast<int>(blockIdx.x);
    head = block / groups;
    group = block % groups;
    const int batch = static_cast<int>(head) / a.heads[tensor];
    if (batch >= a.batch) return false;
    const TensorView &view = a.tensor[tensor];
    const uint16_t *source = static_cast<const uint16_t *>(view.data) + batch * view.batch_stride +
                             static_cast<int>(head) % a.heads[tensor] * view.head_stride + lane() * 8;
#pragma unroll
    for (int pass = 0; pass < kPasses; ++pass) {
      values[pass] = uint4{};
      if (inside(a, pass) && lane() * 8 < a.channels)
        values[pass] = *reinterpret_cast<const uint4 *>(source + row(pass) * view.row_stride);
    }
    return true;
  }
};

template <typename Element, int kHeadDim>
__global__ void __launch_bounds__(kInverseNormThreads) inverse_norms(const __grid_constant__ InverseNormArguments a) {
  ptx::griddepcontrol_launch_dependents();
  NormedRows<kHeadDim> rows;
  if (blockIdx.x == 0 && blockIdx.y == 0 && threadIdx.x == 0 && a.next_tile != nullptr) *a.next_tile = 0;
  if (!rows.load(a)) return;
#pragma unroll
  for (int pass = 0; pass < rows.kPasses; ++pass) {
    const float inverse = inverse_norm<Element, rows.kLanes>(rows.values[pass]);
    if (rows.inside(a, pass) && rows.lane() == 0) a.inverse_norms[rows.tensor][rows.index(a, pass)] = inverse;
  }
}

}  // namespace sieve::threshold_differential
