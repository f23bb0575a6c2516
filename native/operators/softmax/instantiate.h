// A compiled shape: one line in a file of instantiations/.
#pragma once

#include "operators/softmax/problem.h"

#define SIEVE_SOFTMAX_FORWARD(NAME, LAUNCH, SHAPE, ELEMENT, HEAD_DIM, VALUE_DIM)                 \
  namespace sieve::softmax {                                                                     \
  int NAME(const ForwardPlan &plan, void *stream) {                                              \
    return LAUNCH<SHAPE<ELEMENT, HEAD_DIM, VALUE_DIM>>(plan, static_cast<cudaStream_t>(stream)); \
  }                                                                                              \
  }

#define SIEVE_SOFTMAX_BACKWARD(NAME, LAUNCH, SHAPE, ELEMENT, DIM)                \
  namespace sieve::softmax {                                                     \
  int NAME(const BackwardPlan &plan, void *stream) {                             \
    return LAUNCH<SHAPE<ELEMENT, DIM>>(plan, static_cast<cudaStream_t>(stream)); \
  }                                                                              \
  }
