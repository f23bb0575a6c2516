// Matrix products without attention, as a ceiling.
#include "abi/context.h"
#include "abi/failure.h"
#include "abi/runtime.h"
#include "abi/validation.h"
#include "operators/products/problem.h"

extern "C" int32_t sieve_products_run(const sieve_context *context, int32_t path, int32_t dtype, double *operations,
                                      void *stream) {
  return sieve::guarded(__func__, [&] {
    const sieve_context &c = sieve::checked_context(context);
    sieve::require_range("path", path, SIEVE_PATH_AUTOMATIC, SIEVE_PATH_HOPPER);
    sieve::require_range("dtype", dtype, SIEVE_DTYPE_FLOAT16, SIEVE_DTYPE_BFLOAT16);
    sieve::require_pointer("operations", operations);
    const sieve::products::Kernel *kernel = sieve::products::find_kernel(path, dtype, c.capability);
    if (kernel == nullptr)
      throw sieve::Failure(
          SIEVE_STATUS_UNSUPPORTED,
          sieve::format("path is %d; allowed on compute capability %d.%d: a family of kernels that this build has for it",
                        path, c.capability / 10, c.capability % 10));
    const sieve::runtime::DeviceScope scope(c.device);
    sieve::runtime::check_launch(kernel->launch(c.multiprocessors, stream), "launching products");
    *operations = kernel->operations * c.multiprocessors;
  });
}
