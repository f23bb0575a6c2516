// Launch of the Hopper forward: tensor maps, then the pipeline with this operator's policy.
#pragma once

#include <algorithm>

#include "device/forward_sm90.h"
#include "operators/softmax/launch.h"
#include "operators/softmax/tuning.h"

namespace sieve::softmax {

template <class Shape>
cudaError_t launch_forward_sm90(const ForwardPlan &plan, cudaStream_t stream) {
  using Policy = Weights<Shape>;
  constexpr bool kBfloat16 = !kNarrowExponent<typename Shape::Element>;
  ForwardSm90Arguments<Policy> a{};
  const int64_t key_heads = plan.problem.query_heads / plan.problem.group;
  cudaError_t error = encode_tensor_map(&a.query[0], plan.query,
                                        {plan.tensor_batch, plan.problem.query_heads, plan.query_rows, plan.head_dim},
                                        Shape::kRows, kBfloat16);
  if (error == cudaSuccess)
    error = encode_tensor_map(&a.key[0], plan.key, {plan.tensor_batch, key_heads, plan.key_rows, plan.head_dim},
                              Shape::kKeyBlock, kBfloat16);
  if (error == cudaSuccess)
    error = encode_tensor_map(&a.value, plan.value, {plan.tensor_batch, key_heads, plan.key_rows, plan.value_dim},
                              Shape::kKeyBlock, kBfloat16);
  if (error == cudaSuccess && plan.output_type == OutputType::kElement)
    error = encode_tensor_map(&a.staged_output, plan.output,
                              {plan.tensor_batch, plan.problem.query_heads, plan.query_rows, plan.value_dim}, 16,
                              kBfloat16);
  if (error != cudaSuccess) return error;

  a.problem = plan.problem;
  a.output = plan.output;
  a.output_type = plan.output_type;
  a.value_dim = plan.value_dim;
  a.order = tile_order(plan.problem, Shape::kRows, (plan.head_dim + plan.value_dim) * 2, plan.multiprocessors);
  a.tiles = a.order.blocks * plan.problem.query_heads * plan.problem.batch;
  a.next_tile = plan.next_tile;
  a.policy = weight_arguments(plan);

  error = cudaMemsetAsync(plan.next_tile, 0, sizeof *plan.next_tile, stream);
  if (error != cudaSuccess) return error;
  const auto kernel = forward_sm90<Policy>;
  constexpr size_t kSharedMemory = sizeof(ForwardSm90SharedMemory<Shape>);
  error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(kSharedMemory));
  if (error != cudaSuccess) return error;
  kernel<<<static_cast<unsigned>(std::min(a.tiles, plan.multiprocessors)), Shape::kThreads, kSharedMemory, stream>>>(a);
  return cudaGetLastError();
}

}  // namespace sieve::softmax
