#include "operators/threshold_differential/forward_sm80.h"
#include "operators/threshold_differential/instantiate.h"

SIEVE_TDA_FORWARD(forward_sm80_fp16_d64, launch_forward_sm80, ForwardShapeSm80, __half, 64, 64)
