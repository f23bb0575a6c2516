#include "operators/softmax/forward_sm80.h"
#include "operators/softmax/instantiate.h"

SIEVE_SOFTMAX_FORWARD(forward_sm80_fp16_d96, launch_forward_sm80, ForwardShapeSm80, __half, 96, 96)
