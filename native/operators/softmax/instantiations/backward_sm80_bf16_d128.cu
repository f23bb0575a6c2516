#include "operators/softmax/backward_sm80.h"
#include "operators/softmax/instantiate.h"

SIEVE_SOFTMAX_BACKWARD(backward_sm80_bf16_d128, launch_backward_sm80, BackwardShapeSm80, __nv_bfloat16, 128)
