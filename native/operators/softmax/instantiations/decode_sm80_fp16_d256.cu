#include "operators/softmax/decode.h"

SIEVE_SOFTMAX_DECODE(decode_sm80_fp16_d256, sm80, __half, 256)
