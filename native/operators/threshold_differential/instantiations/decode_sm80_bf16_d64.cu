#include "operators/threshold_differential/decode_launch.h"

SIEVE_TDA_DECODE(decode_sm80_bf16_d64, __nv_bfloat16, 64)
