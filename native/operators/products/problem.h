// Matrix products without attention: what the tensor cores do at most, measured beside the operators by `sieve bench`.
#pragma once

#include <cstdint>

#include "sieve/attention.h"

namespace sieve::products {

// Enqueues the products on so many multiprocessors; returns a cudaError_t.
struct Kernel {
  int32_t path;
  int32_t dtype;
  int32_t capability;  // 10 * major + minor; exactly that of a Hopper kernel, at least that of a generic one
  double operations;   // of one multiprocessor
  int (*launch)(int32_t multiprocessors, void *stream);
};

// The kernel of a path and type for a device, null where there is none.
const Kernel *find_kernel(int32_t path, int32_t dtype, int32_t capability);

// Rounds of a launch: some milliseconds on data-centre devices.
constexpr int kGenericRounds = 20000;
constexpr int kHopperRounds = 512;

// Of one multiprocessor and round: 16 warps x 16 products of 16 x 8 x 16, and 2 warpgroups x 32 of 64 x 256 x 16.
constexpr double kGenericOperations = 16.0 * 16 * 2 * 16 * 8 * 16 * kGenericRounds;
constexpr double kHopperOperations = 2.0 * 32 * 2 * 64 * 256 * 16 * kHopperRounds;

}  // namespace sieve::products
