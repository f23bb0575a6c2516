// The producer warpgroup of the sparse Hopper forward pipeline: warp 0 hands out tiles and starts the copies, warp 1
// brings the floats that belong to keys.
#pragma once

#include "device/sparse_forward_sm90_parts.h"

namespace sieve {

template <class Policy>
struct SparseForwardSm90Producer : SparseForwardSm90Parts<Policy> {
  using Parts = SparseForwardSm90Parts<Policy>;
  using Parts::address;
  using Parts::kBlock;
  using Parts::kImages;
  using Parts::kN;
  using Parts::kViews;
  using Parts::release;
  using Parts::scalar_place;
  using Parts::tile_arrives;
  using typename Parts::Arguments;
  using typename Parts::Ring;
  using typename Parts::Shape;
  using typename Parts::Shared;
  using typename Parts::Work;

  template <int kRows, int kPanels>
  __device__ static void load_tile(void *target, const CUtensorMap &map, int row, int head, int batch,
                                   uint64_t *barrier) {
#pragma unroll
    for (int panel = 0; panel < kPanels; ++panel)
      ptx::cp_async_bulk_tensor_4d(address(target) + panel * kRows * 128, &map, panel * 64, row, head, batch,
                                   address(barrier));
  }

  // Keys and values of a block, or images of its keys.
  __device__ static void load_stage(typename Shared::Stage &stage, const Arguments &a, int row, int head, int batch,
                                    uint64_t *full) {
    if constexpr (kImages) {
      for (int view = 0; view < kViews; ++view)
        ptx::cp_async_bulk_tensor_4d(address(stage.key[view]), &a.key[view], 0, row, head, batch, address(full));
    } else {
      for (int view = 0; view < kViews; ++view)
        load_tile<kBlock, Shared::kHeadPanels>(stage.key[view], a.key[view], row, head, batch, full);
      load_tile<kBlock, Shared::kValuePanels>(stage.value, a.value, row, head, batch, full);
    }
  }

  // One thread: numbers of tiles, queries, keys, values.
  __device__ static void produce(Shared &shared, const Arguments &a) {
    SparseForwardSm90Barriers<Shape> &b = shared.barriers;
    Ring ring;
    PairCursor slot;
    for (int tile = ptx::ctaid_x();; slot.advance()) {
      ptx::mbarrier_wait(address(&b.tile_empty[slot.stage()]), slot.phase() ^ 1);
      typename Shared::Tile &place = shared.tiles[slot.stage()];
      place.work = Work(a.problem, a.order, min(tile, a.tiles - 1));
      place.key_head = place.work.place.head / a.problem.group;
      place.exists = tile < a.tiles;
      ptx::mbarrier_arrive(address(&b.tile_full[slot.stage()]));
      if (tile >= a.tiles) return;
      const Work &work = place.work;
      ptx::mbarrier_wait(address(&b.query_empty), slot.stage() ^ 1);  // a phase a tile
      ptx::mbarrier_arrive_expect_tx(address(&b.query_full), sizeof(typename Shared::Query));
      for (int view = 0; view < kViews; ++view)
        load_tile<Shape::kRows, Shared::kHeadPanels>(shared.query.view[view], a.query[view],
                                                     work.sequence.query_start + work.block_row, work.place.head,
                                                     work.sequence.batch, &b.query_full);
      // Asked for before the waits of the tile, which hide its way to memory and back.
      place.following = static_cast<int>(gridDim.x) + atomicAdd(a.next_tile, 1);
      for (int block = work.end_block - 1; block >= work.first_block; --block, ring.advance()) {
        typename Shared::Stage &stage = shared.stages[ring.stage];
        const int row = work.sequence.key_start + block * kBlock;
        uint64_t *full = &b.stage_full[ring.stage];
        ptx::mbarrier_wait(address(&b.stage_empty[ring.stage]), ring.phase ^ 1);
        ptx::mbarrier_arrive_expect_tx(address(full), sizeof stage);
        load_stage(stage, a, row, place.key_head, work.sequence.batch, full);
      }
      tile = place.following;
    }
  }

  // One warp: the floats that belong to the keys. They lie at any address, so the copy engine cannot bring them; copies
  // of single words can, and the warp never waits for memory.
  __device__ static void produce_scalars(Shared &shared, const Arguments &a) {
    SparseForwardSm90Barriers<Shape> &b = shared.barriers;
    Ring ring;
    PairCursor slot;
    for (; tile_arrives(shared, slot); slot.advance()) {
      const Work &work = shared.tiles[slot.stage()].work;
      const int64_t head = Policy::key_head_index(a.problem, work.sequence.batch, shared.tiles[slot.stage()].key_head);
      const int64_t start = head * Policy::key_rows(a.policy) + work.sequence.key_start;
      for (int block = work.end_block - 1; block >= work.first_block; --block, ring.advance()) {
        ptx::mbarrier_wait(address(&b.stage_empty[ring.stage]), ring.phase ^ 1);
        const int first = block * kBlock, valid = work.sequence.keys - first;
#pragma unroll
        for (int view = 0; view < kViews; ++view)
#pragma unroll 1
          for (int i = lane_index(); i < kBlock; i += 32)
            ptx::cp_async_4(address(&shared.key_scalars[ring.stage][view][scalar_place(i)]),
                            Policy::key_scalars(a.policy, view) + start + (i < valid ? first + i : 0),
                            i < valid ? 4 : 0);
        if constexpr (kImages) {
          // 64 keys of a packed sequence may lie in two groups of the tensor.
          constexpr int kCopies = 2 * kBlock / kN;
          const int lane = lane_index(), chunk = lane / 2 % (kBlock / kN), view = lane / kCopies;
          const int key = work.sequence.key_start + first + chunk * kN + (lane % 2) * (kN - 1);
          if (view < kViews)
            ptx::cp_async_4(address(&shared.distances[ring.stage][view][chunk][lane % 2]),
                            Policy::key_distances(a.policy, head, kViews == 2 && view == 1, key), 4);
        }
        ptx::cp_async_mbarrier_arrive(address(&b.stage_full[ring.stage]));  // every lane for what it copied
      }
      release(b.tile_empty[slot.stage()]);
    }
  }
};

}  // namespace sieve
