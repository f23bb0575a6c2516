#include <initializer_list>

#include "operators/threshold_differential/backward_problem.h"

namespace sieve::threshold_differential {

#if SIEVE_WITH_CUDA

// The shapes that instantiations/ compiles, of each element type, smallest first.
#define SIEVE_BACKWARD_SHAPES(SHAPE, ELEMENT, DTYPE)        \
  SHAPE(backward_sm80_##ELEMENT##_d64, DTYPE, 64, 64)       \
  SHAPE(backward_sm80_##ELEMENT##_d64_v128, DTYPE, 64, 128) \
  SHAPE(backward_sm80_##ELEMENT##_d128, DTYPE, 128, 128)

#define SIEVE_DECLARE(NAME, DTYPE, HEAD_DIM, VALUE_DIM)        \
  int NAME##_one_view(const BackwardPlan &plan, void *stream); \
  int NAME##_two_views(const BackwardPlan &plan, void *stream);
SIEVE_BACKWARD_SHAPES(SIEVE_DECLARE, bf16, )
SIEVE_BACKWARD_SHAPES(SIEVE_DECLARE, fp16, )

namespace {
struct CompiledShape {
  int32_t dtype, head_dim, value_dim;
  int (*launch[2])(const BackwardPlan &plan, void *stream);
};

#define SIEVE_SHAPE(NAME, DTYPE, HEAD_DIM, VALUE_DIM) {DTYPE, HEAD_DIM, VALUE_DIM, {NAME##_one_view, NAME##_two_views}},
constexpr CompiledShape kShapes[] = {
    SIEVE_BACKWARD_SHAPES(SIEVE_SHAPE, bf16, SIEVE_DTYPE_BFLOAT16)  //
    SIEVE_BACKWARD_SHAPES(SIEVE_SHAPE, fp16, SIEVE_DTYPE_FLOAT16)   //
};

// Those of forward: a call that has one has the other.
constexpr int32_t kHeadDims[] = {32, 64, 128};
constexpr int32_t kValueDims[] = {32, 64, 96, 128};

struct List {
  BackwardKernel kernels[2 * 12] = {};
  int count = 0;
};

// Each by the first shape that covers it; what is missing to its dims reads as zero.
constexpr List list_kernels() {
  List list;
  for (const int32_t dtype : {SIEVE_DTYPE_BFLOAT16, SIEVE_DTYPE_FLOAT16})
    for (const int32_t head_dim : kHeadDims)
      for (const int32_t value_dim : kValueDims)
        for (const CompiledShape &shape : kShapes) {
          if (shape.dtype != dtype || shape.head_dim < head_dim || shape.value_dim < value_dim) continue;
          list.kernels[list.count++] = {
              {SIEVE_OPERATION_TDA, SIEVE_DIRECTION_BACKWARD, SIEVE_PATH_GENERIC, dtype, head_dim, value_dim, 80},
              {shape.launch[0], shape.launch[1]}};
          break;
        }
  return list;
}
constexpr List kKernels = list_kernels();
}  // namespace

BackwardKernels backward_kernels() {
  return {kKernels.kernels, kKernels.count};
}

#else

BackwardKernels backward_kernels() {
  return {nullptr, 0};
}

#endif

}  // namespace sieve::threshold_differential
