#include "operators/softmax/forward_sm90.h"
#include "operators/softmax/instantiate.h"

SIEVE_SOFTMAX_FORWARD(forward_sm90_bf16_d32_v64, launch_forward_sm90, ForwardShapeSm90, __nv_bfloat16, 32, 64)
