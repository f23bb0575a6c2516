// The producer of the Hopper forward pipeline: one thread hands out tiles and starts the copies.
#pragma once

#include "device/forward_sm90_parts.h"

namespace sieve {

template <class Policy>
struct ForwardSm90Producer : ForwardSm90Parts<Policy> {
  using Parts = ForwardSm90Parts<Policy>;
  using Parts::address;
  using Parts::kN;
  using Parts::next_tile;
  using typename Parts::Arguments;
  using typename Parts::QueryRing;
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

  // Head of the query tensor that a view of a tile reads.
  __device__ static int query_head(const Arguments &a, int head, int view) {
    if constexpr (Shape::kStreams > 1)
      return Policy::query_head(a.policy, head, view);
    else
      return head;
  }

  // One thread: numbers of tiles, queries, keys, values.
  __device__ static void produce(Shared &shared, const Arguments &a) {
    ForwardSm90Barriers<Shape> &b = shared.barriers;
    Ring ring;
    RingCursor<2> slot;
    QueryRing query;
    for (int tile = static_cast<int>(blockIdx.x);;) {
      ptx::mbarrier_wait(address(&b.tile_empty[slot.stage]), slot.phase ^ 1);
      shared.tile[slot.stage] = tile;
      ptx::mbarrier_arrive(address(&b.tile_full[slot.stage]));
      slot.advance();
      if (tile >= a.tiles) return;
      const Work work(a.problem, a.order, tile);
      const int key_head = work.place.head / a.problem.group, batch = work.sequence.batch;
      if (work.has_keys()) {
        uint64_t *query_full = &b.query_full[query.stage];
        ptx::mbarrier_wait(address(&b.query_empty[query.stage]), query.phase ^ 1);
        ptx::mbarrier_arrive_expect_tx(address(query_full), sizeof(typename Shared::Query));
        for (int view = 0; view < Shared::kQueryViews; ++view)
          load_tile<Shape::kRows, Shared::kHeadPanels>(shared.queries[query.stage].view[view], a.query[view],
                                                       work.sequence.query_start + work.block_row,
                                                       query_head(a, work.place.head, view), batch, query_full);
        query.advance();
      }
      // Asked for before the last waits of the tile, which hide its way to memory and back.
      const auto next = [&] { return static_cast<int>(gridDim.x) + atomicAdd(a.next_tile, 1); };
      int following = work.has_keys() ? 0 : next();
      for (int block = work.end_block - 1; block >= work.first_block; --block) {
        if (block == work.first_block) following = next();
        typename Shared::Stage &stage = shared.stages[ring.stage];
        const int row = work.sequence.key_start + block * kN;
        uint64_t *key_full = &b.key_full[ring.stage], *value_full = &b.value_full[ring.stage];
        ptx::mbarrier_wait(address(&b.key_empty[ring.stage]), ring.phase ^ 1);
        ptx::mbarrier_arrive_expect_tx(address(key_full), sizeof stage.key);
        for (int view = 0; view < Shared::kKeyViews; ++view)
          load_tile<kN, Shared::kHeadPanels>(stage.key[view], a.key[view], row, key_head, batch, key_full);
        ptx::mbarrier_wait(address(&b.value_empty[ring.stage]), ring.phase ^ 1);
        ptx::mbarrier_arrive_expect_tx(address(value_full), sizeof stage.value);
        load_tile<kN, Shared::kValuePanels>(stage.value, a.value, row, key_head, batch, value_full);
        ring.advance();
      }
      tile = following;
    }
  }
};

}  // namespace sieve
