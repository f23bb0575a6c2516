// Tests of instructions that only compute capability 9.0 has.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdio>

namespace sieve::test {

// Says why not, where the first device is another one.
inline bool is_hopper() {
  int major = 0, minor = 0;
  const cudaError_t error = cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0);
  if (error != cudaSuccess) {
    std::printf("skipped: %s\n", cudaGetErrorString(error));
    return false;
  }
  cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, 0);
  if (major == 9 && minor == 0) return true;
  std::printf("skipped: the device has compute capability %d.%d, these instructions need 9.0\n", major, minor);
  return false;
}

}  // namespace sieve::test
