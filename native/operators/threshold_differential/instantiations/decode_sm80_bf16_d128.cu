#include "operators/threshold_differential/decode_launch.h"

SIEVE_TDA_DECODE(decode_sm80_bf16_d128, __nv_bfloat16, 128)
