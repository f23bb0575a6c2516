#include "operators/differential/forward_sm90.h"

SIEVE_DIFFERENTIAL_FORWARD(forward_sm90_fp16_v1_d128_v256, __half, 128, 256, 2)
