// A compiled shape of this operator: one line in a file of instantiations/.
#pragma once

#include "operators/threshold_differential/backward_problem.h"

#define SIEVE_TDA_FORWARD(NAME, LAUNCH, SHAPE, ELEMENT, HEAD_DIM, VALUE_DIM)                        \
  namespace sieve::threshold_differential {                                                         \
  int NAME##_one_view(const ForwardPlan &plan, void *stream) {                                      \
    return LAUNCH<SHAPE<ELEMENT, HEAD_DIM, VALUE_DIM, 1>>(plan, static_cast<cudaStream_t>(stream)); \
  }                                                                                                 \
  int NAME##_two_views(const ForwardPlan &plan, void *stream) {                                     \
    return LAUNCH<SHAPE<ELEMENT, HEAD_DIM, VALUE_DIM, 2>>(plan, static_cast<cudaStream_t>(stream)); \
  }                                                                                                 \
  }

#define SIEVE_TDA_BACKWARD(NAME, ELEMENT, HEAD_DIM, VALUE_DIM)                        \
  namespace sieve::threshold_differential {                                           \
  int NAME##_one_view(const BackwardPlan &plan, void *stream) {                       \
    return launch_backward_sm80<KeyGradientShape<ELEMENT, HEAD_DIM, VALUE_DIM, 1>,    \
                                QueryGradientShape<ELEMENT, HEAD_DIM, VALUE_DIM, 1>>( \
        plan, static_cast<cudaStream_t>(stream));                                     \
  }                                                                                   \
  int NAME##_two_views(const BackwardPlan &plan, void *stream) {                      \
    return launch_backward_sm80<KeyGradientShape<ELEMENT, HEAD_DIM, VALUE_DIM, 2>,    \
                                QueryGradientShape<ELEMENT, HEAD_DIM, VALUE_DIM, 2>>( \
        plan, static_cast<cudaStream_t>(stream));                                     \
  }                                                                                   \
  }
