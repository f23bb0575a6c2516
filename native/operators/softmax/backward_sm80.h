// Launch of the generic backward: rows, pairs, rows.
#pragma once

#include "device/backward_sm80.h"
#include "operators/softmax/backward_rows.h"
#include "operators/softmax/gradient.h"
#include "operators/softmax/tuning.h"

namespace sieve::softmax {

template <class Shape>
cudaError_t launch_backward_sm80(const BackwardPlan &plan, cudaStream_t stream) {
  using Policy = Gradient<Shape>;
  constexpr bool kBfloat16 = !kNarrowExponent<typename Shape::Element>;
  constexpr float kLog2E = 1.44269504f;
  cudaError_t error = launch_prepare(plan, kBfloat16, Shape::kHeadDim, stream);
  if (error != cudaSuccess) return error;

  BackwardArguments<Policy> a{};
  a.problem = plan.problem;
  a.order = KeyBlockPlace::order(plan.problem, Shape::kKeyBlock,
                                 plan.multiprocessors * Shape::kBlocksPerMultiprocessor);
  a.head_dim = plan.head_dim;
  a.value_dim = plan.value_dim;
  a.query = plan.query;
  a.key = plan.key;
  a.value = plan.value;
  a.output_gradient = plan.output_gradient;
  a.key_gradient = plan.key_gradient;
  a.value_gradient = plan.value_gradient;
  a.key_gradient_type = plan.key_gradient_type;
  a.value_gradient_type = plan.value_gradient_type;
  a.key_scale = plan.scale * plan.problem.epilogue.output_scale;
  a.value_scale = plan.problem.epilogue.output_scale;
  a.padded_rows = plan.padded_rows;
  a.shifts = plan.shifts;
  a.deltas = plan.deltas;
  a.factors = plan.factors;
  a.query_sums = plan.query_sums;
  a.turns = plan.bitwise && plan.query_sums != nullptr ? plan.turns : nullptr;
  a.policy.scale_log2 = plan.scale * kLog2E;

  constexpr size_t kSharedMemory = sizeof(BackwardSharedMemory<Policy>);
  const auto kernel = backward_sm80<Policy>;
  error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(kSharedMemory));
  if (error != cudaSuccess) return error;
  kernel<<<static_cast<unsigned>(KeyBlockPlace::count(plan.problem, a.order)), Shape::kThreads, kSharedMemory, stream>>>(a);
  error = cudaGetLastError();
  return error == cudaSuccess ? launch_finish(plan, kBfloat16, Shape::kHeadDim, stream) : error;
}

}  // namespace sieve::softmax
