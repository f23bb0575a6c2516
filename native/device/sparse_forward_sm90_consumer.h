// A consumer warpgroup of the sparse Hopper forward pipeline. Its warps only meet in the products of scores.
#pragma once

#include "device/epilogue.h"
#include "device/ptx/warpgroup.h"
#include "device/ptx/wgmma.h"
#include "device/rows.h"
#include "device/sparse_forward_sm90_parts.h"

namespace sieve {

template <class Policy>
struct SparseForwardSm90Consumer : SparseForwardSm90Parts<Policy> {
  using Parts = SparseForwardSm90Parts<Policy>;
  using Parts::address;
  using Parts::kBlock;
  using Parts::kConsumerBarrier;
  using Parts::kD;
  using Parts::kN;
  using Parts::kV;
  using Parts::kViews;
  using Parts::release;
  using Parts::tile_arrives;
  using typename Parts::Arguments;
  using typename Parts::Element;
  using typename Parts::Ring;
  using typename Parts::Shape;
  using typename Parts::Shared;
  using typename Parts::Work;
  using Panel = SharedTile<16, 64>;

  Shared &shared;
  const Arguments &a;
  const int index;  // of the consumer
  const int warp;   // of all consumers
  Ring ring;
  PairCursor tile;

  uint32_t query[kViews][kD / 16][4];
  float scores[kViews][kN / 8][4];
  Accumulators<1, kV> output;
  float limits[kViews][2];  // Policy::screen compares with them, rows g and g + 8

  // Read anew where they are needed.
  __device__ int lane() const { return ptx::mov_here(static_cast<int>(threadIdx.x)) & 31; }
  __device__ int warp_row() const { return warp * 16; }
  __device__ const Work &work() const { return shared.tiles[tile.stage()].work; }
  __device__ const RowsKeys &keys() const { return shared.rows_keys[warp]; }
  __device__ RowScalars<Shape::kRows> row_scalars() const { return {&shared.row_scalars[0][warp_row() + lane() / 4]}; }
  __device__ bool is_masked(int first) const { return first < keys().common_first || first + kN > keys().common_end; }

  __device__ void load_queries() {
    const int lane = this->lane();
#pragma unroll
    for (int view = 0; view < kViews; ++view) {
      const uint32_t first = address(shared.query.view[view]) + warp_row() * 128 + Panel::offset(lane & 15, lane >> 4);
#pragma unroll
      for (int k = 0; k < kD / 16; ++k)
        ptx::ldmatrix_x4(query[view][k], Panel::step(first, k % 4) + k / 4 * Shape::kRows * 128);
    }
  }

  __device__ void start_scores(int view, int chunk) {
    const uint64_t key = ptx::matrix_descriptor(address(shared.stages[ring.stage].key[view]) + chunk * 128, 0);
    auto &d = reinterpret_cast<float(&)[kN / 2]>(scores[view]);
#pragma unroll
    for (int k = 0; k < kD / 16; ++k)
      ptx::Wgmma<Element, kN, false>::registers(d, query[view][k], key + ((k / 4 * kBlock * 128 + k % 4 * 32) >> 4),
                                                k > 0);
    ptx::wgmma_commit_group();
  }

  // This lane's floats of 16 keys and more.
  __device__ const float *key_scalars(int key) const {
    return &shared.key_scalars[ring.stage][0][key + 4 * (lane() & 3)];
  }

  // Sign bits of signs[i] stay set where no score of this view with the keys [16 i, 16 i + 16) may have a weight.
  __device__ void screen(int view, const float *scalars, uint32_t (&signs)[kN / 16]) const {
#pragma unroll
    for (int piece = 0; piece < kN / 16; ++piece) {
      const float4 scalar = *reinterpret_cast<const float4 *>(scalars + view * kBlock + piece * 16);
#pragma unroll
      for (int n = 0; n < 2; ++n) {
        const float(&s)[4] = scores[view][2 * piece + n];
        const float left = n == 0 ? scalar.x : scalar.z, right = n == 0 ? scalar.y : scalar.w;
        signs[piece] &= Policy::screen(s[0], left, limits[view][0]) & Policy::screen(s[1], right, limits[view][0]);
        signs[piece] &= Policy::screen(s[2], left, limits[view][1]) & Policy::screen(s[3], right, limits[view][1]);
      }
    }
  }

  // Pieces of 16 keys that hold a candidate for this warp, one bit each.
  __device__ uint32_t candidates(const uint32_t (&signs)[kN / 16]) const {
    uint32_t all = signs[0], pieces = 0;
#pragma unroll
    for (int piece = 1; piece < kN / 16; ++piece) all &= signs[piece];
    if (!__any_sync(0xffffffffu, static_cast<int32_t>(all) >= 0)) return 0;
#pragma unroll
    for (int piece = 0; piece < kN / 16; ++piece)
      pieces |= __any_sync(0xffffffffu, static_cast<int32_t>(signs[piece]) >= 0) << piece;
    return pieces;
  }

  // The scores that count: of this warp's rows and 16 keys, first one at row `key` of the stage.
  __device__ void score_exactly(float (&exact)[kViews][2][4], int key) const {
    const int lane = this->lane();
#pragma unroll
    for (int view = 0; view < kViews; ++view) {
      const uint32_t first = address(shared.stages[ring.stage].key[view]) + key * 128 +
                             Panel::offset((lane & 7) + ((lane >> 4) << 3), (lane >> 3) & 1);
#pragma unroll
      for (int n = 0; n < 2; ++n)
#pragma unroll
        for (int e = 0; e < 4; ++e) exact[view][n][e] = 0.0f;
#pragma unroll
      for (int k = 0; k < kD / 16; ++k) {
        uint32_t keys[4];
        ptx::ldmatrix_x4(keys, Panel::step(first, k % 4) + k / 4 * kBlock * 128);
        ptx::mma_m16n8k16<Element>(exact[view][0], query[view][k], keys[0], keys[1]);
        ptx::mma_m16n8k16<Element>(exact[view][1], query[view][k], keys[2], keys[3]);
      }
    }
  }

  // Where the values of 16 keys lie for ldmatrix; fetches them where the copy engine left them out.
  struct Values {
    uint32_t first;
    int panel_bytes;
  };
  __device__ Values values_of(int block, int key) {
    const int lane = this->lane();
    if (shared.has_values[ring.stage])
      return {
          address(shared.stages[ring.stage].value) + (key - block * kBlock) * 128 + Panel::offset(lane & 15, lane >> 4),
          kBlock * 128};
    const uint32_t target = address(shared.fetched[warp]);
    const Sequence &sequence = work().sequence;
    const int64_t row = sequence.key_start + static_cast<int64_t>(key);
    const uint16_t *source =
        static_cast<const uint16_t *>(a.value_rows.row(sequence.batch, work().place.head / a.problem.group, row, 2));
    constexpr int kChunks = Shared::kValuePanels * 8;
    __syncwarp();  // the values before these have been read
#pragma unroll
    for (int i = 0; i < kChunks / 2; ++i) {
      const int piece = i * 32 + lane, r = piece / kChunks, c = piece % kChunks;
      const bool inside = key + r < sequence.keys && c * 8 < a.value_dim;
      ptx::cp_async_16(target + c / 8 * 16 * 128 + Panel::offset(r, c % 8),
                       source + r * a.value_rows.row_stride + c * 8, inside ? 16 : 0);
    }
    ptx::cp_async_commit_group();
    ptx::cp_async_wait_group<0>();
    __syncwarp();
    return {target + Panel::offset(lane & 15, lane >> 4), 16 * 128};
  }

  __device__ void add_values(const uint32_t (&weights)[4], const Values &values, bool masked) {
    const uint32_t row[1][4] = {{weights[0], weights[1], weights[2], weights[3]}};
#pragma unroll
    for (int n = 0; n < kV / 16; ++n) {
      uint32_t value[4];
      ptx::ldmatrix_x4_trans(value, Panel::step(values.first, n % 4) + n / 4 * values.panel_bytes);
      // Rows that see different keys: a NaN among the values must stay with those that see it.
      if (masked) contained_product<Element, 1, kV>(output, 2 * n, row, value);
      ptx::mma_m16n8k16<Element>(output[0][2 * n], row[0], value[0], value[1]);
      ptx::mma_m16n8k16<Element>(output[0][2 * n + 1], row[0], value[2], value[3]);
    }
  }

  // Candidates of a chunk, exactly, 16 keys at a time.
  __device__ void add_pieces(int block, int chunk, uint32_t pieces, bool masked) {
    const ThreadRows rows{work().block_row + warp_row() + lane() / 4};
#pragma unroll 1
    for (int key = chunk; pieces != 0; key += 16, pieces >>= 1) {
      if ((pieces & 1) == 0) continue;
      float exact[kViews][2][4];
      score_exactly(exact, key);
      uint32_t weights[4];
      const int first = block * kBlock + key;
      const ChunkMask mask{a.problem, work().sequence, rows.first, first + 2 * (lane() & 3), masked};
      if (!Policy::weigh(exact, key_scalars(key), row_scalars(), rows, mask, a.policy, work().place.head, weights))
        continue;
      shared.values_wanted = Shape::kValueLinger;
      add_values(weights, values_of(block, first), masked);
    }
  }

  __device__ void attend() {
    SparseForwardSm90Barriers<Shape> &b = shared.barriers;
    for (int block = work().end_block - 1; block >= work().first_block; --block) {
      ptx::mbarrier_wait(address(&b.stage_full[ring.stage]), ring.phase);
#pragma unroll 1
      for (int chunk = 0; chunk < kBlock; chunk += kN) {
        const int first = block * kBlock + chunk;
        if (first < keys().first_chunk * kN || first >= keys().end_chunk * kN) continue;
        ptx::wgmma_fence();
#pragma unroll
        for (int view = 0; view < kViews; ++view) start_scores(view, chunk);
        const float *scalars = key_scalars(chunk);
        uint32_t signs[kN / 16];
#pragma unroll
        for (uint32_t &sign : signs) sign = 0xffffffffu;
        if constexpr (kViews == 2) {
          ptx::wgmma_wait_group<1>();
          screen(0, scalars, signs);
        }
        ptx::wgmma_wait_group<0>();
        screen(kViews - 1, scalars, signs);
        const bool masked = is_masked(first);
        const uint32_t pieces = masked ? (1u << (kN / 16)) - 1 : candidates(signs);
        if (pieces != 0) add_pieces(block, chunk, pieces, masked);
      }
      release(b.stage_empty[ring.stage]);
      ring.advance();
    }
  }

  __device__ void find_keys() {
    const Sequence &sequence = work().sequence;
    const int top = work().block_row + index * 64;
    RowsKeys found{};
    if (top < sequence.queries) {
      const KeyRange first = sequence.visible(a.problem, top);
      const KeyRange last = sequence.visible(a.problem, min(top + 64, sequence.queries) - 1);
      found = {first.first / kN, (last.end + kN - 1) / kN, last.first, first.end};
    }
    if (lane() == 0) shared.rows_keys[warp] = found;
  }

  // One lane a row.
  __device__ void begin_rows() {
    const int lane = this->lane(), row = warp_row() + lane;
    if (lane < 16) {
      float scalars[Shape::kRowScalars];
      Policy::begin_row(a.policy, a.problem, work().sequence, work().place.head, work().block_row + row, scalars);
#pragma unroll
      for (int i = 0; i < Shape::kRowScalars; ++i) shared.row_scalars[i][row] = scalars[i];
    }
    __syncwarp();
#pragma unroll
    for (int view = 0; view < kViews; ++view)
#pragma unroll
      for (int half = 0; half < 2; ++half) limits[view][half] = Policy::limit(row_scalars(), view, half);
    if (Policy::shares_results(a.policy)) ptx::bar_sync(kConsumerBarrier + index, 128);  // they have been cleared
  }

  __device__ void store() {
    const Sequence &sequence = work().sequence;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = work().block_row + warp_row() + lane() / 4 + 8 * half;
      store_row<Element, kV>(output[0], half, Policy::unscale(row_scalars(), half), a.problem.epilogue, a.output,
                             a.output_type, a.value_dim, sequence.batch, work().place.head, sequence.query_start + row,
                             row < sequence.queries);
    }
  }

  // One tile after the other.
  __device__ void run() {
    for (; tile_arrives(shared, tile); tile.advance()) {
      find_keys();
      begin_rows();
#pragma unroll
      for (int n = 0; n < kV / 8; ++n)
#pragma unroll
        for (int e = 0; e < 4; ++e) output[0][n][e] = 0.0f;
      ptx::mbarrier_wait(address(&shared.barriers.query_full), tile.stage());  // a phase a tile
      load_queries();
      release(shared.barriers.query_empty);
      attend();
      store();
      release(shared.barriers.tile_empty[tile.stage()]);
    }
  }
};

}  // namespace sieve
