// Launch of the backward pass: forward for what it leaves, rows, tiles of keys, tiles of query rows, parameters.
#pragma once

#include "operators/threshold_differential/backward_rows.h"
#include "operators/threshold_differential/gradient.h"
#include "operators/threshold_differential/launch.h"
#include "operators/threshold_differential/tuning.h"

namespace sieve::threshold_differential {

// One of the two sweeps: kOwnsKeys has gradients of keys and values, the other those of queries and sums of rows.
template <class Shape, bool kOwnsKeys>
cudaError_t launch_sweep(const BackwardPlan &plan, cudaStream_t stream) {
  using Policy = Gradient<Shape>;
  const ForwardPlan &forward = plan.forward;
  SparseGradientArguments<Policy> a{};
  a.problem = plan.problem;
  a.head_dim = forward.head_dim;
  a.value_dim = forward.value_dim;
  a.value = forward.value;
  a.output_gradient = plan.problem.epilogue.rms_norm ? plan.upstream : plan.output_gradient;
  a.value_gradient = plan.value_gradient;
  a.value_gradient_type = plan.value_gradient_type;
  a.query_scalars[Policy::kThreshold] = plan.thresholds;
  a.query_scalars[Policy::kUpstream] = plan.upstream_factors;
  for (int view = 0; view < Shape::kViews; ++view) {
    a.query[view] = forward.query[view];
    a.key[view] = forward.key[view];
    a.query_gradient[view] = plan.query_gradient[view];
    a.key_gradient[view] = plan.key_gradient[view];
    a.query_gradient_type[view] = plan.query_gradient_type[view];
    a.key_gradient_type[view] = plan.key_gradient_type[view];
    a.query_scalars[Policy::kQueryNorm + view] = forward.query_inverse_norms[view];
    a.key_scalars[view] = forward.key_inverse_norms[view];
  }
  a.query_rows = forward.query_rows;
  a.key_rows = forward.key_rows;
  // All heads lie side by side, so that the blocks that may have most tiles (the first keys, the last rows, under a
  // causal mask) start first in each.
  a.order = query_order(plan);
  if constexpr (kOwnsKeys) {
    a.order = KeyBlockPlace::order(plan.problem, kSparseGradientTile, 1);
    a.order.width = plan.problem.query_heads * plan.problem.batch;
  }
  const int64_t blocks = kOwnsKeys ? KeyBlockPlace::count(plan.problem, a.order) : query_blocks(plan);
  const WeightArguments weights = weight_arguments(forward);
  a.policy.beta = weights.beta;
  a.policy.lambda = weights.lambda;
  a.policy.kappa = weights.kappa;
  a.policy.power = weights.power;
  a.policy.power_kind = weights.power_kind;
  a.policy.head_dim = weights.head_dim;
  a.policy.upstream_scale = upstream_scale(plan, Policy::kScaled);
  a.policy.survivor_tiles = plan.survivor_tiles;
  if (!plan.problem.epilogue.rms_norm) a.policy.gate_gradient = plan.gate_gradient;
  a.policy.row_sums = plan.row_sums;

  constexpr size_t kSharedMemory = sizeof(SparseGradientSharedMemory<Policy, kOwnsKeys>);
  const auto kernel = sparse_gradient_sm80<Policy, kOwnsKeys>;
  if (const cudaError_t error =
          cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(kSharedMemory));
      error != cudaSuccess)
    return error;
  kernel<<<static_cast<unsigned>(blocks), Shape::kThreads, kSharedMemory, stream>>>(a);
  return cudaGetLastError();
}

template <class KeyShape, class QueryShape>
cudaError_t launch_backward_sm80(const BackwardPlan &plan, cudaStream_t stream) {
  constexpr bool kBfloat16 = !kNarrowExponent<typename KeyShape::Element>;
  cudaError_t error = plan.run_forward != nullptr ? static_cast<cudaError_t>(plan.run_forward(plan.forward, stream))
                                                  : launch_inverse_norms(plan.forward, kBfloat16, stream);
  if (error == cudaSuccess) error = launch_prepare(plan, kBfloat16, stream);
  if (error != cudaSuccess) return error;

  const ProblemView &problem = plan.problem;
  const bool wants_keys = plan.key_gradient[0].data != nullptr || plan.key_gradient[1].data != nullptr ||
                          plan.value_gradient.data != nullptr;
  const bool wants_queries = plan.query_gradient[0].data != nullptr || plan.query_gradient[1].data != nullptr ||
                             plan.row_sums != nullptr ||
                             (plan.gate_gradient.data != nullptr && !problem.epilogue.rms_norm);
  if (wants_keys) error = launch_sweep<KeyShape, true>(plan, stream);
  if (error == cudaSuccess && wants_queries) error = launch_sweep<QueryShape, false>(plan, stream);
  return error == cudaSuccess ? launch_parameters(plan, stream) : error;
}

}  // namespace sieve::threshold_differential
