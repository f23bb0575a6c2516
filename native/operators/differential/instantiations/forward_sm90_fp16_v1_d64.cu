#include "operators/differential/forward_sm90.h"

SIEVE_DIFFERENTIAL_FORWARD(forward_sm90_fp16_v1_d64, __half, 64, 64, 2)
