// Launch of the generic forward: inverse norms, then the pipeline with this operator's policy.
#pragma once

#include "device/forward_sm80.h"
#include "operators/threshold_differential/launch.h"
#include "operators/threshold_differential/tuning.h"

namespace sieve::threshold_differential {

template <class Shape>
cudaError_t launch_forward_sm80(const ForwardPlan &plan, cudaStream_t stream) {
  using Policy = Weights<Shape>;
  constexpr bool kBfloat16 = !kNarrowExponent<typename Shape::Element>;
  if (const cudaError_t error = launch_inverse_norms(plan, kBfloat16, stream); error != cudaSuccess) return error;

  ForwardArguments<Policy> a{};
  a.problem = plan.problem;
  a.value = plan.value;
  a.output = plan.output;
  a.output_type = plan.output_type;
  a.head_dim = plan.head_dim;
  a.value_dim = plan.value_dim;
  a.order = tile_order(plan.problem, Shape::kRows, (Shape::kViews * plan.head_dim + plan.value_dim) * 2,
                       plan.multiprocessors * Shape::kBlocksPerMultiprocessor);
  a.policy = weight_arguments(plan);
  for (int view = 0; view < Shape::kViews; ++view) {
    a.query[view] = plan.query[view];
    a.key[view] = plan.key[view];
  }
  constexpr size_t kSharedMemory = sizeof(ForwardSharedMemory<Shape>);
  const auto kernel = forward_sm80<Policy>;
  if (const cudaError_t error =
          cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(kSharedMemory));
      error != cudaSuccess)
    return error;
  const int64_t blocks = static_cast<int64_t>(a.order.blocks) * plan.problem.query_heads * plan.problem.batch;
  kernel<<<static_cast<unsigned>(blocks), Shape::kThreads, kSharedMemory, stream>>>(a);
  return cudaGetLastError();
}

}  // namespace sieve::threshold_differential
