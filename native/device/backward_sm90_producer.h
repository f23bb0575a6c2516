// The producer of the Hopper backward pipeline: one thread starts all copies.
#pragma once

#include "device/backward_sm90_parts.h"
#include "device/ptx/tma.h"

namespace sieve {

template <class Policy>
struct BackwardSm90Producer : BackwardSm90Parts<Policy> {
  using Parts = BackwardSm90Parts<Policy>;
  using Parts::address;
  using Parts::kD;
  using Parts::kM;
  using Parts::kN;
  using Parts::kV;
  using typename Parts::Arguments;
  using typename Parts::Ring;
  using typename Parts::Shape;
  using typename Parts::Shared;
  using typename Parts::Work;

  template <int kRows, int kChannels>
  __device__ static void load_tile(void *target, const CUtensorMap &map, int row, int head, int batch,
                                   uint64_t *barrier) {
#pragma unroll
    for (int panel = 0; panel < kChannels / 64; ++panel)
      ptx::cp_async_bulk_tensor_4d(address(target) + panel * kRows * 128, &map, panel * 64, row, head, batch,
                                   address(barrier));
  }

  // One thread: keys and values, then for every tile its visit, queries, doutput.
  __device__ static void produce(Shared &shared, const Arguments &a) {
    BackwardSm90Barriers<Shape> &b = shared.barriers;
    const Work &work = shared.work;
    const int batch = work.sequence.batch, tiles = work.tiles;
    if (tiles == 0) return;
    ptx::mbarrier_arrive_expect_tx(address(&b.key_full), sizeof shared.key + sizeof shared.value);
    const int key_row = work.sequence.key_start + work.first_key;
    load_tile<kN, kD>(shared.key, a.key, key_row, work.place.key_head, batch, &b.key_full);
    load_tile<kN, kV>(shared.value, a.value, key_row, work.place.key_head, batch, &b.key_full);
    // Where the order of summation is free, thread blocks that see the same tiles begin each with another one, so that
    // they do not meet at its sums.
    const int start = Shape::kOrdered || a.problem.causal ? 0 : work.place.key_block * (kN / kM) % tiles;
    Ring ring;
    const int first_head = work.place.key_head * a.problem.group;
#pragma unroll 1
    for (int head = first_head; head < first_head + a.problem.group; ++head) {
#pragma unroll 1
      for (int step = 0; step < tiles; ++step) {
        const int stage = ring.stage;
        const int tile = work.first_tile + (start + step < tiles ? start + step : start + step - tiles);
        ptx::mbarrier_wait(address(&b.query_empty[stage]), ring.phase ^ 1);
        QueryTileVisit &visit = shared.visits[ring.phase][stage];
        visit.tile64 = (head * a.rows.padded_rows + work.padded_row) / 64 + tile * (kM / 64);
        visit.tile = tile;
        visit.is_masked = work.is_masked(a.problem, tile);
        visit.is_last = step + 1 == tiles && head + 1 == first_head + a.problem.group;
        if constexpr (Shape::kOrdered) visit.turn = work.turn(a.problem, tile);
        copy_tile(shared, a, ring, head, tile);
        ring.advance();
      }
    }
  }

  __device__ static void copy_tile(Shared &shared, const Arguments &a, const Ring &ring, int head, int tile) {
    const int stage = ring.stage, batch = shared.work.sequence.batch;
    const int row = shared.work.sequence.query_start + tile * kM;
    const int64_t padded = head * a.rows.padded_rows + shared.work.padded_row + tile * kM;
    constexpr int kRowBytes = kM * static_cast<int>(sizeof(float));
    uint64_t *query_full = &shared.barriers.query_full[stage], *output_full = &shared.barriers.output_full[stage];
    ptx::mbarrier_arrive_expect_tx(address(query_full), sizeof shared.query[0] + (1 + Shape::kRowFactors) * kRowBytes);
    load_tile<kM, kD>(shared.query[stage], a.query, row, head, batch, query_full);
    ptx::cp_async_bulk(address(shared.shifts[stage]), a.rows.shifts + padded, kRowBytes, address(query_full));
    if constexpr (Shape::kRowFactors)
      ptx::cp_async_bulk(address(shared.factors[stage]), a.rows.factors + padded, kRowBytes, address(query_full));
    ptx::mbarrier_wait(address(&shared.barriers.output_empty[stage]), ring.phase ^ 1);
    ptx::mbarrier_arrive_expect_tx(address(output_full), sizeof shared.output_gradient[0] + kRowBytes);
    load_tile<kM, kV>(shared.output_gradient[stage], a.output_gradient, row, head, batch, output_full);
    ptx::cp_async_bulk(address(shared.deltas[stage]), a.rows.deltas + padded, kRowBytes, address(output_full));
  }
};

}  // namespace sieve
