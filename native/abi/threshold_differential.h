// What the forward and backward entry points of threshold differential attention check and plan alike.
#pragma once

#include "abi/call.h"
#include "operators/threshold_differential/problem.h"

namespace sieve::threshold_differential {

struct Inputs {
  const sieve_tensor &query1, &key1, &query2, &key2, &value;
};

// Checks the input tensors and puts them into the plan.
Dimensions require_inputs(const Inputs &inputs, ForwardPlan &plan);

// Fields of the problem that have no meaning here.
void require_no_foreign_fields(const sieve_attention_problem &problem);

// Sizes of a survivor bitmap: rows of words of one head, and words of one of them.
int64_t survivor_tile_rows(const sieve_attention_problem &problem, const Dimensions &dimensions);
int64_t survivor_words(const Dimensions &dimensions);
SurvivorTiles require_survivor_tiles(const sieve_tensor &tiles, const sieve_attention_problem &problem,
                                     const Dimensions &dimensions);

// Checks beta, lambda, kappa and power and puts them into the plan; needs its inputs.
void require_parameters(const sieve_scalar &beta, const sieve_scalar &lambda, float kappa, float power,
                        ForwardPlan &plan);

// The launch of a kernel for the views of the plan, behind a sieve_tda_screen where it has one, and the workspace that
// it needs.
ForwardLaunch plan_launch(const ForwardKernel &kernel, int32_t screen, const sieve_context &context,
                          const Dimensions &dimensions, Workspace &carved, ForwardPlan &plan);

}  // namespace sieve::threshold_differential
