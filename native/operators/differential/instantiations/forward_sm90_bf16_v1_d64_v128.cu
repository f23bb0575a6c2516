#include "operators/differential/forward_sm90.h"

SIEVE_DIFFERENTIAL_FORWARD(forward_sm90_bf16_v1_d64_v128, __nv_bfloat16, 64, 128, 2)
