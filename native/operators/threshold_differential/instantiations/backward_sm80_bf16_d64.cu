#include "operators/threshold_differential/backward_sm80.h"
#include "operators/threshold_differential/instantiate.h"

SIEVE_TDA_BACKWARD(backward_sm80_bf16_d64, __nv_bfloat16, 64, 64)
