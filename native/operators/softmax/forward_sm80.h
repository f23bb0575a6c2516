// Launch of the generic forward: the pipeline with this operator's policy.
#pragma once

#include "device/forward_sm80.h"
#include "operators/softmax/launch.h"
#include "operators/softmax/tuning.h"

namespace sieve::softmax {

template <class Shape>
cudaError_t launch_forward_sm80(const ForwardPlan &plan, cudaStream_t stream) {
  using Policy = Weights<Shape>;
  ForwardArguments<Policy> a{};
  a.problem = plan.problem;
  a.query[0] = plan.query;
  a.key[0] = plan.key;
  a.value = plan.value;
  a.output = plan.output;
  a.output_type = plan.output_type;
  a.head_dim = plan.head_dim;
  a.value_dim = plan.value_dim;
  a.order = tile_order(plan.problem, Shape::kRows, (plan.head_dim + plan.value_dim) * 2,
                       plan.multiprocessors * Shape::kBlocksPerMultiprocessor);
  a.policy = weight_arguments(plan);
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

}  // namespace sieve::softmax
