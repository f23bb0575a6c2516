// red, ld.acquire, st.release: sums in global memory, and the turns in which they may have to be taken.
#pragma once

#include <cstdint>

namespace sieve::ptx {

// red.global.add.v4.f32: adds four neighbouring floats, each atomically (PTX ISA 9.7.13.7, sm_90).
__device__ inline void red_add_v4(float *address, const float (&d)[4]) {
  asm volatile("red.relaxed.gpu.global.add.v4.f32 [%0], {%1, %2, %3, %4};" ::"l"(address), "f"(d[0]), "f"(d[1]),
               "f"(d[2]), "f"(d[3])
               : "memory");
}

// ld.acquire.gpu: what other blocks wrote before their release is visible after it.
__device__ inline int32_t load_acquire(const int32_t *address) {
  int32_t d;
  asm volatile("ld.acquire.gpu.global.b32 %0, [%1];" : "=r"(d) : "l"(address) : "memory");
  return d;
}

// st.release.gpu.
__device__ inline void store_release(int32_t *address, int32_t value) {
  asm volatile("st.release.gpu.global.b32 [%0], %1;" ::"l"(address), "r"(value) : "memory");
}

}  // namespace sieve::ptx
