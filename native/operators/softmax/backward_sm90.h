// Launch of the Hopper backward: rows, pairs, rows.
#pragma once

#include "device/backward_sm90.h"
#include "operators/softmax/backward_rows.h"
#include "operators/softmax/gradient.h"
#include "operators/softmax/tuning.h"

namespace sieve::softmax {

// The shapes of one type and dims; the call decides on row factors and on the order of the sums.
template <typename T, int kDim, int kValue = kDim>
struct BackwardSm90Kind {
  using Element = T;
  static constexpr int kHeadDim = kDim;
  template <bool kRowFactors, bool kOrdered>
  using Shape = BackwardShapeSm90<T, kDim, kValue, kRowFactors, kOrdered>;
};

template <class Shape>
cudaError_t launch_pairs_sm90(const BackwardPlan &plan, cudaStream_t stream) {
  using Policy = Gradient<Shape>;
  constexpr bool kBfloat16 = !kNarrowExponent<typename Shape::Element>;
  constexpr float kLog2E = 1.44269504f;
  BackwardSm90Arguments<Policy> a{};
  const int64_t key_heads = plan.problem.query_heads / plan.problem.group;
  const auto encode = [&](CUtensorMap *map, const TensorView &view, int64_t heads, int64_t rows, int32_t channels,
                          int box_rows) {
    return encode_tensor_map(map, view, {plan.tensor_batch, heads, rows, channels}, box_rows, kBfloat16);
  };
  cudaError_t error =
      encode(&a.query, plan.query, plan.problem.query_heads, plan.query_rows, plan.head_dim, Shape::kQueryBlock);
  if (error == cudaSuccess)
    error = encode(&a.output_gradient, plan.output_gradient, plan.problem.query_heads, plan.query_rows, plan.value_dim,
                   Shape::kQueryBlock);
  if (error == cudaSuccess)
    error = encode(&a.key, plan.key, key_heads, plan.key_rows, plan.head_dim, Shape::kKeyBlock);
  if (error == cudaSuccess)
    error = encode(&a.value, plan.value, key_heads, plan.key_rows, plan.value_dim, Shape::kKeyBlock);
  if (error != cudaSuccess) return error;

  a.problem = plan.problem;
  a.order = KeyBlockPlace::order(plan.problem, Shape::kKeyBlock, plan.multiprocessors);
  a.rows = {plan.shifts, plan.deltas, plan.factors, plan.padded_rows, plan.query_sums, plan.turns};
  a.key_gradient = plan.key_gradient;
  a.value_gradient = plan.value_gradient;
  a.key_gradient_type = plan.key_gradient_type;
  a.value_gradient_type = plan.value_gradient_type;
  a.head_dim = plan.head_dim;
  a.value_dim = plan.value_dim;
  a.key_scale = plan.scale * plan.problem.epilogue.output_scale;
  a.value_scale = plan.problem.epilogue.output_scale;
  a.policy.scale_log2 = plan.scale * kLog2E;

  constexpr size_t kSharedMemory = sizeof(BackwardSm90SharedMemory<Shape>);
  const auto kernel = backward_sm90<Policy>;
  error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(kSharedMemory));
  if (error != cudaSuccess) return error;
  kernel<<<static_cast<unsigned>(KeyBlockPlace::count(plan.problem, a.order)), 384, kSharedMemory, stream>>>(a);
  return cudaGetLastError();
}

template <class Kind>
cudaError_t launch_backward_sm90(const BackwardPlan &plan, cudaStream_t stream) {
  constexpr bool kBfloat16 = !kNarrowExponent<typename Kind::Element>;
  cudaError_t error = launch_prepare(plan, kBfloat16, Kind::kHeadDim, stream);
  if (error != cudaSuccess) return error;
  const bool ordered = plan.bitwise && plan.query_sums != nullptr;
  if (plan.factors != nullptr)
    error = ordered ? launch_pairs_sm90<typename Kind::template Shape<true, true>>(plan, stream)
                    : launch_pairs_sm90<typename Kind::template Shape<true, false>>(plan, stream);
  else
    error = ordered ? launch_pairs_sm90<typename Kind::template Shape<false, true>>(plan, stream)
                    : launch_pairs_sm90<typename Kind::template Shape<false, false>>(plan, stream);
  return error == cudaSuccess ? launch_finish(plan, kBfloat16, Kind::kHeadDim, stream) : error;
}

}  // namespace sieve::softmax
