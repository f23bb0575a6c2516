// The end of a decode: where its results go, and the merge of partial results of the splits.
//
//   a thread block a row:   partial lses of all splits -> weights 2^(lse - LSE)
//     each warp: every kCombineWarps-th split, weighted sum
//     warps meet in shared memory -> the first warp: epilogue, output, LSE
//
// The kernel is launched for overlap with the one that writes the partial results, and waits for it at its first line.
#pragma once

#include "device/problem.h"
#include "device/ptx/grid_dependency.h"
#include "device/warp_row.h"

namespace sieve {

// Partial results are arrays [splits][batch][query heads][queries] (x value_dim).
struct DecodeOutput {
  TensorView output;
  OutputType output_type = OutputType::kElement;
  TensorView lse;  // float; data = nullptr: not wanted
  float *partial_outputs = nullptr;
  float *partial_lses = nullptr;  // base 2
  int32_t value_dim = 0;
  int32_t splits = 1;
};

__device__ inline int64_t partial_row(const ProblemView &problem, int split, int batch, int head, int query) {
  const int64_t entry = static_cast<int64_t>(split) * problem.batch + batch;
  return (entry * problem.query_heads + head) * problem.queries + query;
}

// Epilogue, output and log-sum-exp of a finished row; `lse` in base 2.
template <typename Element, int kChannels>
__device__ inline void finish_row(const WarpRow<kChannels> &row, float lse, const ProblemView &problem,
                                  const DecodeOutput &result, int batch, int head, int query) {
  store_warp_row<Element>(row, result.value_dim, problem.epilogue, result.output, result.output_type, batch, head,
                          query);
  constexpr float kLn2 = 0.693147181f;
  if (result.lse.data != nullptr && lane_index() == 0)
    *static_cast<float *>(result.lse.row(batch, head, query, 4)) = lse * kLn2;
}

constexpr int kCombineWarps = 8;

// Result of `combine` over the values of all threads, in every thread. `parts` is used again by the next call.
template <class Combine>
__device__ inline float block_reduce(float value, float (&parts)[kCombineWarps], Combine combine) {
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2)
    value = combine(value, __shfl_xor_sync(0xffffffffu, value, distance));
  __syncthreads();
  if (lane_index() == 0) parts[threadIdx.x / 32] = value;
  __syncthreads();
  value = parts[0];
#pragma unroll
  for (int warp = 1; warp < kCombineWarps; ++warp) value = combine(value, parts[warp]);
  return value;
}

// Dynamic shared memory: one float a split, their weights.
template <typename Element, int kChannels, bool kNormalized>
__global__ void __launch_bounds__(kCombineWarps * 32)
    decode_combine(const __grid_constant__ ProblemView problem, const __grid_constant__ DecodeOutput result) {
  __shared__ __align__(16) float parts[kCombineWarps][kChannels];
  __shared__ float reduced[kCombineWarps];
  extern __shared__ float weights[];
  const int place = static_cast<int>(blockIdx.x), thread = static_cast<int>(threadIdx.x);
  const int warp = __shfl_sync(0xffffffffu, thread / 32, 0);
  const int query = place % problem.queries, head = place / problem.queries % problem.query_heads;
  const int batch = place / problem.queries / problem.query_heads;
  const int64_t first = partial_row(problem, 0, batch, head, query);
  const int64_t step = partial_row(problem, 1, 0, 0, 0);
  ptx::griddepcontrol_wait();

  // Without a normalisation every partial result counts as it is.
  float lse = 0.0f, scale = 1.0f;
  if constexpr (kNormalized) {
    float top = -__builtin_huge_valf();
    for (int split = thread; split < result.splits; split += kCombineWarps * 32) {
      weights[split] = result.partial_lses[first + split * step];
      top = fmaxf(top, weights[split]);  // passes over NaN; the sum does not
    }
    top = block_reduce(top, reduced, [](float a, float b) { return fmaxf(a, b); });
    const float shift = top == -__builtin_huge_valf() ? 0.0f : top;
    float total = 0.0f;
    for (int split = thread; split < result.splits; split += kCombineWarps * 32) {
      weights[split] = ptx::ex2_approx(weights[split] - shift);
      total += weights[split];
    }
    total = block_reduce(total, reduced, [](float a, float b) { return a + b; });  // also publishes the weights
    lse = total == 0.0f ? -__builtin_huge_valf() : top + log2f(total);
    scale = total == 0.0f ? 0.0f : 1.0f / total;
  }

  WarpRow<kChannels> sum{};
  const float *row = result.partial_outputs + first * result.value_dim;
#pragma unroll 8
  for (int split = warp; split < result.splits; split += kCombineWarps)
    sum.add(kNormalized ? weights[split] : 1.0f, row + split * step * result.value_dim, result.value_dim);
  sum.store(parts[warp], kChannels);
  __syncthreads();
  if (warp != 0) return;
#pragma unroll
  for (int other = 1; other < kCombineWarps; ++other) sum.add(1.0f, parts[other], kChannels);
  if constexpr (kNormalized) sum.scale(scale);
  finish_row<Element>(sum, lse, problem, result, batch, head, query);
}

}  // namespace sieve
