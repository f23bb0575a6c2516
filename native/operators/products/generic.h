// The ceiling of mma.sync: 16 warps a multiprocessor, each with 2 x 8 accumulator tiles of 16 x 8 in registers and
// operands that stay there. Nothing is read in the loop. Registers: 64 accumulators, 8 + 16 operands.
#pragma once

#include "device/ptx/mma.h"
#include "operators/products/operands.h"
#include "operators/products/problem.h"

namespace sieve::products {

constexpr int kGenericThreads = 512;

template <typename Element>
__global__ void __launch_bounds__(kGenericThreads, 1) products_sm80() {
  uint32_t rows[2][4], columns[8][2];
  const uint32_t seed = threadIdx.x * 64;
#pragma unroll
  for (uint32_t i = 0; i < 8; ++i) rows[i / 4][i % 4] = random_pair<Element>(seed + i);
#pragma unroll
  for (uint32_t i = 0; i < 16; ++i) columns[i / 2][i % 2] = random_pair<Element>(seed + 8 + i);
  float sums[2][8][4] = {};
#pragma unroll 2
  for (int round = 0; round < kGenericRounds; ++round)
#pragma unroll
    for (int m = 0; m < 2; ++m)
#pragma unroll
      for (int n = 0; n < 8; ++n) ptx::mma_m16n8k16<Element>(sums[m][n], rows[m], columns[n][0], columns[n][1]);
  use_sums(reinterpret_cast<const float(&)[64]>(sums));
}

template <typename Element>
cudaError_t launch_products_sm80(int32_t multiprocessors, cudaStream_t stream) {
  products_sm80<Element><<<static_cast<unsigned>(multiprocessors), kGenericThreads, 0, stream>>>();
  return cudaGetLastError();
}

}  // namespace sieve::products
