// The row kernels of the backward pass, shared by its pipelines.
//
//   prepare   output, output_gradient, lse, gate -> shifts, deltas, factors, gate_gradient;
//             clears sums and turns                                             (prepare.h)
//   finish    query_sums -> query_gradient, gradients of the row factors        (device/query_gradient.h)
#pragma once

#include <cuda_runtime_api.h>

#include "operators/softmax/problem.h"

namespace sieve::softmax {

// compiled_head_dim: of the kernel that fills query_sums.
cudaError_t launch_prepare(const BackwardPlan &plan, bool is_bfloat16, int compiled_head_dim, cudaStream_t stream);
cudaError_t launch_finish(const BackwardPlan &plan, bool is_bfloat16, int compiled_head_dim, cudaStream_t stream);

}  // namespace sieve::softmax
