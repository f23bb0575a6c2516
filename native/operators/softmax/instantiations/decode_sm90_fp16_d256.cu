#include "operators/softmax/decode.h"

SIEVE_SOFTMAX_DECODE(decode_sm90_fp16_d256, sm90, __half, 256)
