#include "operators/softmax/decode.h"

SIEVE_SOFTMAX_DECODE(decode_sm80_fp16_d64, sm80, __half, 64)
