#include "operators/threshold_differential/forward_sm90.h"
#include "operators/threshold_differential/instantiate.h"

SIEVE_TDA_FORWARD(forward_sm90_bf16_d64_images, launch_forward_sm90, ImageShapeSm90, __nv_bfloat16, 64, 64)
