// A consumer warpgroup of the sparse Hopper forward pipeline. Its warps meet in the products of scores, and once a
// block of keys to agree how the next one is taken.
#pragma once

#include <type_traits>

#include "device/epilogue.h"
#include "device/sparse_screen_sm90.h"

namespace sieve {

template <class Policy>
struct SparseForwardSm90Consumer : SparseForwardSm90Parts<Policy> {
  using Parts = SparseForwardSm90Parts<Policy>;
  using Parts::address;
  using Parts::kBlock;
  using Parts::kConsumerBarrier;
  using Parts::kD;
  using Parts::kImages;
  using Parts::kN;
  using Parts::kPass;
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
  using Screen = std::conditional_t<kImages, SparseIntegerScreen<Policy>, SparseFloatScreen<Policy>>;

  Shared &shared;
  const Arguments &a;
  const int index;  // of the consumer
  const int warp;   // of all consumers
  Ring ring;
  PairCursor tile;

  Screen screen;
  Accumulators<1, kV> output;

  // Read anew where they are needed.
  __device__ int lane() const { return ptx::mov_here(static_cast<int>(threadIdx.x)) & 31; }
  __device__ int warp_row() const { return warp * 16; }
  __device__ const Work &work() const { return shared.tiles[tile.stage()].work; }
  __device__ const RowsKeys &keys() const { return shared.rows_keys[warp]; }
  __device__ RowScalars<Shape::kRows> row_scalars() const { return {&shared.row_scalars[0][warp_row() + lane() / 4]}; }

  // The two products of a pass: two views of a chunk, or two chunks, the upper one first. So keys are weighed in the
  // same order whatever the number of views and the size of blocks.
  __device__ static int view_of(int part) { return kViews == 2 ? part : 0; }
  __device__ static int chunk_of(int part) { return kViews == 2 ? 0 : (1 - part) * kN; }

  template <int kPart>
  __device__ void start(int stage, int key) {
    screen.template start<kPart>(shared.stages[stage], view_of(kPart), key + chunk_of(kPart));
  }
  template <int kPart>
  __device__ uint32_t candidates(int key) {
    const int view = view_of(kPart), first = key + chunk_of(kPart);
    return screen.template candidates<kPart>(shared, ring.stage, view, first,
                                             &shared.key_scalars[ring.stage][view][first + 4 * (lane() & 3)],
                                             &shared.row_limits[0][warp_row() + lane() / 4]);
  }

  // This lane's floats of 16 keys and more, view 0.
  __device__ const float *key_scalars(int key) const {
    return &shared.key_scalars[ring.stage][0][key + 4 * (lane() & 3)];
  }

  // Starts to bring rows of 16 keys here, the first of which is `row` of the sequence.
  template <int kPanels>
  __device__ void fetch(uint8_t *target, const TensorView &source, int row, int channels) {
    const int lane = this->lane();
    const Sequence &sequence = work().sequence;
    const int64_t first = sequence.key_start + static_cast<int64_t>(row);
    const auto *rows =
        static_cast<const uint16_t *>(source.row(sequence.batch, work().place.head / a.problem.group, first, 2));
    constexpr int kChunks = kPanels * 8;
#pragma unroll
    for (int i = 0; i < kChunks / 2; ++i) {
      const int piece = i * 32 + lane, r = piece / kChunks, c = piece % kChunks;
      const bool inside = row + r < sequence.keys && c * 8 < channels;
      ptx::cp_async_16(address(target) + c / 8 * 16 * 128 + Panel::offset(r, c % 8),
                       inside ? rows + r * source.row_stride + c * 8 : rows, inside ? 16 : 0);
    }
  }
  // The scores that count: of this warp's rows and 16 keys, first one at row `key` of the stage, `row` of the sequence.
  __device__ void score_exactly(float (&exact)[kViews][2][4], int key, int row) {
    if constexpr (kImages) {
      __syncwarp();  // what was here before has been read
#pragma unroll
      for (int view = 0; view < kViews; ++view)
        fetch<Shared::kHeadPanels>(shared.fetched[warp].key[view], a.key_rows[view], row, a.head_dim);
      fetch<Shared::kValuePanels>(shared.fetched[warp].value, a.value_rows, row, a.value_dim);
      ptx::cp_async_commit_group();
      ptx::cp_async_wait_group<0>();
      __syncwarp();
    }
    const int lane = this->lane();
    constexpr int kPanelRows = kImages ? 16 : kBlock;
#pragma unroll
    for (int view = 0; view < kViews; ++view) {
      uint32_t first = Panel::offset((lane & 7) + ((lane >> 4) << 3), (lane >> 3) & 1);
      if constexpr (kImages)
        first += address(shared.fetched[warp].key[view]);
      else
        first += address(shared.stages[ring.stage].key[view]) + key * 128;
#pragma unroll
      for (int n = 0; n < 2; ++n)
#pragma unroll
        for (int e = 0; e < 4; ++e) exact[view][n][e] = 0.0f;
#pragma unroll
      for (int k = 0; k < kD / 16; ++k) {
        uint32_t query[4], keys[4];
        screen.query(query, shared, warp_row(), view, k);
        ptx::ldmatrix_x4(keys, Panel::step(first, k % 4) + k / 4 * kPanelRows * 128);
        ptx::mma_m16n8k16<Element>(exact[view][0], query, keys[0], keys[1]);
        ptx::mma_m16n8k16<Element>(exact[view][1], query, keys[2], keys[3]);
      }
    }
  }

  // Where the values of 16 keys lie for ldmatrix.
  __device__ uint32_t values_of(int key) {
    const int lane = this->lane();
    const uint32_t offset = Panel::offset(lane & 15, lane >> 4);
    if constexpr (kImages)
      return address(shared.fetched[warp].value) + offset;
    else
      return address(shared.stages[ring.stage].value) + key * 128 + offset;
  }

  __device__ void add_values(const uint32_t (&weights)[4], uint32_t values, bool masked) {
    constexpr int kPanelBytes = (kImages ? 16 : kBlock) * 128;
    const uint32_t row[1][4] = {{weights[0], weights[1], weights[2], weights[3]}};
#pragma unroll
    for (int n = 0; n < kV / 16; ++n) {
      uint32_t value[4];
      ptx::ldmatrix_x4_trans(value, Panel::step(values, n % 4) + n / 4 * kPanelBytes);
      // Rows that see different keys: a NaN among the values must stay with those that see it.
      if (masked) contained_product<Element, 1, kV>(output, 2 * n, row, value);
      ptx::mma_m16n8k16<Element>(output[0][2 * n], row[0], value[0], value[1]);
      ptx::mma_m16n8k16<Element>(output[0][2 * n + 1], row[0], value[2], value[3]);
    }
  }

  // Weights of 16 keys a piece, and what they add to the output; whether there are any.
  template <int kPieces>
  __device__ bool add_weighed(const float (&exact)[kViews][2 * kPieces][4], int key, int row, bool masked,
                              uint32_t &found) {
    uint32_t weights[kPieces][4];
    const int first_row = work().block_row + warp_row() + lane() / 4;
    const ChunkMask mask{a.problem, work().sequence, first_row, row + 2 * (lane() & 3), masked};
    int *counts = &shared.row_counts[0][warp_row() + lane() / 4];
    if (!Policy::template weigh<kPieces>(exact, key_scalars(key), row_scalars(), mask, a.policy, work().place.head,
                                         counts, found, weights))
      return false;
    // One copy of the code, whatever the number of pieces: weights move up.
    static_assert(kPieces <= 2);
#pragma unroll 1
    for (int piece = 0; piece < kPieces; ++piece) {
      add_values(weights[0], values_of(key + 16 * piece), masked);
#pragma unroll
      for (int i = 0; i < 4; ++i) weights[0][i] = weights[kPieces - 1][i];
    }
    return true;
  }

  __device__ bool is_masked(int row) const {
    return row < keys().common_first || row + kN > keys().common_end;
  }
  __device__ void mark_tile(int row, uint32_t found) {
    if (found != 0)
      Policy::mark_tile(a.policy, a.problem, work().sequence, work().place.head, work().block_row + warp_row(), row,
                        found);
  }

  // The candidates among 64 keys.
  __device__ void add_pieces(int block, int chunk, uint32_t pieces) {
    if (pieces == 0) return;
    const int first = block * kBlock + chunk;
    const bool masked = is_masked(first);
    uint32_t found = 0;
#pragma unroll 1
    for (int piece = 0; pieces != 0; ++piece, pieces >>= 1) {
      if ((pieces & 1) == 0) continue;
      float exact[kViews][2][4];
      score_exactly(exact, chunk + piece * 16, first + piece * 16);
      add_weighed<1>(exact, chunk + piece * 16, first + piece * 16, masked, found);
    }
    mark_tile(first, found);
  }
  __device__ void add_candidates(int block, int key, uint32_t first, uint32_t second) {
    if constexpr (kViews == 2) {
      add_pieces(block, key, first | second);
    } else {
      add_pieces(block, key + chunk_of(0), first);
      add_pieces(block, key, second);
    }
  }

  // Keys [lowest, end) of a block, none of them screened; how many pieces may have had weights.
  __device__ int add_block(int block, int lowest, int end) {
    int count = 0;
#pragma unroll 1
    for (int chunk = end - kN; chunk >= lowest; chunk -= kN) {
      const int first = block * kBlock + chunk;
      const bool masked = is_masked(first);
      uint32_t found = 0;
#pragma unroll 1
      for (int half = 0; half < kN; half += 32) {
        float scores[kViews][4][4];
        screen.score(scores, shared.stages[ring.stage], chunk + half);
        count += 2 * add_weighed<2>(scores, chunk + half, first + half, masked, found);
      }
      mark_tile(first, found);
    }
    return count;
  }

  __device__ void wait_stage(const Ring &place) {
    ptx::mbarrier_wait(address(&shared.barriers.stage_full[place.stage]), place.phase);
  }
  __device__ void leave_stage() {
    release(shared.barriers.stage_empty[ring.stage]);
    ring.advance();
  }

  // Passes of a block down to `lowest`, the first one at `key`; how many pieces had candidates. One product is on its
  // way while another one is screened: the first one of the next pass, which may be in the next block, is there in the
  // end. Nothing may be on its way where a loop ends, or the compiler serialises all products.
  __device__ int screen_block(int block, int lowest, int key, bool last) {
    int count = 0;
#pragma unroll 1
    for (;; key -= kPass) {
      start<1>(ring.stage, key);
      const uint32_t first = candidates<0>(key);
      if (key != lowest)
        start<0>(ring.stage, key - kPass);
      else
        start_block(last);
      ptx::wgmma_wait_group<1>();
      const uint32_t second = candidates<1>(key);
      add_candidates(block, key, first, second);
      count += __popc(kViews == 2 ? first | second : first | second << 4);
      ptx::wgmma_wait_group<0>();
      if (key == lowest) return count;
    }
  }

  // The first product of the block after this one. Where there is none, this block has it once more, and nobody looks.
  __device__ void start_block(bool last) {
    Ring next = ring;
    if (!last) next.advance();
    wait_stage(next);
    start<0>(next.stage, last ? 0 : kBlock - kPass);
  }

  // Blocks [first_block, end_block) of the tile, last to first. Those behind one that was full of candidates are not
  // screened: every product is weighed as it is.
  __device__ void attend() {
    int block = work().end_block - 1;
    for (; block >= work().first_block && block * kBlock >= keys().end; --block) {
      wait_stage(ring);
      leave_stage();
    }
    if (keys().first < keys().end) {
      int key = keys().end - kPass - block * kBlock;
      wait_stage(ring);
      start<0>(ring.stage, key);
      ptx::wgmma_wait_group<0>();
      bool dense = false;
      while (true) {
        const int lowest = max(keys().first - block * kBlock, 0);
        const bool last = block * kBlock <= keys().first;
        int count;
        if (!kImages && dense) {
          if constexpr (!kImages) count = add_block(block, lowest, key + kPass);
          start_block(last);
          ptx::wgmma_wait_group<0>();
        } else {
          count = screen_block(block, lowest, key, last);
        }
        leave_stage();
        --block;
        if (last) break;
        key = kBlock - kPass;
        if constexpr (!kImages) dense = ptx::bar_red_or(kConsumerBarrier + index, 128, count >= Shape::kDensePieces);
      }
    }
    for (; block >= work().first_block; --block) {
      wait_stage(ring);
      leave_stage();
    }
  }

  __device__ void find_keys() {
    const Sequence &sequence = work().sequence;
    const int top = work().block_row + index * 64;
    RowsKeys found{};
    if (top < sequence.queries) {
      const KeyRange first = sequence.visible(a.problem, top);
      const KeyRange last = sequence.visible(a.problem, min(top + 64, sequence.queries) - 1);
      found = {first.first / kPass * kPass, (last.end + kPass - 1) / kPass * kPass, last.first, first.end};
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
#pragma unroll
      for (int view = 0; view < kViews; ++view) shared.row_counts[view][row] = 0;
    }
    __syncwarp();
    screen.begin_rows(shared, a, work(), row_scalars(), warp_row());
    if (Policy::shares_results(a.policy)) ptx::bar_sync(kConsumerBarrier + index, 128);  // they have been cleared
  }

  __device__ void store() {
    const Sequence &sequence = work().sequence;
    __syncwarp();  // survivors have been counted
    const int row = work().block_row + warp_row() + lane();
    if (lane() < 16 && row < sequence.queries)
      Policy::store_counts(a.policy, sequence, work().place.head, row, &shared.row_counts[0][warp_row() + lane()]);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int place = work().block_row + warp_row() + lane() / 4 + 8 * half;
      store_row<Element, kV>(output[0], half, Policy::unscale(row_scalars(), half), a.problem.epilogue, a.output,
                             a.output_type, a.value_dim, sequence.batch, work().place.head,
                             sequence.query_start + place, place < sequence.queries);
    }
    __syncwarp();  // what the next tile writes over has been read
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
      screen.load_queries(shared, warp_row());
      if constexpr (!kImages) release(shared.barriers.query_empty);
      attend();
      if constexpr (kImages) release(shared.barriers.query_empty);
      store();
      release(shared.barriers.tile_empty[tile.stage()]);
    }
  }
};

}  // namespace sieve
