// wgmma on signed bytes: D[64 x 64] (+)= A[64 x 32] B[32 x 64] in 32-bit integers (PTX ISA 9.7.15, sm_90a).
//
// A comes from registers in the layout of mma.m16n8k32, B from shared memory with K contiguous. Accumulators lie as
// those of wgmma.h.
#pragma once

#include <cstdint>

namespace sieve::ptx {

// The 64-bit matrix descriptor of a tile of rows of kRowBytes = 64 or 128, swizzled over that many bytes.
template <int kRowBytes>
__device__ inline uint64_t byte_matrix_descriptor(uint32_t address) {
  static_assert(kRowBytes == 64 || kRowBytes == 128, "a swizzle of the copy engine");
  return (uint64_t{kRowBytes == 128 ? 1 : 2} << 62) | (uint64_t{kRowBytes * 8 >> 4} << 32) |
         static_cast<uint64_t>((address & 0x3ffff) >> 4);
}

// d = a b (accumulate = 0) or d += a b.
__device__ inline void wgmma_m64n64k32(int32_t (&d)[32], const uint32_t (&a)[4], uint64_t b, int accumulate) {
  asm volatile(
      "{\n.reg .pred p;\nsetp.ne.b32 p, %37, 0;\nwgmma.mma_async.sync.aligned.m64n64k32.s32.s8.s8 {%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, {%32, %33, %34, %35}, %36, p;\n}"
      : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3]), "+r"(d[4]), "+r"(d[5]), "+r"(d[6]), "+r"(d[7]), "+r"(d[8]),
        "+r"(d[9]), "+r"(d[10]), "+r"(d[11]), "+r"(d[12]), "+r"(d[13]), "+r"(d[14]), "+r"(d[15]), "+r"(d[16]),
        "+r"(d[17]), "+r"(d[18]), "+r"(d[19]), "+r"(d[20]), "+r"(d[21]), "+r"(d[22]), "+r"(d[23]), "+r"(d[24]),
        "+r"(d[25]), "+r"(d[26]), "+r"(d[27]), "+r"(d[28]), "+r"(d[29]), "+r"(d[30]), "+r"(d[31])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(accumulate));
}

}  // namespace sieve::ptx
