// ldmatrix: four 8x8 matrices of 16-bit elements from shared memory into mma fragments (PTX ISA 9.7.14.5.15).
#pragma once

#include <cstdint>

namespace sieve::ptx {

// ldmatrix.x4: lane l gives the address of row l % 8 of matrix l / 8; every lane receives row l / 4, columns 2 (l % 4)
// + {0, 1}.
__device__ inline void ldmatrix_x4(uint32_t (&d)[4], uint32_t address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3])
               : "r"(address)
               : "memory");
}

// ldmatrix.x4.trans: the same with every matrix transposed.
__device__ inline void ldmatrix_x4_trans(uint32_t (&d)[4], uint32_t address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3])
               : "r"(address)
               : "memory");
}

}  // namespace sieve::ptx
