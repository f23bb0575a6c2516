#include "operators/threshold_differential/launch.h"

namespace sieve::threshold_differential {

namespace {

template <typename Element, int kHeadDim>
cudaError_t launch(const ForwardPlan &plan, cudaStream_t stream) {
  const InverseNormArguments a = inverse_norm_arguments(plan);
  inverse_norms<Element, kHeadDim><<<row_grid(plan, a), kInverseNormThreads, 0, stream>>>(a);
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
