// mma.sync.m16n8k32: the tensor-core product of one warp on signed bytes (PTX ISA 9.7.14.5.10, sm_80).
//
// Fragments of lane l, g = l / 4, t = l % 4: a = rows g, g + 8 x columns 4t .. 4t + 3 (a[0], a[1]), the same + 16 (a[2],
// a[3]); b = rows (k) 4t .. 4t + 3 (+16) of column g; d = row g columns 2t, 2t + 1 in d[0..1], row g + 8 in d[2..3].
#pragma once

#include <cstdint>

namespace sieve::ptx {

__device__ inline void mma_m16n8k32(int32_t (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

}  // namespace sieve::ptx
