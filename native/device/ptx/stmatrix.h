// stmatrix: four 8x8 matrices of 16-bit elements from mma fragments to shared memory (PTX ISA 9.7.14.5.16, sm_90).
#pragma once

#include <cstdint>

namespace sieve::ptx {

// stmatrix.x4: lane l gives the address of row l % 8 of matrix l / 8 and holds row l / 4, columns 2 (l % 4) + {0, 1} of
// each matrix.
__device__ inline void stmatrix_x4(uint32_t address, const uint32_t (&d)[4]) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(address), "r"(d[0]), "r"(d[1]),
               "r"(d[2]), "r"(d[3])
               : "memory");
}

// stmatrix.x4.trans: the same with every matrix transposed.
__device__ inline void stmatrix_x4_trans(uint32_t address, const uint32_t (&d)[4]) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(address), "r"(d[0]),
               "r"(d[1]), "r"(d[2]), "r"(d[3])
               : "memory");
}

}  // namespace sieve::ptx
