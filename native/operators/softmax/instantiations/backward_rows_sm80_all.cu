#include "operators/softmax/backward_rows.h"
#include "operators/softmax/prepare.h"

namespace sieve::softmax {

namespace {

unsigned block_count(const ProblemView &problem, int32_t tiles) {
  return static_cast<unsigned>(static_cast<int64_t>(tiles) * problem.query_heads * problem.batch);
}

int32_t tile_count(const ProblemView &problem) {
  return (problem.queries + PaddedRows::kTile - 1) / PaddedRows::kTile;
}

template <typename Element, int kLanes>
cudaError_t launch_prepare_kernel(const PrepareArguments &a, cudaStream_t stream) {
  prepare<Element, kLanes><<<block_count(a.problem, a.tiles), kPrepareThreads, 0, stream>>>(a);
  return cudaGetLastError();
}

template <typename Element>
cudaError_t launch_prepare_rows(const PrepareArguments &a, cudaStream_t stream) {
  return a.value_dim <= 64 ? launch_prepare_kernel<Element, 8>(a, stream)
                           : launch_prepare_kernel<Element, 16>(a, stream);
}

template <typename Element>
cudaError_t launch_query_gradient(const QueryGradientArguments &a, int compiled_head_dim, cudaStream_t stream) {
  const unsigned blocks = block_count(a.problem, a.tiles);
  switch (compiled_head_dim) {
    case 64:
      query_gradient<Element, 64><<<blocks, kQueryGradientThreads, 0, stream>>>(a);
      break;
    case 128:
      query_gradient<Element, 128><<<blocks, kQueryGradientThreads, 0, stream>>>(a);
      break;
    default:
      return cudaErrorInvalidValue;
  }
  return cudaGetLastError();
}

}  // namespace

cudaError_t launch_prepare(const BackwardPlan &plan, bool is_bfloat16, int compiled_head_dim, cudaStream_t stream) {
  PrepareArguments a{};
  a.problem = plan.problem;
  a.tiles = tile_count(plan.problem);
  a.value_dim = plan.value_dim;
  a.sums_dim = compiled_head_dim;
  a.padded_rows = plan.padded_rows;
  a.output = plan.output;
  a.output_type = plan.output_type;
  a.output_gradient = plan.output_gradient;
  a.lse = plan.lse;
  a.gate_gradient = plan.gate_gradient;
  a.shifts = plan.shifts;
  a.deltas = plan.deltas;
  a.factors = plan.factors;
  a.query_sums = plan.query_sums;
  a.turns = plan.bitwise ? plan.turns : nullptr;
  return is_bfloat16 ? launch_prepare_rows<__nv_bfloat16>(a, stream) : launch_prepare_rows<__half>(a, stream);
}

cudaError_t launch_finish(const BackwardPlan &plan, bool is_bfloat16, int compiled_head_dim, cudaStream_t stream) {
  const bool wants_parameters = plan.row_first_gradient != nullptr || plan.row_second_gradient != nullptr;
  if (plan.query_sums == nullptr) return cudaSuccess;
  QueryGradientArguments a{};
  a.problem = plan.problem;
  a.tiles = tile_count(plan.problem);
  a.head_dim = plan.head_dim;
  a.padded_rows = plan.padded_rows;
  a.query_sums = plan.query_sums;
  a.factors = plan.factors;
  a.scale = plan.scale * plan.problem.epilogue.output_scale;
  a.query = plan.query;
  a.query_gradient = plan.query_gradient;
  a.query_gradient_type = plan.query_gradient_type;
  a.row_factor_gradient = plan.row_factor_gradient;
  a.factor_gradients = wants_parameters ? plan.deltas : nullptr;  // read by nobody any more
  const cudaError_t error = is_bfloat16 ? launch_query_gradient<__nv_bfloat16>(a, compiled_head_dim, stream)
                                        : launch_query_gradient<__half>(a, compiled_head_dim, stream);
  if (error != cudaSuccess || !wants_parameters) return error;
  ParameterGradientArguments sums{};
  sums.problem = plan.problem;
  sums.padded_rows = plan.padded_rows;
  sums.factor_gradients = plan.deltas;
  sums.first_gradient = plan.row_first_gradient;
  sums.second_gradient = plan.row_second_gradient;
  parameter_gradients<<<static_cast<unsigned>(plan.problem.query_heads), kParameterGradientThreads, 0, stream>>>(sums);
  return cudaGetLastError();
}

}  // namespace sieve::softmax
