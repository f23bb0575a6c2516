#include "operators/threshold_differential/backward_sm80.h"
#include "operators/threshold_differential/instantiate.h"

SIEVE_TDA_BACKWARD(backward_sm80_fp16_d64, __half, 64, 64)
