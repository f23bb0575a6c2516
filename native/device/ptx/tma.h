// cp.async.bulk.tensor: the copy engine moves boxes of a tensor between global and shared memory (PTX ISA 9.7.9.27,
// sm_90).
#pragma once

#include <cstdint>

namespace sieve::ptx {

// Load of a box of a 4-dimensional tensor; coordinates count elements, innermost first; completes on an mbarrier.
__device__ inline void cp_async_bulk_tensor_4d(uint32_t target, const void *tensor_map, int c0, int c1, int c2, int c3,
                                               uint32_t barrier) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3, %4, %5}], [%6];" ::
          "r"(target),
      "l"(tensor_map), "r"(c0), "r"(c1), "r"(c2), "r"(c3), "r"(barrier)
      : "memory");
}

// cp.async.bulk: `bytes` contiguous bytes, a multiple of 16 at addresses divisible by 16; completes on an mbarrier.
__device__ inline void cp_async_bulk(uint32_t target, const void *source, uint32_t bytes, uint32_t barrier) {
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(target),
               "l"(source), "r"(bytes), "r"(barrier)
               : "memory");
}

// Store of a box from shared memory, part of the next bulk group; what lies behind the tensor is not written. Coordinates
// are 0 or more: with negative ones, which loads allow, a store is an illegal instruction.
__device__ inline void cp_async_bulk_tensor_4d_store(const void *tensor_map, int c0, int c1, int c2, int c3,
                                                     uint32_t source) {
  asm volatile("cp.async.bulk.tensor.4d.global.shared::cta.tile.bulk_group [%0, {%1, %2, %3, %4}], [%5];" ::"l"(
                   tensor_map),
               "r"(c0), "r"(c1), "r"(c2), "r"(c3), "r"(source)
               : "memory");
}

// cp.async.bulk.commit_group: the stores that this thread started since the last one become a bulk group.
__device__ inline void cp_async_bulk_commit_group() {
  asm volatile("cp.async.bulk.commit_group;" ::: "memory");
}

// cp.async.bulk.wait_group.read: all but the latest kPending bulk groups of this thread have read their sources.
template <int kPending>
__device__ inline void cp_async_bulk_wait_group_read() {
  asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(kPending) : "memory");
}

// prefetch.tensormap: brings a descriptor near before its first use.
__device__ inline void prefetch_tensormap(const void *tensor_map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(tensor_map) : "memory");
}

// fence.proxy.async: ordinary stores to shared memory become visible to the copy engine and the tensor cores.
__device__ inline void fence_proxy_async() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

}  // namespace sieve::ptx
