#include "operators/differential/forward_sm90.h"

SIEVE_DIFFERENTIAL_FORWARD(forward_sm90_bf16_v1_d128_v256, __nv_bfloat16, 128, 256, 2)
