// What the backward pass does with query rows alone, before and after its sweeps over pairs.
//
//   prepare      thresholds; factors f_i of the upstream gradient (gradient.h), which without a norm is dy itself. With
//                one, from the sums x of forward, r = (mean x^2 + eps)^(-1/2), x' = x r, h = gain dy:
//                  upstream = h - x' (x' . h) / value_dim      f = output_scale sigmoid(gate) r
//                  gradient of the gain  = sum over rows of output_scale sigmoid(gate) dy x'
//                  gradient of the gate  = (1 - sigmoid(gate)) f' (x' . h), f' = f / r
//                without, r = 1.
//   parameters   sums of blocks of rows -> gradients of beta, kappa, lambda, a head each, and of the gain, in one order
//
// Memory-bound: with a norm 6 bytes a value channel are read and 2 written, without one nothing but floats of rows.
#pragma once

#include <cuda_runtime_api.h>

#include <cmath>

#include "device/sequence.h"
#include "operators/threshold_differential/backward_problem.h"

namespace sieve::threshold_differential {

// Blocks of 64 query rows, those of all heads and sequences side by side.
inline HeadGroups query_order(const BackwardPlan &plan) {
  return {(plan.problem.queries + kSurvivorTile - 1) / kSurvivorTile, plan.problem.query_heads * plan.problem.batch};
}
inline int64_t query_blocks(const BackwardPlan &plan) {
  const HeadGroups order = query_order(plan);
  return static_cast<int64_t>(order.blocks) * order.width;
}

// A power of two that bounds the factors f_i of fp16 (a norm with an eps near 0 does not bound them: 2^10 then).
inline float upstream_scale(const BackwardPlan &plan, bool narrow_exponent) {
  const EpilogueView &epilogue = plan.problem.epilogue;
  if (!narrow_exponent) return 1.0f;
  float bound = std::fabs(epilogue.output_scale);
  if (epilogue.rms_norm) bound *= epilogue.norm_eps > 1e-6f ? 1.0f / std::sqrt(epilogue.norm_eps) : 1024.0f;
  return bound > 0.0f ? std::exp2(std::ceil(std::log2(bound))) : 1.0f;
}

cudaError_t launch_prepare(const BackwardPlan &plan, bool is_bfloat16, cudaStream_t stream);
cudaError_t launch_parameters(const BackwardPlan &plan, cudaStream_t stream);

}  // namespace sieve::threshold_differential
