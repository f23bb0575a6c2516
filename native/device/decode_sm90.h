// The Hopper decode: the copy engine fills the stages. See decode.h.
//
//   producer warp                                        kWarps consumer warps
//     look pages up one block ahead                        wait full -> attend -> arrive empty, each at its own pace
//     wait empty -> boxes of keys and values -> full       merge
//
// Barriers: full[s]   producer, 1 arrival and the bytes of the stage     -> consumers
//           empty[s]  one lane of every consumer warp, kWarps arrivals   -> producer
//           named barrier kDecodeBarrier: the consumers, before and after they publish
#pragma once

#include "device/decode.h"
#include "device/ptx/mbarrier.h"
#include "device/ptx/tma.h"
#include "device/tensor_map.h"

namespace sieve {

constexpr int kDecodeBarrier = 1;

// A cache is read once and in order: fetching 256 bytes at a time cost 10 % (H200).
constexpr CUtensorMapL2promotion kCachePromotion = CU_TENSOR_MAP_L2_PROMOTION_NONE;

template <class Policy>
struct DecodeSm90Arguments : DecodeArguments<Policy> {
  int32_t box_rows;  // rows of a box: divides the key block and the page
  CUtensorMap key_maps[Policy::Shape::kViews];
  CUtensorMap value_map;
};

template <class Shape>
struct DecodeSm90SharedMemory {
  union {
    DecodeStage<Shape> stages[Shape::kStages];
    DecodeMerge<Shape> merge;  // after the last key block
  };
  uint64_t full[Shape::kStages];
  uint64_t empty[Shape::kStages];
};

// The producer warp: every lane has its own box of 64 channels of box_rows keys (or values).
template <class Policy>
__device__ void produce_cache(DecodeSm90SharedMemory<typename Policy::Shape> &shared,
                              const DecodeSm90Arguments<Policy> &a, const DecodeWork<typename Policy::Shape> &work) {
  using Shape = typename Policy::Shape;
  constexpr int kN = Shape::kKeyBlock, kKeyPanels = Shape::kHeadDim / 64;
  constexpr int kPanels = Shape::kViews * kKeyPanels + Shape::kValueDim / 64;
  const int lane = lane_index();
  const int boxes = kN / a.box_rows;  // of a panel
  const int box = lane % boxes, panels_a_pass = 32 / boxes;
  const int box_key = box * a.box_rows;
  const int32_t *pages =
      a.cache.page_table == nullptr ? nullptr : a.cache.page_table + work.sequence.batch * a.cache.page_table_width;
  const auto find = [&](int block) {
    const int key = block * kN + box_key;
    return pages != nullptr && block < work.end_block && key < work.end_key ? pages[key / a.cache.page_size] : 0;
  };
  int page = find(work.first_block), stage = 0;
  uint32_t phase = 1;
  for (int block = work.first_block; block < work.end_block; ++block) {
    const int next_page = find(block + 1), key = block * kN + box_key;
    const uint32_t full = ptx::shared_address(&shared.full[stage]);
    ptx::mbarrier_wait(ptx::shared_address(&shared.empty[stage]), phase);
    if (lane == 0) {
      // Boxes without a visible key are left out: pages behind the end may not exist.
      const int used = min((work.end_key - block * kN + a.box_rows - 1) / a.box_rows, boxes);
      ptx::mbarrier_arrive_expect_tx(full, static_cast<uint32_t>(used * kPanels * a.box_rows * 128));
    }
    __syncwarp();
    if (key < work.end_key) {
      const int row = pages != nullptr ? key % a.cache.page_size : key;
      const int entry = pages != nullptr ? page : work.sequence.batch;
      const uint32_t target = ptx::shared_address(&shared.stages[stage]) + static_cast<uint32_t>(box_key * 128);
      for (int panel = lane / boxes; panel < kPanels; panel += panels_a_pass) {
        const int view = min(panel / kKeyPanels, Shape::kViews);
        ptx::cp_async_bulk_tensor_4d(target + static_cast<uint32_t>(panel * kN * 128),
                                     view < Shape::kViews ? &a.key_maps[view] : &a.value_map,
                                     (panel - view * kKeyPanels) * 64, row, work.key_head, entry, full);
      }
    }
    page = next_page;
    if (++stage == Shape::kStages) {
      stage = 0;
      phase ^= 1;
    }
  }
}

template <class Policy>
__global__ void __launch_bounds__((Policy::Shape::kWarps + 1) * 32, Policy::Shape::kBlocksPerMultiprocessor)
    decode_sm90(const __grid_constant__ DecodeSm90Arguments<Policy> a) {
  using Shape = typename Policy::Shape;
  using Shared = DecodeSm90SharedMemory<Shape>;
  constexpr int kConsumers = Shape::kWarps * 32;
  static_assert(sizeof(Shared) * Shape::kBlocksPerMultiprocessor <= 227 * 1024, "shared memory of a multiprocessor");
  extern __shared__ __align__(1024) uint8_t raw[];
  Shared &shared = *reinterpret_cast<Shared *>(raw);
  ptx::griddepcontrol_launch_dependents();
  if (threadIdx.x == 0) {
    for (int stage = 0; stage < Shape::kStages; ++stage) {
      ptx::mbarrier_init(ptx::shared_address(&shared.full[stage]), 1);
      ptx::mbarrier_init(ptx::shared_address(&shared.empty[stage]), Shape::kWarps);
    }
    ptx::fence_mbarrier_init();
  }
  const DecodeWork<Shape> work(a.problem, a.result.splits, static_cast<int>(blockIdx.x));
  __syncthreads();

  const int warp = __shfl_sync(0xffffffffu, static_cast<int>(threadIdx.x) / 32, 0);
  if (warp == Shape::kWarps) {
    produce_cache(shared, a, work);
    return;
  }
  DecodeWarp<Policy> rows(a, work, warp);
  int stage = 0;
  uint32_t phase = 0;
  for (int block = work.first_block; block < work.end_block; ++block) {
    ptx::mbarrier_wait(ptx::shared_address(&shared.full[stage]), phase);
    rows.attend(shared.stages[stage], block);
    __syncwarp();
    if (rows.lane == 0) ptx::mbarrier_arrive(ptx::shared_address(&shared.empty[stage]));
    if (++stage == Shape::kStages) {
      stage = 0;
      phase ^= 1;
    }
  }
  ptx::bar_sync(kDecodeBarrier, kConsumers);
  rows.publish(shared.merge, warp);
  ptx::bar_sync(kDecodeBarrier, kConsumers);
  merge_rows(shared.merge, a, work, warp);
}

}  // namespace sieve
