#include "operators/softmax/decode.h"

SIEVE_SOFTMAX_DECODE(decode_sm90_bf16_d64, sm90, __nv_bfloat16, 64)
