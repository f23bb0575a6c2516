// From the compiled shapes of one direction to the list of tensors that they serve: every pair of head_dim and
// value_dim that a shape covers, by the smallest that does. What is missing to its dims reads as zero.
#pragma once

#include "operators/softmax/problem.h"

namespace sieve::softmax {

constexpr int32_t kTensorDims[] = {32, 64, 96, 128, 256};

template <class PlanType>
struct CompiledShape {
  int32_t path;
  int32_t dtype;
  int32_t head_dim;
  int32_t value_dim;
  int (*launch)(const PlanType &plan, void *stream);
};

template <class PlanType, int kShapes>
struct KernelList {
  static constexpr int kDims = sizeof(kTensorDims) / sizeof(kTensorDims[0]);
  Kernel<PlanType> kernels[kShapes * kDims * kDims] = {};
  int count = 0;
};

template <class PlanType, int kShapes>
constexpr auto list_kernels(int32_t direction, const CompiledShape<PlanType> (&shapes)[kShapes]) {
  KernelList<PlanType, kShapes> list;
  // Shapes of one path and type are served together, at the first of them.
  for (int first = 0; first < kShapes; ++first) {
    const CompiledShape<PlanType> &kind = shapes[first];
    bool seen = false;
    for (int i = 0; i < first; ++i) seen = seen || (shapes[i].path == kind.path && shapes[i].dtype == kind.dtype);
    if (seen) continue;
    for (const int32_t head_dim : kTensorDims) {
      for (const int32_t value_dim : kTensorDims) {
        const CompiledShape<PlanType> *best = nullptr;
        for (const CompiledShape<PlanType> &shape : shapes) {
          if (shape.path != kind.path || shape.dtype != kind.dtype) continue;
          if (shape.head_dim < head_dim || shape.value_dim < value_dim) continue;
          if (best == nullptr || shape.head_dim + shape.value_dim < best->head_dim + best->value_dim) best = &shape;
        }
        if (best == nullptr) continue;
        list.kernels[list.count++] = {{SIEVE_OPERATION_SOFTMAX, direction, kind.path, kind.dtype, head_dim, value_dim,
                                       kind.path == SIEVE_PATH_HOPPER ? 90 : 80},
                                      best->launch,
                                      best->head_dim,
                                      best->value_dim};
      }
    }
  }
  return list;
}

}  // namespace sieve::softmax
