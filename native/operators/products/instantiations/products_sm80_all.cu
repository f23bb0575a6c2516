#include "operators/products/generic.h"

namespace sieve::products {

int products_sm80_bf16(int32_t multiprocessors, void *stream) {
  return launch_products_sm80<__nv_bfloat16>(multiprocessors, static_cast<cudaStream_t>(stream));
}

int products_sm80_fp16(int32_t multiprocessors, void *stream) {
  return launch_products_sm80<__half>(multiprocessors, static_cast<cudaStream_t>(stream));
}

}  // namespace sieve::products
