#include "operators/softmax/kernel_list.h"

namespace sieve::softmax {

#if SIEVE_WITH_CUDA

#define SIEVE_DECLARE(NAME)                              \
  int NAME##_d64(const DecodePlan &plan, void *stream);  \
  int NAME##_d128(const DecodePlan &plan, void *stream); \
  int NAME##_d256(const DecodePlan &plan, void *stream);
SIEVE_DECLARE(decode_sm80_bf16)
SIEVE_DECLARE(decode_sm80_fp16)
#if SIEVE_WITH_SM90
SIEVE_DECLARE(decode_sm90_bf16)
SIEVE_DECLARE(decode_sm90_fp16)
#endif
#undef SIEVE_DECLARE

namespace {

#define SIEVE_SHAPES(PATH, DTYPE, NAME)                                      \
  {PATH, DTYPE, 64, 64, NAME##_d64}, {PATH, DTYPE, 128, 128, NAME##_d128}, { \
    PATH, DTYPE, 256, 256, NAME##_d256                                       \
  }
constexpr CompiledShape<DecodePlan> kShapes[] = {
    SIEVE_SHAPES(SIEVE_PATH_GENERIC, SIEVE_DTYPE_BFLOAT16, decode_sm80_bf16),
    SIEVE_SHAPES(SIEVE_PATH_GENERIC, SIEVE_DTYPE_FLOAT16, decode_sm80_fp16),
#if SIEVE_WITH_SM90
    SIEVE_SHAPES(SIEVE_PATH_HOPPER, SIEVE_DTYPE_BFLOAT16, decode_sm90_bf16),
    SIEVE_SHAPES(SIEVE_PATH_HOPPER, SIEVE_DTYPE_FLOAT16, decode_sm90_fp16),
#endif
};
#undef SIEVE_SHAPES
constexpr auto kKernels = list_kernels(SIEVE_DIRECTION_DECODE, kShapes);

}  // namespace

Kernels<DecodePlan> decode_kernels() {
  return {kKernels.kernels, kKernels.count};
}

#else

Kernels<DecodePlan> decode_kernels() {
  return {nullptr, 0};
}

#endif

}  // namespace sieve::softmax
