#include "operators/threshold_differential/instantiate.h"

SIEVE_TDA_FORWARD_SM80(forward_sm80_bf16_d64, __nv_bfloat16, 64)
