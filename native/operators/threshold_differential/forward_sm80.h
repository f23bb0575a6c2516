// Launch of the generic forward: inverse norms, then the pipeline with this operator's policy.
#pragma once

#include <cuda_runtime_api.h>

#include <algorithm>

#include "operators/threshold_differential/inverse_norms.h"
#include "operators/threshold_differential/problem.h"
#include "operators/threshold_differential/tuning.h"
#include "operators/threshold_differential/weights.h"

namespace sieve::threshold_differential {

template <typename Element, int kHeadDim>
cudaError_t launch_inverse_norms(const ForwardPlan &plan, cudaStream_t stream) {
  InverseNormArguments a{};
  const int tensors = 2 * plan.views;
  int64_t longest = 0;
  for (int i = 0; i < tensors; ++i) {
    const bool is_key = i % 2 == 1;
    const int view = i / 2;
    a.tensor[i] = is_key ? plan.key[view] : plan.query[view];
    a.inverse_norms[i] = is_key ? plan.key_inverse_norms[view] : plan.query_inverse_norms[view];
    a.heads[i] = is_key ? plan.problem.query_heads / plan.problem.group : plan.problem.query_heads;
    a.rows[i] = static_cast<int32_t>(is_key ? plan.key_rows : plan.query_rows);
    a.count[i] = static_cast<int64_t>(plan.tensor_batch) * a.heads[i] * a.rows[i];
    longest = std::max(longest, a.count[i]);
  }
  constexpr int kRowsPerBlock = kInverseNormThreads / (kHeadDim / 8);
  const dim3 grid(static_cast<unsigned>((longest + kRowsPerBlock - 1) / kRowsPerBlock), static_cast<unsigned>(tensors));
  inverse_norms<Element, kHeadDim><<<grid, kInverseNormThreads, 0, stream>>>(a);
  return cudaGetLastError();
}

template <class Shape>
cudaError_t launch_forward_sm80(const ForwardPlan &plan, cudaStream_t stream) {
  using Policy = Weights<Shape>;
  if (const cudaError_t error = launch_inverse_norms<typename Shape::Element, Shape::kHeadDim>(plan, stream);
      error != cudaSuccess)
    return error;

  ForwardArguments<Policy> a{};
  a.problem = plan.problem;
  a.value = plan.value;
  a.output = plan.output;
  a.output_type = plan.output_type;
  a.query_blocks = (plan.problem.queries + Shape::kRows - 1) / Shape::kRows;
  a.policy.beta = plan.beta;
  a.policy.lambda = plan.lambda;
  a.policy.kappa = plan.kappa;
  a.policy.power = plan.power;
  a.policy.power_kind = plan.power == 1.0f   ? Power::kOne
                        : plan.power == 2.0f ? Power::kTwo
                        : plan.power == 3.0f ? Power::kThree
                                             : Power::kGeneral;
  a.policy.head_dim = Shape::kHeadDim;
  a.policy.query_rows = plan.query_rows;
  a.policy.key_rows = plan.key_rows;
  for (int view = 0; view < Shape::kViews; ++view) {
    a.query[view] = plan.query[view];
    a.key[view] = plan.key[view];
    a.policy.query_inverse_norms[view] = plan.query_inverse_norms[view];
    a.policy.key_inverse_norms[view] = plan.key_inverse_norms[view];
    a.policy.survivors[view] = plan.survivors[view];
  }
  constexpr size_t kSharedMemory = sizeof(ForwardSharedMemory<Shape>);
  const auto kernel = forward_sm80<Policy>;
  if (const cudaError_t error =
          cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(kSharedMemory));
      error != cudaSuccess)
    return error;
  const int64_t blocks = static_cast<int64_t>(a.query_blocks) * plan.problem.query_heads * plan.problem.batch;
  kernel<<<static_cast<unsigned>(blocks), Shape::kThreads, kSharedMemory, stream>>>(a);
  return cudaGetLastError();
}

}  // namespace sieve::threshold_differential
