#include "operators/products/problem.h"

namespace sieve::products {

#if SIEVE_WITH_CUDA

int products_sm80_bf16(int32_t multiprocessors, void *stream);
int products_sm80_fp16(int32_t multiprocessors, void *stream);
#if SIEVE_WITH_SM90
int products_sm90_bf16(int32_t multiprocessors, void *stream);
int products_sm90_fp16(int32_t multiprocessors, void *stream);
#endif

namespace {
// The fastest first.
constexpr Kernel kKernels[] = {
#if SIEVE_WITH_SM90
    {SIEVE_PATH_HOPPER, SIEVE_DTYPE_BFLOAT16, 90, kHopperOperations, products_sm90_bf16},
    {SIEVE_PATH_HOPPER, SIEVE_DTYPE_FLOAT16, 90, kHopperOperations, products_sm90_fp16},
#endif
    {SIEVE_PATH_GENERIC, SIEVE_DTYPE_BFLOAT16, 80, kGenericOperations, products_sm80_bf16},
    {SIEVE_PATH_GENERIC, SIEVE_DTYPE_FLOAT16, 80, kGenericOperations, products_sm80_fp16},
};
}  // namespace

const Kernel *find_kernel(int32_t path, int32_t dtype, int32_t capability) {
  for (const Kernel &kernel : kKernels) {
    const bool runs = kernel.path == SIEVE_PATH_HOPPER ? capability == kernel.capability : capability >= kernel.capability;
    if (runs && kernel.dtype == dtype && (path == SIEVE_PATH_AUTOMATIC || path == kernel.path)) return &kernel;
  }
  return nullptr;
}

#else

const Kernel *find_kernel(int32_t, int32_t, int32_t) {
  return nullptr;
}

#endif

}  // namespace sieve::products
