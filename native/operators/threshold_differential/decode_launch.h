// Launches of decode: the survivors' counters where they are wanted, the pass over the keys, the sum of the partial
// results.
#pragma once

#include <cuda_runtime_api.h>

#include "operators/threshold_differential/decode_walk.h"
#include "operators/threshold_differential/tuning.h"

namespace sieve::threshold_differential {

// instantiations/decode_combine_sm80_all.cu: compiled once, for every architecture.
cudaError_t launch_decode_combine(const DecodePlan &plan, cudaStream_t stream);
cudaError_t clear_survivors(const DecodePlan &plan, cudaStream_t stream);

inline DecodeCall decode_call(const DecodePlan &plan) {
  DecodeCall a{};
  a.problem = plan.problem;
  a.cache = plan.cache;
  for (int view = 0; view < plan.views; ++view) {
    a.query[view] = plan.query[view];
    a.survivors[view] = plan.survivors[view];
  }
  a.beta = plan.beta;
  a.lambda = plan.lambda;
  a.kappa = plan.kappa;
  a.power = plan.power;
  a.power_kind = plan.power == 1.0f   ? Power::kOne
                 : plan.power == 2.0f ? Power::kTwo
                 : plan.power == 3.0f ? Power::kThree
                                      : Power::kGeneral;
  a.head_dim = plan.head_dim;
  a.value_dim = plan.value_dim;
  a.splits = plan.splits;
  a.partial_outputs = plan.partial_outputs;
  return a;
}

template <class Shape>
cudaError_t launch_keys(const DecodePlan &plan, cudaStream_t stream) {
  const int tiles = decode_tiles(plan.problem.queries * plan.problem.group);
  const size_t shared_memory = DecodeShared<Shape>::bytes(tiles);
  static_assert(offsetof(DecodeShared<Shape>, queries) + 16 * 8 * 32 * Shape::kHeadDim / 32 * Shape::kViews <= 131072,
                "shared memory of a block");
  const auto kernel = decode<Shape>;
  if (const cudaError_t error =
          cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared_memory));
      error != cudaSuccess)
    return error;
  const unsigned blocks = static_cast<unsigned>(plan.problem.batch) *
                          static_cast<unsigned>(plan.problem.query_heads / plan.problem.group) *
                          static_cast<unsigned>(plan.splits);
  kernel<<<blocks, kDecodeWarps * 32, shared_memory, stream>>>(decode_call(plan));
  return cudaGetLastError();
}

template <typename Element, int kDim, int kViews>
cudaError_t launch_keys(const DecodePlan &plan, cudaStream_t stream) {
  switch (plan.cache.screen) {
    case Screen::kInt8:
      return launch_keys<DecodeShape<Element, kDim, kViews, Screen::kInt8>>(plan, stream);
    case Screen::kInt4:
      return launch_keys<DecodeShape<Element, kDim, kViews, Screen::kInt4>>(plan, stream);
    default:
      return launch_keys<DecodeShape<Element, kDim, kViews, Screen::kNone>>(plan, stream);
  }
}

template <typename Element, int kDim>
cudaError_t launch_decode(const DecodePlan &plan, cudaStream_t stream) {
  cudaError_t error = clear_survivors(plan, stream);
  if (error != cudaSuccess) return error;
  error = plan.views == 2 ? launch_keys<Element, kDim, 2>(plan, stream) : launch_keys<Element, kDim, 1>(plan, stream);
  return error == cudaSuccess ? launch_decode_combine(plan, stream) : error;
}

}  // namespace sieve::threshold_differential

// A compiled shape: one line in a file of instantiations/.
#define SIEVE_TDA_DECODE(NAME, ELEMENT, DIM)                                     \
  namespace sieve::threshold_differential {                                      \
  int NAME(const DecodePlan &plan, void *stream) {                               \
    return launch_decode<ELEMENT, DIM>(plan, static_cast<cudaStream_t>(stream)); \
  }                                                                              \
  }
