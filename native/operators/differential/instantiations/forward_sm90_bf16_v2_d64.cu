#include "operators/differential/forward_sm90.h"

SIEVE_DIFFERENTIAL_FORWARD(forward_sm90_bf16_v2_d64, __nv_bfloat16, 64, 64, 1)
