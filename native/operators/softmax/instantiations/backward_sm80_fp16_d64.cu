#include "operators/softmax/backward_sm80.h"
#include "operators/softmax/instantiate.h"

SIEVE_SOFTMAX_BACKWARD(backward_sm80_fp16_d64, launch_backward_sm80, BackwardShapeSm80, __half, 64)
