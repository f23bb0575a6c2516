// st.shared: one register to shared memory, by the 32-bit address that ldmatrix and cp.async take.
#pragma once

#include <cstdint>

namespace sieve::ptx {

__device__ inline void store_shared(uint32_t address, uint32_t value) {
  asm volatile("st.shared.b32 [%0], %1;" ::"r"(address), "r"(value) : "memory");
}

}  // namespace sieve::ptx
