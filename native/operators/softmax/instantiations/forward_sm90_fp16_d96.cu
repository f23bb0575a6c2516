#include "operators/softmax/forward_sm90.h"
#include "operators/softmax/instantiate.h"

SIEVE_SOFTMAX_FORWARD(forward_sm90_fp16_d96, launch_forward_sm90, ForwardShapeSm90, __half, 96, 96)
