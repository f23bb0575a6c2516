// Launch of the Hopper forward: inverse norms, tensor maps, then the pipeline with this operator's policy.
#pragma once

#include <algorithm>

#include "device/forward_sm90.h"
#include "operators/threshold_differential/launch.h"
#include "operators/threshold_differential/tuning.h"

namespace sieve::threshold_differential {

template <class Shape>
cudaError_t launch_forward_sm90(const ForwardPlan &plan, cudaStream_t stream) {
  using Policy = Weights<Shape>;
  using Element = typename Shape::Element;
  constexpr bool kBfloat16 = !kNarrowExponent<Element>;
  ForwardSm90Arguments<Policy> a{};
  const int64_t key_heads = plan.problem.query_heads / plan.problem.group;
  const TensorMapShape query_shape{plan.tensor_batch, plan.problem.query_heads, plan.query_rows, Shape::kHeadDim};
  const TensorMapShape key_shape{plan.tensor_batch, key_heads, plan.key_rows, Shape::kHeadDim};
  const TensorMapShape value_shape{plan.tensor_batch, key_heads, plan.key_rows, Shape::kValueDim};
  cudaError_t error = encode_tensor_map(&a.value, plan.value, value_shape, Shape::kKeyBlock, kBfloat16);
  for (int view = 0; view < Shape::kViews && error == cudaSuccess; ++view) {
    error = encode_tensor_map(&a.query[view], plan.query[view], query_shape, Shape::kRows, kBfloat16);
    if (error == cudaSuccess)
      error = encode_tensor_map(&a.key[view], plan.key[view], key_shape, Shape::kKeyBlock, kBfloat16);
  }
  if (error != cudaSuccess) return error;

  a.problem = plan.problem;
  a.output = plan.output;
  a.output_type = plan.output_type;
  a.value_dim = Shape::kValueDim;
  a.order = tile_order(plan.problem, Shape::kRows, (Shape::kViews * Shape::kHeadDim + Shape::kValueDim) * 2);
  a.tiles = a.order.query_blocks * plan.problem.query_heads * plan.problem.batch;
  a.next_tile = plan.next_tile;
  a.policy = weight_arguments(plan, Shape::kHeadDim);

  error = launch_inverse_norms(plan, kBfloat16, Shape::kHeadDim, stream);
  if (error == cudaSuccess) error = cudaMemsetAsync(plan.next_tile, 0, sizeof *plan.next_tile, stream);
  if (error != cudaSuccess) return error;
  const auto kernel = forward_sm90<Policy>;
  constexpr size_t kSharedMemory = sizeof(ForwardSm90SharedMemory<Shape>);
  error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(kSharedMemory));
  if (error != cudaSuccess) return error;
  kernel<<<static_cast<unsigned>(std::min(a.tiles, plan.multiprocessors)), Shape::kThreads, kSharedMemory, stream>>>(a);
  return cudaGetLastError();
}

}  // namespace sieve::threshold_differential
