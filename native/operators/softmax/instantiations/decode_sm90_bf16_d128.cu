#include "operators/softmax/decode.h"

SIEVE_SOFTMAX_DECODE(decode_sm90_bf16_d128, sm90, __nv_bfloat16, 128)
