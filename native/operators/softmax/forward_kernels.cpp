#include "operators/softmax/kernel_list.h"

namespace sieve::softmax {

#if SIEVE_WITH_CUDA

// The shapes that instantiations/ compiles, of each element type.
#define SIEVE_GENERIC_SHAPES(SHAPE, ELEMENT, DTYPE)     \
  SHAPE(forward_sm80_##ELEMENT##_d32, DTYPE, 32, 32)    \
  SHAPE(forward_sm80_##ELEMENT##_d64, DTYPE, 64, 64)    \
  SHAPE(forward_sm80_##ELEMENT##_d96, DTYPE, 96, 96)    \
  SHAPE(forward_sm80_##ELEMENT##_d128, DTYPE, 128, 128) \
  SHAPE(forward_sm80_##ELEMENT##_d256, DTYPE, 256, 256) \
  SHAPE(forward_sm80_##ELEMENT##_d64_v128, DTYPE, 64, 128)
#define SIEVE_HOPPER_SHAPES(SHAPE, ELEMENT, DTYPE)         \
  SHAPE(forward_sm90_##ELEMENT##_d32, DTYPE, 32, 32)       \
  SHAPE(forward_sm90_##ELEMENT##_d64, DTYPE, 64, 64)       \
  SHAPE(forward_sm90_##ELEMENT##_d96, DTYPE, 96, 96)       \
  SHAPE(forward_sm90_##ELEMENT##_d128, DTYPE, 128, 128)    \
  SHAPE(forward_sm90_##ELEMENT##_d256, DTYPE, 256, 256)    \
  SHAPE(forward_sm90_##ELEMENT##_d32_v64, DTYPE, 32, 64)   \
  SHAPE(forward_sm90_##ELEMENT##_d64_v128, DTYPE, 64, 128) \
  SHAPE(forward_sm90_##ELEMENT##_d128_v256, DTYPE, 128, 256)

#define SIEVE_DECLARE(NAME, DTYPE, HEAD_DIM, VALUE_DIM) int NAME(const ForwardPlan &plan, void *stream);
SIEVE_GENERIC_SHAPES(SIEVE_DECLARE, bf16, )
SIEVE_GENERIC_SHAPES(SIEVE_DECLARE, fp16, )
#if SIEVE_WITH_SM90
SIEVE_HOPPER_SHAPES(SIEVE_DECLARE, bf16, )
SIEVE_HOPPER_SHAPES(SIEVE_DECLARE, fp16, )
#endif

namespace {
#define SIEVE_GENERIC(NAME, DTYPE, HEAD_DIM, VALUE_DIM) {SIEVE_PATH_GENERIC, DTYPE, HEAD_DIM, VALUE_DIM, NAME},
#define SIEVE_HOPPER(NAME, DTYPE, HEAD_DIM, VALUE_DIM) {SIEVE_PATH_HOPPER, DTYPE, HEAD_DIM, VALUE_DIM, NAME},
constexpr CompiledShape<ForwardPlan> kShapes[] = {
    SIEVE_GENERIC_SHAPES(SIEVE_GENERIC, bf16, SIEVE_DTYPE_BFLOAT16)  //
    SIEVE_GENERIC_SHAPES(SIEVE_GENERIC, fp16, SIEVE_DTYPE_FLOAT16)   //
#if SIEVE_WITH_SM90
    SIEVE_HOPPER_SHAPES(SIEVE_HOPPER, bf16, SIEVE_DTYPE_BFLOAT16)  //
    SIEVE_HOPPER_SHAPES(SIEVE_HOPPER, fp16, SIEVE_DTYPE_FLOAT16)   //
#endif
};
constexpr auto kKernels = list_kernels(SIEVE_DIRECTION_FORWARD, kShapes);
}  // namespace

Kernels<ForwardPlan> forward_kernels() {
  return {kKernels.kernels, kKernels.count};
}

#else

Kernels<ForwardPlan> forward_kernels() {
  return {nullptr, 0};
}

#endif

}  // namespace sieve::softmax
