// Softmax attention as a policy of the decode pipeline, and its launches.
//
//   s_j = c query . key_j,   c = scale / ln 2 x row factor (of any sign)
//   m' = max(m, max_j s_j),   w_j = exp2(s_j - m'),   l' = l exp2(m - m') + sum_j w_j
#pragma once

#include <cuda_runtime_api.h>

#include "device/decode_sm80.h"
#include "device/decode_sm90.h"
#include "device/row_factor.h"
#include "operators/softmax/problem.h"
#include "operators/softmax/tuning.h"

namespace sieve::softmax {

struct DecodeWeightArguments {
  float scale_log2;  // scale of the scores / ln 2
};

template <class ShapeType>
struct DecodeWeights {
  using Shape = ShapeType;
  using Arguments = DecodeWeightArguments;
  static constexpr bool kNormalized = true;

  struct State {
    float top[2];
    float total[2];  // of this thread's columns
    float factor[2];
  };

  __device__ static void begin_row(const Arguments &a, const ProblemView &problem, const Sequence &sequence, int head,
                                   int row, float (&scalars)[1]) {
    scalars[0] = a.scale_log2 * row_factor(problem, sequence, head, row);
  }

  __device__ static State begin() {
    return {{-__builtin_huge_valf(), -__builtin_huge_valf()}, {0.0f, 0.0f}, {1.0f, 1.0f}};
  }

  template <int kTiles>
  __device__ static bool weigh(State &state, float (&scores)[1][1][kTiles][4], const float (&row_scalars)[2][1],
                               const PackedMask &mask) {
#pragma unroll
    for (int n = 0; n < kTiles; ++n)
#pragma unroll
      for (int e = 0; e < 4; ++e) scores[0][0][n][e] *= row_scalars[e / 2][0];
    mask.apply(scores);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float top = state.top[half];
#pragma unroll
      for (int n = 0; n < kTiles; ++n)
        top = fmaxf(top, fmaxf(scores[0][0][n][2 * half], scores[0][0][n][2 * half + 1]));
      top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 1));
      top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 2));
      // Before the first visible key the maximum is -infinity; 0 in its place keeps the weights 0 instead of NaN.
      const float shift = top == -__builtin_huge_valf() ? 0.0f : top;
      state.factor[half] = ptx::ex2_approx(state.top[half] - shift);
      state.top[half] = top;
      float sum = 0.0f;
#pragma unroll
      for (int n = 0; n < kTiles; ++n)
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          float &s = scores[0][0][n][2 * half + e];
          s = ptx::ex2_approx(s - shift);
          sum += s;
        }
      state.total[half] = fmaf(state.total[half], state.factor[half], sum);
    }
    return true;
  }

  template <int kTiles>
  __device__ static void rescale(const State &state, float (&output)[1][kTiles][4]) {
    // After the first few chunks a new maximum is rare.
    if (!__any_sync(0xffffffffu, state.factor[0] != 1.0f || state.factor[1] != 1.0f)) return;
#pragma unroll
    for (int n = 0; n < kTiles; ++n)
#pragma unroll
      for (int e = 0; e < 4; ++e) output[0][n][e] *= state.factor[e / 2];
  }

  __device__ static float level(const State &state, int half) {
    return state.top[half];
  }
  __device__ static float total(const State &state, int half) {
    return row_sum(state.total[half]);
  }
};

template <class Policy>
void fill_decode_arguments(DecodeArguments<Policy> &a, const DecodePlan &plan) {
  a.problem = plan.problem;
  a.cache = {plan.page_table, plan.page_table_width, plan.page_size};
  a.query[0] = plan.query;
  a.key[0] = plan.key;
  a.value = plan.value;
  a.result = {plan.output,       plan.output_type, plan.lse,   plan.partial_outputs,
              plan.partial_lses, plan.value_dim,   plan.splits};
  a.head_dim = plan.head_dim;
  a.policy.scale_log2 = plan.scale * 1.44269504f;
}

// Merges the partial results (instantiations/decode_combine_sm80_all.cu: compiled once, for every architecture).
cudaError_t launch_decode_combine(const ProblemView &problem, const DecodeOutput &result, bool is_bfloat16,
                                  cudaStream_t stream);

template <class Shape, class Kernel, class Arguments>
cudaError_t launch_decode(Kernel kernel, const Arguments &a, int threads, size_t shared_memory, cudaStream_t stream) {
  if (const cudaError_t error =
          cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared_memory));
      error != cudaSuccess)
    return error;
  const unsigned key_heads = static_cast<unsigned>(a.problem.query_heads / a.problem.group);
  const unsigned blocks = static_cast<unsigned>(a.problem.batch) * key_heads * static_cast<unsigned>(a.result.splits);
  kernel<<<blocks, static_cast<unsigned>(threads), shared_memory, stream>>>(a);
  if (const cudaError_t error = cudaGetLastError(); error != cudaSuccess) return error;
  if (a.result.splits == 1) return cudaSuccess;
  return launch_decode_combine(a.problem, a.result, !kNarrowExponent<typename Shape::Element>, stream);
}

template <class Shape>
cudaError_t launch_decode_sm80(const DecodePlan &plan, cudaStream_t stream) {
  using Policy = DecodeWeights<Shape>;
  DecodeArguments<Policy> a{};
  fill_decode_arguments(a, plan);
  return launch_decode<Shape>(decode_sm80<Policy>, a, Shape::kWarps * 32, sizeof(DecodeSm80SharedMemory<Shape>),
                              stream);
}

template <class Shape>
cudaError_t launch_decode_sm90(const DecodePlan &plan, cudaStream_t stream) {
  using Policy = DecodeWeights<Shape>;
  constexpr bool kBfloat16 = !kNarrowExponent<typename Shape::Element>;
  DecodeSm90Arguments<Policy> a{};
  fill_decode_arguments(a, plan);
  // The largest box that divides the key block and the page.
  a.box_rows = Shape::kKeyBlock;
  while (plan.page_size % a.box_rows != 0) a.box_rows /= 2;
  const int64_t key_heads = plan.problem.query_heads / plan.problem.group;
  const bool paged = plan.page_table != nullptr;
  TensorMapShape shape{paged ? plan.pages : plan.problem.batch, key_heads, paged ? plan.page_size : plan.problem.keys,
                       plan.head_dim};
  cudaError_t error = encode_tensor_map(&a.key_maps[0], plan.key, shape, a.box_rows, kBfloat16, kCachePromotion);
  shape.channels = plan.value_dim;
  if (error == cudaSuccess)
    error = encode_tensor_map(&a.value_map, plan.value, shape, a.box_rows, kBfloat16, kCachePromotion);
  if (error != cudaSuccess) return error;
  return launch_decode<Shape>(decode_sm90<Policy>, a, (Shape::kWarps + 1) * 32, sizeof(DecodeSm90SharedMemory<Shape>),
                              stream);
}

}  // namespace sieve::softmax

// A compiled shape: one line in a file of instantiations/.
#define SIEVE_SOFTMAX_DECODE(NAME, PATH, ELEMENT, DIM)                           \
  namespace sieve::softmax {                                                     \
  int NAME(const DecodePlan &plan, void *stream) {                               \
    using Shape = DecodeShape<ELEMENT, DIM, decode_tiling_##PATH(DIM)>;          \
    return launch_decode_##PATH<Shape>(plan, static_cast<cudaStream_t>(stream)); \
  }                                                                              \
  }
