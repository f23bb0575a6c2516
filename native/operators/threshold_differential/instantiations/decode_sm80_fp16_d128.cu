#include "operators/threshold_differential/decode_launch.h"

SIEVE_TDA_DECODE(decode_sm80_fp16_d128, __half, 128)
