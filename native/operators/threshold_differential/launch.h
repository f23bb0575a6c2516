// What the launches of every forward path share: inverse norms, and the policy's arguments from the plan.
#pragma once

#include <cuda_runtime_api.h>

#include "operators/threshold_differential/problem.h"
#include "operators/threshold_differential/weights.h"

namespace sieve::threshold_differential {

// Fills the plan's inverse norms. Compiled once, for every architecture, for all paths.
cudaError_t launch_inverse_norms(const ForwardPlan &plan, bool is_bfloat16, cudaStream_t stream);

inline WeightArguments weight_arguments(const ForwardPlan &plan) {
  WeightArguments a{};
  a.beta = plan.beta;
  a.lambda = plan.lambda;
  a.kappa = plan.kappa;
  a.power = plan.power;
  a.power_kind = plan.power == 1.0f   ? Power::kOne
                 : plan.power == 2.0f ? Power::kTwo
                 : plan.power == 3.0f ? Power::kThree
                                      : Power::kGeneral;
  a.head_dim = plan.head_dim;
  a.survivor_tiles = plan.survivor_tiles;
  a.query_rows = plan.query_rows;
  a.key_rows = plan.key_rows;
  for (int view = 0; view < plan.views; ++view) {
    a.query_inverse_norms[view] = plan.query_inverse_norms[view];
    a.key_inverse_norms[view] = plan.key_inverse_norms[view];
    a.survivors[view] = plan.survivors[view];
  }
  return a;
}

}  // namespace sieve::threshold_differential
