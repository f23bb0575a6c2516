#include <algorithm>

#include "operators/threshold_differential/inverse_norms.h"
#include "operators/threshold_differential/launch.h"

namespace sieve::threshold_differential {

namespace {

template <typename Element, int kHeadDim>
cudaError_t launch(const ForwardPlan &plan, cudaStream_t stream) {
  InverseNormArguments a{};
  const int tensors = 2 * plan.views;
  a.next_tile = plan.next_tile;
  int64_t longest = 0;
  for (int i = 0; i < tensors; ++i) {
    const bool is_key = i % 2 == 1;
    const int view = i / 2;
    a.tensor[i] = is_key ? plan.key[view] : plan.query[view];
    a.inverse_norms[i] = is_key ? plan.key_inverse_norms[view] : plan.query_inverse_norms[view];
    a.heads[i] = is_key ? plan.problem.query_heads / plan.problem.group : plan.problem.query_heads;
    a.rows[i] = static_cast<int32_t>(is_key ? plan.key_rows : plan.query_rows);
    a.count[i] = static_cast<int64_t>(plan.tensor_batch) * a.heads[i] * a.rows[i];
    longest = std::max(longest, a.count[i]);
  }
  constexpr int kRowsPerBlock = kInverseNormThreads / (kHeadDim / 8);
  const dim3 grid(static_cast<unsigned>((longest + kRowsPerBlock - 1) / kRowsPerBlock), static_cast<unsigned>(tensors));
  inverse_norms<Element, kHeadDim><<<grid, kInverseNormThreads, 0, stream>>>(a);
  return cudaGetLastError();
}

}  // namespace

cudaError_t launch_inverse_norms(const ForwardPlan &plan, bool is_bfloat16, cudaStream_t stream) {
  switch (plan.head_dim) {
    case 32:
      return is_bfloat16 ? launch<__nv_bfloat16, 32>(plan, stream) : launch<__half, 32>(plan, stream);
    case 64:
      return is_bfloat16 ? launch<__nv_bfloat16, 64>(plan, stream) : launch<__half, 64>(plan, stream);
    case 128:
      return is_bfloat16 ? launch<__nv_bfloat16, 128>(plan, stream) : launch<__half, 128>(plan, stream);
    default:
      return cudaErrorInvalidValue;
  }
}

}  // namespace sieve::threshold_differential
