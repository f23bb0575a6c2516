// The row kernels around the streams of a composed kernel (rows.h); launches return a cudaError_t. `dtype` is that of
// the queries.
#pragma once

#include "operators/differential/problem.h"

namespace sieve::differential {

// Outputs of the streams -> output.
int launch_combine(const ForwardPlan &plan, int32_t dtype, void *stream);
int launch_combine(const DecodePlan &plan, int32_t dtype, void *stream);

// Queries of the streams -> those of the joined attention.
int launch_widen(const DecodePlan &plan, void *stream);

// output_gradient -> gradients of the streams' outputs, of gate, logits, lambda and gain.
int launch_prepare(const BackwardPlan &plan, int32_t dtype, void *stream);

// Value gradients of two streams -> value_gradient.
int launch_value_sum(const BackwardPlan &plan, int32_t dtype, void *stream);

}  // namespace sieve::differential
