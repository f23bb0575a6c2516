// A compiled shape: one line in a file of instantiations/.
#pragma once

#include "operators/softmax/problem.h"

#define SIEVE_SOFTMAX_FORWARD(NAME, LAUNCH, SHAPE, ELEMENT, HEAD_DIM, VALUE_DIM)                 \
  namespace sieve::softmax {                                                                     \
  int NAME(const ForwardPlan &plan, void *stream) {                                              \
    return LAUNCH<SHAPE<ELEMENT, HEAD_DIM, VALUE_DIM>>(plan, static_cast<cudaStream_t>(stream)); \
  }                                                                                              \
  }

// Dims: one for both, or head_dim, value_dim.
#define SIEVE_SOFTMAX_BACKWARD(NAME, LAUNCH, SHAPE, ELEMENT, ...)                        \
  namespace sieve::softmax {                                                             \
  int NAME(const BackwardPlan &plan, void *stream) {                                     \
    return LAUNCH<SHAPE<ELEMENT, __VA_ARGS__>>(plan, static_cast<cudaStream_t>(stream)); \
  }                                                                                      \
  }
