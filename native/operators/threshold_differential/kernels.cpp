#include "operators/threshold_differential/problem.h"

namespace sieve::threshold_differential {

#if SIEVE_WITH_CUDA

#define SIEVE_DECLARE(NAME)                                   \
  int NAME##_one_view(const ForwardPlan &plan, void *stream); \
  int NAME##_two_views(const ForwardPlan &plan, void *stream);
SIEVE_DECLARE(forward_sm80_bf16_d64)
SIEVE_DECLARE(forward_sm80_bf16_d128)
SIEVE_DECLARE(forward_sm80_fp16_d64)
SIEVE_DECLARE(forward_sm80_fp16_d128)
#if SIEVE_WITH_SM90
SIEVE_DECLARE(forward_sm90_bf16_d64)
SIEVE_DECLARE(forward_sm90_bf16_d128)
SIEVE_DECLARE(forward_sm90_fp16_d64)
SIEVE_DECLARE(forward_sm90_fp16_d128)
#endif
#undef SIEVE_DECLARE

namespace {
constexpr KernelDescription forward(int32_t path, int32_t dtype, int32_t dim) {
  return {SIEVE_OPERATION_TDA, SIEVE_DIRECTION_FORWARD, path, dtype, dim, dim, path == SIEVE_PATH_HOPPER ? 90 : 80};
}
constexpr int32_t kGeneric = SIEVE_PATH_GENERIC;
[[maybe_unused]] constexpr int32_t kHopper = SIEVE_PATH_HOPPER;
constexpr ForwardKernel kKernels[] = {
    {forward(kGeneric, SIEVE_DTYPE_BFLOAT16, 64), {forward_sm80_bf16_d64_one_view, forward_sm80_bf16_d64_two_views}},
    {forward(kGeneric, SIEVE_DTYPE_BFLOAT16, 128), {forward_sm80_bf16_d128_one_view, forward_sm80_bf16_d128_two_views}},
    {forward(kGeneric, SIEVE_DTYPE_FLOAT16, 64), {forward_sm80_fp16_d64_one_view, forward_sm80_fp16_d64_two_views}},
    {forward(kGeneric, SIEVE_DTYPE_FLOAT16, 128), {forward_sm80_fp16_d128_one_view, forward_sm80_fp16_d128_two_views}},
#if SIEVE_WITH_SM90
    {forward(kHopper, SIEVE_DTYPE_BFLOAT16, 64), {forward_sm90_bf16_d64_one_view, forward_sm90_bf16_d64_two_views}},
    {forward(kHopper, SIEVE_DTYPE_BFLOAT16, 128), {forward_sm90_bf16_d128_one_view, forward_sm90_bf16_d128_two_views}},
    {forward(kHopper, SIEVE_DTYPE_FLOAT16, 64), {forward_sm90_fp16_d64_one_view, forward_sm90_fp16_d64_two_views}},
    {forward(kHopper, SIEVE_DTYPE_FLOAT16, 128), {forward_sm90_fp16_d128_one_view, forward_sm90_fp16_d128_two_views}},
#endif
};
}  // namespace

ForwardKernels forward_kernels() {
  return {kKernels, static_cast<int>(sizeof(kKernels) / sizeof(kKernels[0]))};
}

#else

ForwardKernels forward_kernels() {
  return {nullptr, 0};
}

#endif

}  // namespace sieve::threshold_differential
