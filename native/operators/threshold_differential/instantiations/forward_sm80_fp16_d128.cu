#include "operators/threshold_differential/instantiate.h"

SIEVE_TDA_FORWARD_SM80(forward_sm80_fp16_d128, __half, 128)
