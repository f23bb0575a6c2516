#include "operators/products/hopper.h"

namespace sieve::products {

int products_sm90_bf16(int32_t multiprocessors, void *stream) {
  return launch_products_sm90<__nv_bfloat16>(multiprocessors, static_cast<cudaStream_t>(stream));
}

int products_sm90_fp16(int32_t multiprocessors, void *stream) {
  return launch_products_sm90<__half>(multiprocessors, static_cast<cudaStream_t>(stream));
}

}  // namespace sieve::products
