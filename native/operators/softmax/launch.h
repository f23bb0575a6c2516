// What the launches of both forward paths share: the policy's arguments from the plan.
#pragma once

#include <cuda_runtime_api.h>

#include "operators/softmax/problem.h"
#include "operators/softmax/weights.h"

namespace sieve::softmax {

inline WeightArguments weight_arguments(const ForwardPlan &plan) {
  constexpr float kLog2E = 1.44269504f;
  return {plan.scale * kLog2E, plan.lse, plan.problem.row_factor.kind != RowFactorKind::kNone};
}

}  // namespace sieve::softmax
