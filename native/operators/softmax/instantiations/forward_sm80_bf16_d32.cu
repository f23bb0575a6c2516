#include "operators/softmax/forward_sm80.h"
#include "operators/softmax/instantiate.h"

SIEVE_SOFTMAX_FORWARD(forward_sm80_bf16_d32, launch_forward_sm80, ForwardShapeSm80, __nv_bfloat16, 32, 32)
