#include "operators/softmax/decode.h"

SIEVE_SOFTMAX_DECODE(decode_sm80_bf16_d256, sm80, __nv_bfloat16, 256)
