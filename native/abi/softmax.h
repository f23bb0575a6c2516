// What forward, backward and decode of softmax attention check and plan alike, also where they are parts of another
// operator.
#pragma once

#include "abi/call.h"
#include "operators/softmax/problem.h"

namespace sieve::softmax {

// problem.scale, or what stands for it where it is 0. Larger than 0.
float require_scale(const sieve_attention_problem &problem, const Dimensions &dimensions);

// Checks the fields of the problem that belong to this operator (scale, row factor, distance bias) after
// require_problem has checked those that all share, and puts them into the plan.
void plan_scores(const sieve_attention_problem &problem, const Dimensions &dimensions, Plan &plan);

// Tensors, dims and the number of multiprocessors.
void plan_tensors(const sieve_context &context, const sieve_tensor &query, const sieve_tensor &key,
                  const sieve_tensor &value, const Dimensions &dimensions, Plan &plan);

// Output and, where it is wanted, lse of a call that writes them.
void plan_outputs(const sieve_tensor &output, const sieve_tensor &lse, int32_t type, const Dimensions &dimensions,
                  Plan &plan);

// A gradient like the input; absent = not wanted.
void plan_gradient(const NamedTensor &gradient, const sieve_tensor &input, TensorView &view, OutputType &type);

// A gradient of one float a query row; absent = not wanted.
void plan_row_gradient(const NamedTensor &gradient, bool has_input, const char *why, const Dimensions &dimensions,
                       TensorView &view);

// The arrays of a backward pass (problem.h).
void plan_backward_rows(const Kernel<BackwardPlan> &kernel, const Dimensions &dimensions, Workspace &carved,
                        BackwardPlan &plan);

// Keys and values of a decode. With pages the keys of an entry are those of a full page table.
Dimensions require_cache(const NamedTensor &query, const NamedTensor &key, const NamedTensor &value,
                         const int32_t *page_table, int64_t page_table_width, DecodePlan &plan);
bool few_rows(int64_t rows_of_key_head);
void require_few_rows(const sieve_attention_problem &problem, const NamedTensor &query, const Dimensions &dimensions);

// How the keys are divided (`splits` as the caller asks, 0 = chosen), and the partial results.
void plan_splits(const Kernel<DecodePlan> &kernel, int32_t splits, const Dimensions &dimensions, Workspace &carved,
                 DecodePlan &plan);

}  // namespace sieve::softmax
