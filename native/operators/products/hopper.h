// The ceiling of wgmma: two warpgroups a multiprocessor, each with 64 x 256 accumulators, multiply tiles that lie in
// shared memory: 8 KB of rows each, 32 KB of columns for both. 128 accumulators a thread. A product takes 128 clocks of the
// tensor cores and reads 10 KB, less than the 16 KB that shared memory gives meanwhile.
#pragma once

#include "device/ptx/cp_async.h"
#include "device/ptx/tma.h"
#include "device/ptx/wgmma.h"
#include "operators/products/operands.h"
#include "operators/products/problem.h"

namespace sieve::products {

constexpr int kHopperThreads = 256;

struct HopperSharedMemory {
  alignas(1024) uint32_t rows[2][64 * 32];  // pairs, [row][64 channels], as the swizzle finds them
  alignas(1024) uint32_t columns[256 * 32];
};

template <typename Element>
__global__ void __launch_bounds__(kHopperThreads, 1) products_sm90() {
  __shared__ HopperSharedMemory shared;
  uint32_t *pairs = &shared.rows[0][0];
  for (uint32_t i = threadIdx.x; i < sizeof(shared) / 4; i += kHopperThreads) pairs[i] = random_pair<Element>(i);
  ptx::fence_proxy_async();
  __syncthreads();
  const uint64_t rows = ptx::matrix_descriptor(ptx::shared_address(shared.rows[threadIdx.x / 128]), 0);
  const uint64_t columns = ptx::matrix_descriptor(ptx::shared_address(shared.columns), 0);
  float sums[128];
#pragma unroll
  for (float &sum : sums) sum = 0.0f;
#pragma unroll 1
  for (int round = 0; round < kHopperRounds; ++round) {
    ptx::wgmma_fence();
#pragma unroll
    for (uint64_t k = 0; k < 32; ++k)
      ptx::Wgmma<Element, 256, false>::shared(sums, rows + (k % 4 * 32 >> 4), columns + (k % 4 * 32 >> 4), 1);
    ptx::wgmma_commit_group();
    ptx::wgmma_wait_group<0>();
  }
  use_sums(sums);
}

template <typename Element>
cudaError_t launch_products_sm90(int32_t multiprocessors, cudaStream_t stream) {
  products_sm90<Element><<<static_cast<unsigned>(multiprocessors), kHopperThreads, 0, stream>>>();
  return cudaGetLastError();
}

}  // namespace sieve::products
