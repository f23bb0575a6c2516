// The lists of kernels: every pair of head_dim and value_dim for which softmax attention has a kernel, composed of it.
#include <type_traits>
#include <vector>

#include "operators/differential/row_kernels.h"

namespace sieve::differential {

#if SIEVE_WITH_CUDA

namespace {

using ForwardKernel = Kernel<ForwardPlan, softmax::ForwardPlan>;
using BackwardKernel = Kernel<BackwardPlan, softmax::BackwardPlan>;
using DecodeKernel = Kernel<DecodePlan, softmax::DecodePlan>;

// Forward and decode.
template <class KernelType, class PlanType>
int launch_streams_and_combine(const KernelType &kernel, const PlanType &plan, void *stream) {
  int error = 0;
  if constexpr (std::is_same_v<PlanType, DecodePlan>) {
    if (plan.joined_kernel != nullptr) {
      error = launch_widen(plan, stream);
      if (error == 0) error = plan.joined_kernel->launch(plan.joined, stream);
      return error == 0 ? launch_combine(plan, kernel.description.dtype, stream) : error;
    }
  }
  for (int i = 0; i < plan.subtraction.streams() && error == 0; ++i)
    error = kernel.streams->launch(plan.stream[i], stream);
  return error == 0 ? launch_combine(plan, kernel.description.dtype, stream) : error;
}

int launch_backward(const BackwardKernel &kernel, const BackwardPlan &plan, void *stream) {
  int error = launch_prepare(plan, kernel.description.dtype, stream);
  for (int i = 0; i < plan.subtraction.streams() && error == 0; ++i) {
    const softmax::BackwardPlan &pairs = plan.stream[i];
    if (pairs.query_gradient.data == nullptr && pairs.key_gradient.data == nullptr &&
        pairs.value_gradient.data == nullptr)
      continue;
    error = kernel.streams->launch(pairs, stream);
  }
  return error == 0 ? launch_value_sum(plan, kernel.description.dtype, stream) : error;
}

// Hopper forwards of both streams in one launch: the smallest shape that covers the dims. First versions of wider heads gain
// nothing: their stages hold fewer keys (LADDER.md).
struct WholeShape {
  int32_t operation, dtype, head_dim, value_dim;
  int (*launch)(const ForwardPlan &plan, void *stream);
};
#if SIEVE_WITH_SM90
}  // namespace
#define SIEVE_WHOLE_SHAPES(SHAPE, ELEMENT, DTYPE)                     \
  SHAPE(forward_sm90_##ELEMENT##_v1_d64, DTYPE, DIFF, 64, 64)         \
  SHAPE(forward_sm90_##ELEMENT##_v1_d64_v128, DTYPE, DIFF, 64, 128)   \
  SHAPE(forward_sm90_##ELEMENT##_v2_d64, DTYPE, DIFF_V2, 64, 64)      \
  SHAPE(forward_sm90_##ELEMENT##_v2_d128, DTYPE, DIFF_V2, 128, 128)
#define SIEVE_DECLARE_WHOLE(NAME, DTYPE, OPERATION, HEAD_DIM, VALUE_DIM) int NAME(const ForwardPlan &, void *);
SIEVE_WHOLE_SHAPES(SIEVE_DECLARE_WHOLE, bf16, )
SIEVE_WHOLE_SHAPES(SIEVE_DECLARE_WHOLE, fp16, )
namespace {
#define SIEVE_WHOLE(NAME, DTYPE, OPERATION, HEAD_DIM, VALUE_DIM) \
  {SIEVE_OPERATION_##OPERATION, SIEVE_DTYPE_##DTYPE, HEAD_DIM, VALUE_DIM, NAME},
constexpr WholeShape kWholeShapes[] = {
    SIEVE_WHOLE_SHAPES(SIEVE_WHOLE, bf16, BFLOAT16)  //
    SIEVE_WHOLE_SHAPES(SIEVE_WHOLE, fp16, FLOAT16)   //
};
#endif

int (*whole_forward([[maybe_unused]] const KernelDescription &k))(const ForwardPlan &, void *) {
  const WholeShape *best = nullptr;
#if SIEVE_WITH_SM90
  for (const WholeShape &shape : kWholeShapes) {
    if (k.path != SIEVE_PATH_HOPPER || shape.operation != k.operation || shape.dtype != k.dtype) continue;
    if (shape.head_dim < k.head_dim || shape.value_dim < k.value_dim) continue;
    if (best == nullptr || shape.head_dim + shape.value_dim < best->head_dim + best->value_dim) best = &shape;
  }
#endif
  return best == nullptr ? nullptr : best->launch;
}

template <class KernelType, class StreamKernels, class Launch>
std::vector<KernelType> compose(const StreamKernels &streams, Launch launch) {
  std::vector<KernelType> list;
  for (const int32_t operation : {SIEVE_OPERATION_DIFF, SIEVE_OPERATION_DIFF_V2})
    for (int i = 0; i < streams.count; ++i) {
      KernelDescription description = streams.first[i].description;
      description.operation = operation;
      list.push_back({description, &streams.first[i], launch});
      if constexpr (std::is_same_v<KernelType, ForwardKernel>) list.back().whole = whole_forward(description);
    }
  return list;
}

}  // namespace

Kernels<ForwardPlan, softmax::ForwardPlan> forward_kernels() {
  static const auto list =
      compose<ForwardKernel>(softmax::forward_kernels(), launch_streams_and_combine<ForwardKernel, ForwardPlan>);
  return {list.data(), static_cast<int>(list.size())};
}

Kernels<BackwardPlan, softmax::BackwardPlan> backward_kernels() {
  static const auto list = compose<BackwardKernel>(softmax::backward_kernels(), launch_backward);
  return {list.data(), static_cast<int>(list.size())};
}

Kernels<DecodePlan, softmax::DecodePlan> decode_kernels() {
  static const auto list =
      compose<DecodeKernel>(softmax::decode_kernels(), launch_streams_and_combine<DecodeKernel, DecodePlan>);
  return {list.data(), static_cast<int>(list.size())};
}

#else

Kernels<ForwardPlan, softmax::ForwardPlan> forward_kernels() {
  return {nullptr, 0};
}

Kernels<BackwardPlan, softmax::BackwardPlan> backward_kernels() {
  return {nullptr, 0};
}

Kernels<DecodePlan, softmax::DecodePlan> decode_kernels() {
  return {nullptr, 0};
}

#endif

}  // namespace sieve::differential
