#include "operators/threshold_differential/problem.h"

namespace sieve::threshold_differential {

#if SIEVE_WITH_CUDA

// The shapes that instantiations/ compiles, of each element type, smallest first.
#define SIEVE_FORWARD_SHAPES(SHAPE, PATH, ELEMENT, DTYPE)      \
  SHAPE(forward_##PATH##_##ELEMENT##_d64, DTYPE, 64, 64)       \
  SHAPE(forward_##PATH##_##ELEMENT##_d64_v128, DTYPE, 64, 128) \
  SHAPE(forward_##PATH##_##ELEMENT##_d128, DTYPE, 128, 128)

#define SIEVE_DECLARE(NAME, DTYPE, HEAD_DIM, VALUE_DIM)       \
  int NAME##_one_view(const ForwardPlan &plan, void *stream); \
  int NAME##_two_views(const ForwardPlan &plan, void *stream);
SIEVE_FORWARD_SHAPES(SIEVE_DECLARE, sm80, bf16, )
SIEVE_FORWARD_SHAPES(SIEVE_DECLARE, sm80, fp16, )
#if SIEVE_WITH_SM90
#define SIEVE_DECLARE_SCREENED(NAME, DTYPE, HEAD_DIM, VALUE_DIM) \
  SIEVE_DECLARE(NAME, DTYPE, HEAD_DIM, VALUE_DIM)                \
  SIEVE_DECLARE(NAME##_images, DTYPE, HEAD_DIM, VALUE_DIM)
SIEVE_FORWARD_SHAPES(SIEVE_DECLARE_SCREENED, sm90, bf16, )
SIEVE_FORWARD_SHAPES(SIEVE_DECLARE_SCREENED, sm90, fp16, )
#endif

namespace {
struct CompiledShape {
  int32_t path, dtype, head_dim, value_dim;
  ForwardLaunch launch[2], launch_screened[2];
};

#define SIEVE_GENERIC(NAME, DTYPE, HEAD_DIM, VALUE_DIM) \
  {SIEVE_PATH_GENERIC, DTYPE, HEAD_DIM, VALUE_DIM, {NAME##_one_view, NAME##_two_views}, {}},
#define SIEVE_HOPPER(NAME, DTYPE, HEAD_DIM, VALUE_DIM) \
  {SIEVE_PATH_HOPPER,                                  \
   DTYPE,                                              \
   HEAD_DIM,                                           \
   VALUE_DIM,                                          \
   {NAME##_one_view, NAME##_two_views},                \
   {NAME##_images_one_view, NAME##_images_two_views}},
constexpr CompiledShape kShapes[] = {
    SIEVE_FORWARD_SHAPES(SIEVE_GENERIC, sm80, bf16, SIEVE_DTYPE_BFLOAT16)  //
    SIEVE_FORWARD_SHAPES(SIEVE_GENERIC, sm80, fp16, SIEVE_DTYPE_FLOAT16)   //
#if SIEVE_WITH_SM90
    SIEVE_FORWARD_SHAPES(SIEVE_HOPPER, sm90, bf16, SIEVE_DTYPE_BFLOAT16)  //
    SIEVE_FORWARD_SHAPES(SIEVE_HOPPER, sm90, fp16, SIEVE_DTYPE_FLOAT16)   //
#endif
};

// Tensors that the shapes serve, each by the first that covers it; what is missing to its dims reads as zero.
constexpr int32_t kHeadDims[] = {32, 64, 128};
constexpr int32_t kValueDims[] = {32, 64, 96, 128};

struct List {
  ForwardKernel kernels[sizeof(kShapes) / sizeof(kShapes[0]) * 12] = {};
  int count = 0;
};

constexpr List list_kernels() {
  List list;
  for (const int32_t head_dim : kHeadDims)
    for (const int32_t value_dim : kValueDims) {
      const CompiledShape *previous = nullptr;
      for (const CompiledShape &shape : kShapes) {
        if (shape.head_dim < head_dim || shape.value_dim < value_dim) continue;
        if (previous != nullptr && previous->path == shape.path && previous->dtype == shape.dtype) continue;
        previous = &shape;
        list.kernels[list.count++] = {{SIEVE_OPERATION_TDA, SIEVE_DIRECTION_FORWARD, shape.path, shape.dtype, head_dim,
                                       value_dim, shape.path == SIEVE_PATH_HOPPER ? 90 : 80},
                                      {shape.launch[0], shape.launch[1]},
                                      {shape.launch_screened[0], shape.launch_screened[1]}};
      }
    }
  return list;
}
constexpr List kKernels = list_kernels();
}  // namespace

ForwardKernels forward_kernels() {
  return {kKernels.kernels, kKernels.count};
}

#else

ForwardKernels forward_kernels() {
  return {nullptr, 0};
}

#endif

}  // namespace sieve::threshold_differential
