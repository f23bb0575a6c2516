#include "operators/softmax/backward_sm90.h"
#include "operators/softmax/instantiate.h"

SIEVE_SOFTMAX_BACKWARD(backward_sm90_fp16_d64_v128, launch_backward_sm90, BackwardSm90Kind, __half, 64, 128)
