// The generic decode: compute capability 8.0 and newer, cp.async. See decode.h.
//
//   every thread copies its 16-byte pieces; for each key block:
//     wait for its copies -> __syncthreads -> start the copies of a later block -> attend
//
// Every 16 keys lie in one page, so their place is one offset; threads look pages up one block ahead of the copies, and
// pass the offsets on through shared memory. Keys from the end on are filled with zeros and never read.
#pragma once

#include "device/decode.h"

namespace sieve {

template <class Shape>
struct DecodeSm80SharedMemory {
  union {
    DecodeStage<Shape> stages[Shape::kStages];
    DecodeMerge<Shape> merge;  // after the last key block
  };
  int64_t offsets[Shape::kStages][Shape::kViews + 1][Shape::kKeyBlock / 16];  // elements, of every 16 keys
};

// Brings key blocks into the stages, in order.
template <class Policy>
struct CacheCopies {
  using Shape = typename Policy::Shape;
  using Shared = DecodeSm80SharedMemory<Shape>;
  static constexpr int kN = Shape::kKeyBlock, kThreads = Shape::kWarps * 32, kGroups = kN / 16;
  static_assert(kThreads >= kGroups, "a thread for every 16 keys");

  Shared &shared;
  const DecodeArguments<Policy> &a;
  const DecodeWork<Shape> &work;
  int page = 0;  // of this thread's 16 keys of the next block to publish

  __device__ int group_key(int block) const { return block * kN + static_cast<int>(threadIdx.x) * 16; }
  __device__ bool is_publisher(int block) const {
    return static_cast<int>(threadIdx.x) < kGroups && block < work.end_block && group_key(block) < work.end_key;
  }

  // Looks the pages of a block up; the answer is used by publish.
  __device__ void find(int block) {
    if (a.cache.page_table == nullptr || !is_publisher(block)) return;
    page = a.cache.page_table[work.sequence.batch * a.cache.page_table_width + group_key(block) / a.cache.page_size];
  }

  __device__ void publish(int block, int stage) {
    if (!is_publisher(block)) return;
    const bool paged = a.cache.page_table != nullptr;
    const int entry = paged ? page : work.sequence.batch;
    const int row = paged ? group_key(block) % a.cache.page_size : group_key(block);
#pragma unroll
    for (int tensor = 0; tensor <= Shape::kViews; ++tensor) {
      const TensorView &view = tensor < Shape::kViews ? a.key[tensor] : a.value;
      shared.offsets[stage][tensor][threadIdx.x] =
          entry * view.batch_stride + work.key_head * view.head_stride + row * view.row_stride;
    }
  }

  template <int kChannels>
  __device__ void copy(uint8_t *target, const TensorView &view, const int64_t (&offsets)[kGroups], int channels,
                       int valid) const {
    constexpr int kChunks = kChannels / 8, kRowsPerPass = kThreads / kChunks;
    static_assert(kThreads % kChunks == 0 && kN % kRowsPerPass == 0, "whole rows a pass, whole passes a block");
    const int thread = ptx::mov_here(static_cast<int>(threadIdx.x));  // addresses are recomputed, not kept
    const int chunk = thread % kChunks, first = thread / kChunks;
    const uint16_t *source = static_cast<const uint16_t *>(view.data) + chunk * 8;
    const uint32_t panel = ptx::shared_address(target) + chunk / 8 * kN * 128;
    if (chunk * 8 >= channels) valid = 0;
#pragma unroll
    for (int pass = 0; pass < kN / kRowsPerPass; ++pass) {
      const int row = first + pass * kRowsPerPass;
      // A copy of no bytes reads nothing, whatever its address.
      ptx::cp_async_16(panel + Panel<kN>::offset(row, chunk % 8),
                       source + offsets[row / 16] + row % 16 * view.row_stride, row < valid ? 16 : 0);
    }
  }

  __device__ void start(int block, int stage) const {
    if (block < work.end_block) {
      const int valid = work.end_key - block * kN;
#pragma unroll
      for (int view = 0; view < Shape::kViews; ++view)
        copy<Shape::kHeadDim>(shared.stages[stage].key[view], a.key[view], shared.offsets[stage][view], a.head_dim,
                              valid);
      copy<Shape::kValueDim>(shared.stages[stage].value, a.value, shared.offsets[stage][Shape::kViews],
                             a.result.value_dim, valid);
    }
    ptx::cp_async_commit_group();
  }
};

template <class Policy>
__global__ void __launch_bounds__(Policy::Shape::kWarps * 32, Policy::Shape::kBlocksPerMultiprocessor)
    decode_sm80(const __grid_constant__ DecodeArguments<Policy> a) {
  using Shape = typename Policy::Shape;
  using Shared = DecodeSm80SharedMemory<Shape>;
  constexpr int kStages = Shape::kStages;
  static_assert(kStages >= 2, "one stage is computed on while another is filled");
  static_assert(sizeof(Shared) <= 99 * 1024, "the least shared memory of capability 8.0 and newer");
  extern __shared__ __align__(1024) uint8_t raw[];
  Shared &shared = *reinterpret_cast<Shared *>(raw);
  ptx::griddepcontrol_launch_dependents();

  const DecodeWork<Shape> work(a.problem, a.result.splits, static_cast<int>(blockIdx.x));
  CacheCopies<Policy> copies{shared, a, work};
  for (int stage = 0; stage < kStages - 1; ++stage) {
    copies.find(work.first_block + stage);
    copies.publish(work.first_block + stage, stage);
  }
  __syncthreads();
  for (int stage = 0; stage < kStages - 1; ++stage) copies.start(work.first_block + stage, stage);
  copies.find(work.first_block + kStages - 1);

  const int warp = __shfl_sync(0xffffffffu, static_cast<int>(threadIdx.x) / 32, 0);
  DecodeWarp<Policy> rows(a, work, warp);
  int stage = 0;
  for (int block = work.first_block; block < work.end_block; ++block) {
    const int later = block + kStages - 1, later_stage = stage == 0 ? kStages - 1 : stage - 1;
    ptx::cp_async_wait_group<kStages - 2>();
    copies.publish(later, later_stage);
    __syncthreads();  // this stage has arrived for everyone, and everyone has left the stage that is filled next
    copies.start(later, later_stage);
    copies.find(later + 1);
    rows.attend(shared.stages[stage], block);
    stage = stage == kStages - 1 ? 0 : stage + 1;
  }
  ptx::cp_async_wait_group<0>();
  __syncthreads();
  rows.publish(shared.merge, warp);
  __syncthreads();
  merge_rows(shared.merge, a, work, warp);
}

}  // namespace sieve
