// red, ld.acquire, st.release: sums in global memory, and the turns in which they may have to be taken.
#pragma once

#include <cstdint>

namespace sieve::ptx {

// red.global.add.f32.
__device__ inline void red_add(float *address, float d) {
  asm volatile("red.relaxed.gpu.global.add.f32 [%0], %1;" ::"l"(address), "f"(d) : "memory");
}

// red.global.add.v4.f32: adds four neighbouring floats, each atomically (PTX ISA 9.7.13.7, sm_90); before, one by one.
__device__ inline void red_add_v4(float *address, const float (&d)[4]) {
#if __CUDA_ARCH__ >= 900
  asm volatile("red.relaxed.gpu.global.add.v4.f32 [%0], {%1, %2, %3, %4};" ::"l"(address), "f"(d[0]), "f"(d[1]),
               "f"(d[2]), "f"(d[3])
               : "memory");
#else
  for (int i = 0; i < 4; ++i) red_add(address + i, d[i]);
#endif
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
