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
#undef SIEVE_DECLARE

namespace {
constexpr KernelDescription generic(int32_t dtype, int32_t dim) {
  return {SIEVE_OPERATION_TDA, SIEVE_DIRECTION_FORWARD, SIEVE_PATH_GENERIC, dtype, dim, dim, 80};
}
constexpr ForwardKernel kKernels[] = {
    {generic(SIEVE_DTYPE_BFLOAT16, 64), {forward_sm80_bf16_d64_one_view, forward_sm80_bf16_d64_two_views}},
    {generic(SIEVE_DTYPE_BFLOAT16, 128), {forward_sm80_bf16_d128_one_view, forward_sm80_bf16_d128_two_views}},
    {generic(SIEVE_DTYPE_FLOAT16, 64), {forward_sm80_fp16_d64_one_view, forward_sm80_fp16_d64_two_views}},
    {generic(SIEVE_DTYPE_FLOAT16, 128), {forward_sm80_fp16_d128_one_view, forward_sm80_fp16_d128_two_views}},
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
