// What forward, backward and decode of softmax attention check and plan alike.
#pragma once

#include "abi/call.h"
#include "operators/softmax/problem.h"

namespace sieve::softmax {

// Checks the fields of the problem that belong to this operator (scale, row factor, distance bias) after
// require_problem has checked those that all share, and puts them into the plan.
void plan_scores(const sieve_attention_problem &problem, const Dimensions &dimensions, Plan &plan);

// Tensors, dims and the number of multiprocessors.
void plan_tensors(const sieve_context &context, const sieve_tensor &query, const sieve_tensor &key,
                  const sieve_tensor &value, const Dimensions &dimensions, Plan &plan);

// Output and, where it is wanted, lse of a call that writes them.
void plan_outputs(const sieve_tensor &output, const sieve_tensor &lse, int32_t type, const Dimensions &dimensions,
                  Plan &plan);

}  // namespace sieve::softmax
