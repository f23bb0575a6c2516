// What the launches of every forward path share: inverse norms, and the policy's arguments from the plan.
#pragma once

#include <cuda_runtime_api.h>

#include <algorithm>

#include "operators/threshold_differential/inverse_norms.h"
#include "operators/threshold_differential/problem.h"
#include "operators/threshold_differential/weights.h"

namespace sieve::threshold_differential {

// Fills the plan's inverse norms. Compiled once, for every architecture, for all paths.
cudaError_t launch_inverse_norms(const ForwardPlan &plan, bool is_bfloat16, cudaStream_t stream);
// The same and the plan's images, for the Hopper path.
cudaError_t launch_image_rows(const ForwardPlan &plan, bool is_bfloat16, cudaStream_t stream);

// Tensors 2 view are queries, 2 view + 1 keys.
inline InverseNormArguments inverse_norm_arguments(const ForwardPlan &plan) {
  InverseNormArguments a{};
  a.next_tile = plan.next_tile;
  a.batch = plan.tensor_batch;
  a.channels = plan.head_dim;
  for (int i = 0; i < 2 * plan.views; ++i) {
    const bool is_key = i % 2 == 1;
    const int view = i / 2;
    a.tensor[i] = is_key ? plan.key[view] : plan.query[view];
    a.inverse_norms[i] = is_key ? plan.key_inverse_norms[view] : plan.query_inverse_norms[view];
    a.heads[i] = is_key ? plan.problem.query_heads / plan.problem.group : plan.problem.query_heads;
    a.rows[i] = static_cast<int32_t>(is_key ? plan.key_rows : plan.query_rows);
  }
  return a;
}

inline dim3 row_grid(const ForwardPlan &plan, const InverseNormArguments &a) {
  const auto blocks = [&](int tensor) {
    return static_cast<int64_t>(a.batch) * a.heads[tensor] * ((a.rows[tensor] + kNormedRows - 1) / kNormedRows);
  };
  return dim3(static_cast<unsigned>(std::max(blocks(0), blocks(1))), static_cast<unsigned>(2 * plan.views));
}

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
