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

// Shared memory that a block may use on the present device.
inline cudaError_t shared_memory_limit(int &bytes) {
  int device = 0;
  const cudaError_t error = cudaGetDevice(&device);
  return error == cudaSuccess ? cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device) : error;
}

template <class Shape>
cudaError_t launch_keys(const DecodePlan &plan, cudaStream_t stream) {
  int limit = 0;
  if (const cudaError_t error = shared_memory_limit(limit); error != cudaSuccess) return error;
  DecodeCall a = decode_call(plan);
  const int rows = plan.problem.queries * plan.problem.group;
  int tiles = decode_tiles(rows);
  while (tiles > 1 && DecodeShared<Shape>::bytes(tiles) > static_cast<size_t>(limit)) --tiles;
  const size_t shared_memory = DecodeShared<Shape>::bytes(tiles);
  const auto kernel = decode<Shape>;
  if (const cudaError_t error =
          cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared_memory));
      error != cudaSuccess)
    return error;
  const unsigned blocks = static_cast<unsigned>(plan.problem.batch) *
                          static_cast<unsigned>(plan.problem.query_heads / plan.problem.group) *
                          static_cast<unsigned>(plan.splits);
  for (a.first_row = 0; a.first_row < rows; a.first_row += 8 * tiles) {
    a.rows = rows - a.first_row < 8 * tiles ? rows - a.first_row : 8 * tiles;
    kernel<<<blocks, kDecodeWarps * 32, shared_memory, stream>>>(a);
    if (const cudaError_t error = cudaGetLastError(); error != cudaSuccess) return error;
  }
  return cudaSuccess;
}

template <typename Element, int kDim, int kViews>
cudaError_t launch_keys(const DecodePlan &plan, cudaStream_t stream) {
  constexpr size_t kLeastLimit = 99 * 1024;  // of capability 8.0 and newer
  static_assert(DecodeShared<DecodeShape<Element, kDim, kViews, Screen::kNone>>::bytes(1) <= kLeastLimit);
  static_assert(DecodeShared<DecodeShape<Element, kDim, kViews, Screen::kInt8>>::bytes(1) <= kLeastLimit);
  static_assert(DecodeShared<DecodeShape<Element, kDim, kViews, Screen::kInt4>>::bytes(1) <= kLeastLimit);
  // What the numbers of blocks that are worth having (decode_choice.h) need of 228 KB: 1 KB a block is the system's.
  constexpr size_t kMultiprocessor = 228 * 1024, kSystem = 1024;
  static_assert(2 * (DecodeShared<DecodeShape<Element, kDim, kViews, Screen::kNone>>::bytes(8) + kSystem) <=
                kMultiprocessor);
  static_assert(2 * (DecodeShared<DecodeShape<Element, kDim, kViews, Screen::kInt8>>::bytes(4) + kSystem) <=
                kMultiprocessor);
  static_assert(3 * (DecodeShared<DecodeShape<Element, kDim, kViews, Screen::kInt4>>::bytes(4) + kSystem) <=
                kMultiprocessor);
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
