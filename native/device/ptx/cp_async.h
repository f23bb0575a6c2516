// cp.async: copies from global to shared memory that run beside the arithmetic (PTX ISA 9.7.9.25, sm_80).
#pragma once

#include <cstdint>

namespace sieve::ptx {

// cp.async.cg.shared.global 16 bytes; bytes < 16 fills the rest with zeros (0 reads nothing).
__device__ inline void cp_async_16(uint32_t target, const void *source, int bytes) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(target), "l"(source), "r"(bytes) : "memory");
}

// cp.async.ca.shared.global 8 bytes; bytes 0 fills with zeros.
__device__ inline void cp_async_8(uint32_t target, const void *source, int bytes) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 8, %2;" ::"r"(target), "l"(source), "r"(bytes) : "memory");
}

// cp.async.ca.shared.global 4 bytes; bytes 0 fills with zeros.
__device__ inline void cp_async_4(uint32_t target, const void *source, int bytes) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(target), "l"(source), "r"(bytes) : "memory");
}

// cp.async.commit_group: closes the group of this thread's copies since the last commit.
__device__ inline void cp_async_commit_group() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}

// cp.async.wait_group: waits until at most kPending of this thread's groups are unfinished.
template <int kPending>
__device__ inline void cp_async_wait_group() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

// cp.async.mbarrier.arrive.noinc: arrives on an mbarrier once all copies of this thread so far have landed (sm_80).
__device__ inline void cp_async_mbarrier_arrive(uint32_t barrier) {
  asm volatile("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];" ::"r"(barrier) : "memory");
}

// The 32-bit shared-window address that the instructions of this folder take.
__device__ inline uint32_t shared_address(const void *pointer) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

}  // namespace sieve::ptx
