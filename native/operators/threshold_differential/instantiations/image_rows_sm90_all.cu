#include "operators/threshold_differential/image_rows.h"
#include "operators/threshold_differential/launch.h"

namespace sieve::threshold_differential {

namespace {

template <typename Element, int kHeadDim>
cudaError_t launch(const ForwardPlan &plan, cudaStream_t stream) {
  ImageRowArguments a{};
  a.rows = inverse_norm_arguments(plan);
  for (int view = 0; view < plan.views; ++view) {
    a.images[2 * view] = plan.query_images[view];
    a.images[2 * view + 1] = plan.key_images[view];
  }
  image_rows<Element, kHeadDim><<<row_grid(plan, a.rows), kInverseNormThreads, 0, stream>>>(a);
  return cudaGetLastError();
}

}  // namespace

cudaError_t launch_image_rows(const ForwardPlan &plan, bool is_bfloat16, cudaStream_t stream) {
  if (image_dim(plan.head_dim) == 64)
    return is_bfloat16 ? launch<__nv_bfloat16, 64>(plan, stream) : launch<__half, 64>(plan, stream);
  return is_bfloat16 ? launch<__nv_bfloat16, 128>(plan, stream) : launch<__half, 128>(plan, stream);
}

}  // namespace sieve::threshold_differential
