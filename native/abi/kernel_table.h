// The kernels of this build: every operator contributes its own list, the capability query reads them all.
#pragma once

#include <cstdint>

#include "sieve/attention.h"

namespace sieve {

struct KernelDescription {
  int32_t operation;
  int32_t direction;
  int32_t path;
  int32_t dtype;
  int32_t head_dim;
  int32_t value_dim;
  int32_t capability;  // 10 * major + minor, at least
};

int kernel_count();
const KernelDescription &kernel_at(int index);

// Throws Failure(SIEVE_STATUS_UNSUPPORTED) with the nearest supported choice unless a kernel runs the query on
// `capability`.
const KernelDescription &find_kernel(const sieve_support_query &query, int32_t capability);

}  // namespace sieve
