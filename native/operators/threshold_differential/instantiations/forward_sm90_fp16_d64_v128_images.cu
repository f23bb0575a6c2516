#include "operators/threshold_differential/forward_sm90.h"
#include "operators/threshold_differential/instantiate.h"

SIEVE_TDA_FORWARD(forward_sm90_fp16_d64_v128_images, launch_forward_sm90, ImageShapeSm90, __half, 64, 128)
