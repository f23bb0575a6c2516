// Launch of the Hopper forward: inverse norms (and images), tensor maps, then the sparse pipeline with this operator's
// policy.
#pragma once

#include <algorithm>

#include "device/sparse_forward_sm90.h"
#include "operators/threshold_differential/launch.h"
#include "operators/threshold_differential/sparse_weights.h"
#include "operators/threshold_differential/tuning.h"

namespace sieve::threshold_differential {

template <class Shape>
cudaError_t launch_forward_sm90(const ForwardPlan &plan, cudaStream_t stream) {
  using Policy = SparseWeights<Shape>;
  constexpr bool kBfloat16 = !kNarrowExponent<typename Shape::Element>;
  SparseForwardSm90Arguments<Policy> a{};
  const int64_t key_heads = plan.problem.query_heads / plan.problem.group;
  const TensorMapShape query_shape{plan.tensor_batch, plan.problem.query_heads, plan.query_rows, plan.head_dim};
  const TensorMapShape key_shape{plan.tensor_batch, key_heads, plan.key_rows, plan.head_dim};
  const TensorMapShape value_shape{plan.tensor_batch, key_heads, plan.key_rows, plan.value_dim};
  cudaError_t error = cudaSuccess;
  if constexpr (!Shape::kImages)
    error = encode_tensor_map(&a.value, plan.value, value_shape, Shape::kKeyBlock, kBfloat16);
  for (int view = 0; view < Shape::kViews && error == cudaSuccess; ++view) {
    error = encode_tensor_map(&a.query[view], plan.query[view], query_shape, Shape::kRows, kBfloat16);
    if (error != cudaSuccess) break;
    if constexpr (Shape::kImages) {
      const TensorMapShape image_shape{plan.tensor_batch, key_heads, plan.key_rows, Shape::kHeadDim};
      const TensorView images{plan.key_images[view].values, key_heads * plan.key_rows * Shape::kHeadDim,
                              plan.key_rows * Shape::kHeadDim, Shape::kHeadDim};
      error = encode_tensor_map(&a.key[view], images, image_shape, Shape::kKeyBlock, byte_element(Shape::kHeadDim));
    } else {
      error = encode_tensor_map(&a.key[view], plan.key[view], key_shape, Shape::kKeyBlock, kBfloat16);
    }
    a.key_rows[view] = plan.key[view];
  }
  if (error != cudaSuccess) return error;

  a.value_rows = plan.value;
  a.problem = plan.problem;
  a.output = plan.output;
  a.output_type = plan.output_type;
  a.head_dim = plan.head_dim;
  a.value_dim = plan.value_dim;
  a.order = tile_order(plan.problem, Shape::kRows, (Shape::kViews * plan.head_dim + plan.value_dim) * 2,
                       plan.multiprocessors);
  a.tiles = a.order.blocks * plan.problem.query_heads * plan.problem.batch;
  a.next_tile = plan.next_tile;
  static_cast<WeightArguments &>(a.policy) = weight_arguments(plan);
  for (int view = 0; view < Shape::kViews; ++view) {
    a.policy.query_images[view] = plan.query_images[view];
    a.policy.key_images[view] = plan.key_images[view];
  }

  error = Shape::kImages ? launch_image_rows(plan, kBfloat16, stream) : launch_inverse_norms(plan, kBfloat16, stream);
  if (error != cudaSuccess) return error;
  const auto kernel = sparse_forward_sm90<Policy>;
  constexpr size_t kSharedMemory = sizeof(SparseForwardSm90SharedMemory<Shape>);
  error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(kSharedMemory));
  if (error != cudaSuccess) return error;
  // Its blocks start while the last rows get their norms.
  cudaLaunchAttribute overlap{};
  overlap.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  overlap.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t launch{};
  launch.gridDim = static_cast<unsigned>(std::min(a.tiles, plan.multiprocessors));
  launch.blockDim = Shape::kThreads;
  launch.dynamicSmemBytes = kSharedMemory;
  launch.stream = stream;
  launch.attrs = &overlap;
  launch.numAttrs = 1;
  return cudaLaunchKernelEx(&launch, kernel, a);
}

}  // namespace sieve::threshold_differential
