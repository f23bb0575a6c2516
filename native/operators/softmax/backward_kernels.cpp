#include "operators/softmax/kernel_list.h"

namespace sieve::softmax {

#if SIEVE_WITH_CUDA

#define SIEVE_DECLARE(NAME) int NAME(const BackwardPlan &plan, void *stream);
SIEVE_DECLARE(backward_sm80_bf16_d64)
SIEVE_DECLARE(backward_sm80_bf16_d128)
SIEVE_DECLARE(backward_sm80_fp16_d64)
SIEVE_DECLARE(backward_sm80_fp16_d128)
#if SIEVE_WITH_SM90
SIEVE_DECLARE(backward_sm90_bf16_d64)
SIEVE_DECLARE(backward_sm90_bf16_d128)
SIEVE_DECLARE(backward_sm90_bf16_d64_v128)
SIEVE_DECLARE(backward_sm90_fp16_d64)
SIEVE_DECLARE(backward_sm90_fp16_d128)
SIEVE_DECLARE(backward_sm90_fp16_d64_v128)
#endif
#undef SIEVE_DECLARE

namespace {
constexpr CompiledShape<BackwardPlan> kShapes[] = {
    {SIEVE_PATH_GENERIC, SIEVE_DTYPE_BFLOAT16, 64, 64, backward_sm80_bf16_d64},
    {SIEVE_PATH_GENERIC, SIEVE_DTYPE_BFLOAT16, 128, 128, backward_sm80_bf16_d128},
    {SIEVE_PATH_GENERIC, SIEVE_DTYPE_FLOAT16, 64, 64, backward_sm80_fp16_d64},
    {SIEVE_PATH_GENERIC, SIEVE_DTYPE_FLOAT16, 128, 128, backward_sm80_fp16_d128},
#if SIEVE_WITH_SM90
    {SIEVE_PATH_HOPPER, SIEVE_DTYPE_BFLOAT16, 64, 64, backward_sm90_bf16_d64},
    {SIEVE_PATH_HOPPER, SIEVE_DTYPE_BFLOAT16, 128, 128, backward_sm90_bf16_d128},
    {SIEVE_PATH_HOPPER, SIEVE_DTYPE_BFLOAT16, 64, 128, backward_sm90_bf16_d64_v128},
    {SIEVE_PATH_HOPPER, SIEVE_DTYPE_FLOAT16, 64, 64, backward_sm90_fp16_d64},
    {SIEVE_PATH_HOPPER, SIEVE_DTYPE_FLOAT16, 128, 128, backward_sm90_fp16_d128},
    {SIEVE_PATH_HOPPER, SIEVE_DTYPE_FLOAT16, 64, 128, backward_sm90_fp16_d64_v128},
#endif
};
constexpr auto kKernels = list_kernels(SIEVE_DIRECTION_BACKWARD, kShapes);
}  // namespace

Kernels<BackwardPlan> backward_kernels() {
  return {kKernels.kernels, kKernels.count};
}

#else

Kernels<BackwardPlan> backward_kernels() {
  return {nullptr, 0};
}

#endif

}  // namespace sieve::softmax
