// Launch of the Hopper forward that computes both streams side by side: tensor maps, then the pipeline.
#pragma once

#include <algorithm>

#include "device/forward_sm90.h"
#include "operators/differential/problem.h"
#include "operators/differential/streams.h"
#include "operators/differential/tuning.h"

namespace sieve::differential {

template <class Shape>
cudaError_t launch_forward_sm90(const ForwardPlan &plan, cudaStream_t stream) {
  using Policy = StreamWeights<Shape>;
  constexpr bool kBfloat16 = !kNarrowExponent<typename Shape::Element>;
  constexpr float kLog2E = 1.44269504f;
  constexpr bool kFirstVersion = Shape::kKeyStreams == 2;
  ForwardSm90Arguments<Policy> a{};
  const softmax::ForwardPlan &first = plan.stream[0], &second = plan.stream[kFirstVersion ? 1 : 0];
  const int64_t query_heads = first.problem.query_heads, key_heads = query_heads / first.problem.group;
  const int64_t output_heads = plan.subtraction.output_heads(first.problem.query_heads);
  const auto encode = [&](CUtensorMap *map, const TensorView &view, int64_t heads, int64_t rows, int32_t channels,
                          int box_rows) {
    return encode_tensor_map(map, view, {first.tensor_batch, heads, rows, channels}, box_rows, kBfloat16);
  };
  cudaError_t error = cudaSuccess;
  for (int i = 0; i < 2 && error == cudaSuccess; ++i)
    error = encode(&a.query[i], (i == 0 ? first : second).query, query_heads, first.query_rows, first.head_dim,
                   Shape::kRows);
  for (int i = 0; i < Shape::kKeyStreams && error == cudaSuccess; ++i)
    error =
        encode(&a.key[i], (i == 0 ? first : second).key, key_heads, first.key_rows, first.head_dim, Shape::kKeyBlock);
  if (error == cudaSuccess)
    error = encode(&a.value, first.value, key_heads, first.key_rows, first.value_dim, Shape::kKeyBlock);
  if (error == cudaSuccess && plan.output_type == OutputType::kElement)
    error = encode(&a.staged_output, plan.output, output_heads, first.query_rows, first.value_dim, 16);
  if (error != cudaSuccess) return error;

  a.problem = first.problem;
  a.problem.query_heads = static_cast<int32_t>(output_heads);
  a.problem.group = static_cast<int32_t>(output_heads / key_heads);
  a.problem.epilogue = plan.epilogue;
  a.output = plan.output;
  a.output_type = plan.output_type;
  a.value_dim = first.value_dim;
  a.order = tile_order(a.problem, Shape::kRows, (Shape::kKeyStreams * first.head_dim + first.value_dim) * 2,
                       first.multiprocessors);
  a.tiles = a.order.blocks * a.problem.query_heads * a.problem.batch;
  a.next_tile = first.next_tile;
  a.policy = {first.scale * kLog2E,
              plan.subtraction,
              {first.lse, second.lse},
              {first.output, second.output},
              first.output_type};

  error = cudaMemsetAsync(first.next_tile, 0, sizeof *first.next_tile, stream);
  if (error != cudaSuccess) return error;
  const auto kernel = forward_sm90<Policy>;
  constexpr size_t kSharedMemory = sizeof(ForwardSm90SharedMemory<Shape>);
  error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(kSharedMemory));
  if (error != cudaSuccess) return error;
  kernel<<<static_cast<unsigned>(std::min(a.tiles, first.multiprocessors)), Shape::kThreads, kSharedMemory, stream>>>(
      a);
  return cudaGetLastError();
}

}  // namespace sieve::differential

// A compiled shape: one line in a file of instantiations/. KEY_STREAMS: 2 the first version, 1 the second.
#define SIEVE_DIFFERENTIAL_FORWARD(NAME, ELEMENT, HEAD_DIM, VALUE_DIM, KEY_STREAMS)     \
  namespace sieve::differential {                                                       \
  int NAME(const ForwardPlan &plan, void *stream) {                                     \
    return launch_forward_sm90<StreamShape<ELEMENT, HEAD_DIM, VALUE_DIM, KEY_STREAMS>>( \
        plan, static_cast<cudaStream_t>(stream));                                       \
  }                                                                                     \
  }
