#include "operators/differential/forward_sm90.h"

SIEVE_DIFFERENTIAL_FORWARD(forward_sm90_fp16_v2_d128, __half, 128, 128, 1)
