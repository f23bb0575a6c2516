// A consumer warpgroup of the Hopper forward pipeline: scores, weights, output of 64 query rows. Two loops over the key
// blocks: one skips value products without a weight, the other lets the products of neighbouring blocks overlap.
#pragma once

#include "device/epilogue.h"
#include "device/forward_sm90_parts.h"
#include "device/ptx/stmatrix.h"
#include "device/ptx/warpgroup.h"
#include "device/ptx/wgmma.h"
#include "device/rows.h"

namespace sieve {

// One consumer warpgroup; all of its threads follow the same path.
template <class Policy>
struct ForwardSm90Consumer : ForwardSm90Parts<Policy> {
  using Parts = ForwardSm90Parts<Policy>;
  using Parts::address;
  using Parts::kConsumerBarrier;
  using Parts::kConsumersBarrier;
  using Parts::kD;
  using Parts::kExchangeEmpty;
  using Parts::kExchangeFull;
  using Parts::kN;
  using Parts::kStagesOutput;
  using Parts::kV;
  using Parts::kViews;
  using Parts::next_tile;
  using typename Parts::Arguments;
  using typename Parts::Element;
  using typename Parts::QueryRing;
  using typename Parts::Ring;
  using typename Parts::Shape;
  using typename Parts::Shared;
  using typename Parts::Work;

  Shared &shared;
  const Arguments &a;
  const int index;   // of the consumer
  const int thread;  // of the warpgroup
  Ring keys, values;
  QueryRing queries;

  Accumulators<1, kN> scores[kViews];
  Accumulators<1, kV> output;
  uint32_t weights[kN / 16][4];

  struct Rows {
    const Work &work;
    ThreadRows thread_rows;
    RowScalars<Shape::kRows> scalars;
    int common_first, common_end;  // keys that all rows of the tile see
  };

  // Which stream, and where in the tile its rows begin.
  __device__ int stream() const { return Shape::kStreams > 1 ? index : 0; }
  __device__ int consumer_row() const { return Shape::kStreams > 1 ? 0 : index * 64; }

  __device__ void start_scores() {
    ptx::wgmma_fence();
#pragma unroll
    for (int view = 0; view < kViews; ++view) {
      const uint64_t query =
          ptx::matrix_descriptor(address(shared.queries[queries.stage].view[stream() * kViews + view]) +
                                     static_cast<uint32_t>(consumer_row()) * 128,
                                 0);
      const int key_view = Shape::kKeyStreams > 1 ? index * kViews + view : view;
      const uint64_t key = ptx::matrix_descriptor(address(shared.stages[keys.stage].key[key_view]), 0);
      auto &d = reinterpret_cast<float(&)[kN / 2]>(scores[view]);
#pragma unroll
      for (int k = 0; k < kD / 16; ++k)
        ptx::Wgmma<Element, kN, false>::shared(d, query + ((k / 4 * Shape::kRows * 128 + k % 4 * 32) >> 4),
                                               key + ((k / 4 * kN * 128 + k % 4 * 32) >> 4), k > 0);
    }
    ptx::wgmma_commit_group();
  }

  __device__ void start_values() {
    const uint64_t value = ptx::matrix_descriptor(address(shared.stages[values.stage].value), kN * 128);
    ptx::wgmma_fence();
    auto &d = reinterpret_cast<float(&)[kV / 2]>(output);
#pragma unroll
    for (int k = 0; k < kN / 16; ++k)
      ptx::Wgmma<Element, kV, true>::registers(d, weights[k], value + static_cast<uint64_t>(k * 2048 >> 4), 1);
    ptx::wgmma_commit_group();
  }

  // Where rows see different keys, 0 * NaN must not reach those that do not see the NaN: such (rare) blocks are
  // multiplied by the instructions that can take it apart.
  __device__ bool values_are_finite() const {
    const uint4 *value = reinterpret_cast<const uint4 *>(shared.stages[values.stage].value);
    uint32_t largest = 0;  // magnitudes order as integers do, and what is not finite is larger than all else
#pragma unroll 4
    for (int i = thread; i < kN * Shared::kValuePanels * 8; i += 128) {
      const uint4 chunk = value[i];
      largest = __vmaxu2(largest, __vmaxu2(__vmaxu2(chunk.x & 0x7fff7fffu, chunk.y & 0x7fff7fffu),
                                           __vmaxu2(chunk.z & 0x7fff7fffu, chunk.w & 0x7fff7fffu)));
    }
    return !ptx::bar_red_or(kConsumerBarrier + index, 128, non_finite<Element>(largest) != 0);
  }

  __device__ void add_contained_values() {
    using Panel = SharedTile<kN, 64>;
    const int lane = lane_index();
    const uint32_t first = address(shared.stages[values.stage].value) + Panel::offset(lane & 15, lane >> 4);
#pragma unroll
    for (int k = 0; k < kN / 16; ++k) {
      const uint32_t row[1][4] = {{weights[k][0], weights[k][1], weights[k][2], weights[k][3]}};
#pragma unroll
      for (int n = 0; n < kV / 16; ++n) {
        uint32_t value[4];
        ptx::ldmatrix_x4_trans(value, Panel::step(first + k * 2048, n % 4) + n / 4 * kN * 128);
        contained_product<Element, 1, kV>(output, 2 * n, row, value);
        ptx::mma_m16n8k16<Element>(output[0][2 * n], row[0], value[0], value[1]);
        ptx::mma_m16n8k16<Element>(output[0][2 * n + 1], row[0], value[2], value[3]);
      }
    }
  }

  // Rounds the weights for the product. A warp without a weight has left its scores as they were: it multiplies
  // zeros.
  __device__ void convert(bool has_weights) {
#pragma unroll
    for (int k = 0; k < kN / 16; ++k)
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float(&score)[4] = scores[0][0][2 * k + i / 2];
        weights[k][i] = has_weights ? ptx::cvt_x2<Element>(score[2 * (i % 2)], score[2 * (i % 2) + 1]) : 0;
      }
  }

  __device__ void release(uint64_t &barrier) const {
    if (thread == 0) ptx::mbarrier_arrive(address(&barrier));
  }

  __device__ void release_queries(int stage) const {
    if (lane_index() == 0) ptx::mbarrier_arrive(address(&shared.barriers.query_empty[stage]));
  }

  // The scores of a block are there: its keys are not needed any more, and after the last block the queries neither.
  __device__ void release_operands(const Rows &rows, int block) const {
    release(shared.barriers.key_empty[keys.stage]);
    if (!kStagesOutput && block == rows.work.first_block) release_queries(queries.stage);
  }

  // Waits for the values of the block. Where a non-finite one must be contained, adds what the weights make of it
  // now, and leaves zero weights and finite values for the product that follows in any case. All consumers come to
  // the same verdict.
  __device__ void prepare_values(bool masked) {
    ptx::mbarrier_wait(address(&shared.barriers.value_full[values.stage]), values.phase);
    if (!masked || values_are_finite()) return;
    add_contained_values();
#pragma unroll
    for (int k = 0; k < kN / 16; ++k)
#pragma unroll
      for (int i = 0; i < 4; ++i) weights[k][i] = 0;
    ptx::bar_sync(kConsumersBarrier, 128 * Shape::kConsumers);
    uint32_t *value = reinterpret_cast<uint32_t *>(shared.stages[values.stage].value);
    for (int i = index * 128 + thread; i < kN * Shared::kValuePanels * 32; i += 128 * Shape::kConsumers)
      value[i] &= ~non_finite<Element>(value[i]);
    ptx::fence_proxy_async();
    ptx::bar_sync(kConsumersBarrier, 128 * Shape::kConsumers);
  }

  __device__ bool is_masked(const Rows &rows, int block) const {
    return block * kN < rows.common_first || block * kN + kN > rows.common_end;
  }

  __device__ bool weigh(typename Policy::State &state, const Rows &rows, int block) {
    const int column = 2 * (lane_index() & 3);
    const ChunkMask mask{a.problem, rows.work.sequence, rows.thread_rows.first, block * kN + column,
                         is_masked(rows, block)};
    return Policy::weigh(state, scores, rows.scalars, rows.thread_rows, nullptr, mask, a.policy,
                         KeptPlace{rows.work.place});
  }

  __device__ void weigh_and_release(typename Policy::State &state, const Rows &rows, int block) {
    release_operands(rows, block);
    weigh(state, rows, block);
    keys.advance();
  }

  __device__ void release_values() {
    release(shared.barriers.value_empty[values.stage]);
    values.advance();
  }

  // The blocks behind one whose weights are there: its value product runs under the weighing of the next.
  __device__ void attend_rest(typename Policy::State &state, const Rows &rows, int block) {
    for (; block > rows.work.first_block; --block) {
      prepare_values(is_masked(rows, block));
      ptx::mbarrier_wait(address(&shared.barriers.key_full[keys.stage]), keys.phase);
      start_scores();
      start_values();
      ptx::wgmma_wait_group<1>();
      weigh_and_release(state, rows, block - 1);
      // The assembler moves a wait for products up to the last branch, here above the weighing that should run beside
      // them. So the branch of the next values' wait stands between.
      Ring next = values;
      next.advance();
      ptx::mbarrier_wait(address(&shared.barriers.value_full[next.stage]), next.phase);
      ptx::wgmma_wait_group<0>();
      release_values();
      convert(true);
      Policy::rescale(state, output);
    }
  }

  __device__ void attend_overlapped(typename Policy::State &state, const Rows &rows) {
    ptx::mbarrier_wait(address(&shared.barriers.key_full[keys.stage]), keys.phase);
    start_scores();
    ptx::wgmma_wait_group<0>();
    weigh_and_release(state, rows, rows.work.end_block - 1);
    convert(true);
    attend_rest(state, rows, rows.work.end_block - 1);
    prepare_values(is_masked(rows, rows.work.first_block));
    start_values();
    ptx::wgmma_wait_group<0>();
    release_values();
  }

  __device__ Rows rows_of(const Work &work) const {
    const ThreadRows thread_rows{work.block_row + consumer_row() + thread / 32 * 16 + lane_index() / 4};
    const int last = min(work.block_row + Shape::kRows, work.sequence.queries) - 1;
    return {work,
            thread_rows,
            {&shared.row_scalars[0][thread_rows.first - work.block_row]},
            work.sequence.visible(a.problem, last).first,
            work.sequence.visible(a.problem, work.block_row).end};
  }

  __device__ void output_to_zero() {
#pragma unroll
    for (int n = 0; n < kV / 8; ++n)
#pragma unroll
      for (int e = 0; e < 4; ++e) output[0][n][e] = 0.0f;
  }

  __device__ typename Policy::State begin(const Work &work) {
    if (Shape::kRowScalars > 0 && Policy::uses_row_scalars(a.policy)) {
      ptx::bar_sync(kConsumerBarrier + index, 128);  // the rows of the tile before are done
      if (thread < 64) {
        float scalars[Shape::kRowScalars == 0 ? 1 : Shape::kRowScalars];
        Policy::begin_row(a.policy, a.problem, work.sequence, work.place.head, work.block_row + index * 64 + thread,
                          scalars);
#pragma unroll
        for (int i = 0; i < Shape::kRowScalars; ++i) shared.row_scalars[i][index * 64 + thread] = scalars[i];
      }
      ptx::bar_sync(kConsumerBarrier + index, 128);
    }
    output_to_zero();
    return Policy::begin(a.policy, work.place.head);
  }

  // Writes the 16 rows of this warp over its queries, which nobody else reads, and has the copy engine bring them out.
  __device__ void store_staged(const Rows &rows, const float (&factors)[2], int stage) {
    using Panel = SharedTile<16, 64>;
    const int lane = lane_index(), first_row = thread / 32 * 16 + consumer_row();
    const uint32_t target = address(shared.queries[stage].view[0]) + static_cast<uint32_t>(first_row) * 128;
    const uint32_t piece = target + Panel::offset(lane & 15, lane >> 4);
#pragma unroll
    for (int n = 0; n < kV / 8; n += 2) {
      uint32_t words[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float(&pair)[4] = output[0][n + i / 2];
        const float2 scaled = output_pair(pair[2 * (i % 2)], pair[2 * (i % 2) + 1], factors[i % 2],
                                          a.problem.epilogue.norm_gain, (n + i / 2) * 8 + 2 * (lane & 3), a.value_dim);
        words[i] = ptx::cvt_x2<Element>(scaled.x, scaled.y);
      }
      ptx::stmatrix_x4(Panel::step(piece, n / 2 % 4) + n / 8 * Shape::kRows * 128, words);
    }
    ptx::fence_proxy_async();
    __syncwarp();
    if (lane == 0) {
      const Sequence &sequence = rows.work.sequence;
#pragma unroll
      for (int panel = 0; panel < Shared::kValuePanels; ++panel)
        ptx::cp_async_bulk_tensor_4d_store(&a.staged_output, panel * 64,
                                           sequence.query_start + rows.work.block_row + first_row, rows.work.place.head,
                                           sequence.batch, target + static_cast<uint32_t>(panel * Shape::kRows * 128));
      ptx::cp_async_bulk_commit_group();
    }
  }

  // Two streams: the output becomes that of the first minus the scaled one of the second; true for the consumer that
  // has it then. What is exchanged lies where the thread of the same place reads it, so that it needs no order of rows.
  __device__ bool subtract_streams(const Rows &rows, const typename Policy::State &state) {
    const Sequence &sequence = rows.work.sequence;
    float factors[2];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = rows.thread_rows.row(0, half);
      factors[half] = Policy::finish_stream(state, stream(), a.policy, rows.work.place, sequence, row, half);
      Policy::template store_stream<Element, kV>(output[0], half, factors[half], stream(), a.policy, rows.work.place,
                                                 sequence, row, a.value_dim);
      if (stream() == 1) factors[half] *= Policy::subtracted(a.policy, rows.work.place, sequence, row);
    }
    constexpr int kBoth = 256, kTiles = Shared::kExchanged / 4;
#pragma unroll
    for (int first = 0; first < kV / 8; first += kTiles) {
      if (stream() == 1) {
        ptx::bar_sync(kExchangeEmpty, kBoth);
#pragma unroll
        for (int n = 0; n < kTiles; ++n)
#pragma unroll
          for (int e = 0; e < 4; ++e) shared.exchange[4 * n + e][thread] = output[0][first + n][e] * factors[e / 2];
        ptx::bar_arrive(kExchangeFull, kBoth);
      } else {
        ptx::bar_sync(kExchangeFull, kBoth);
#pragma unroll
        for (int n = 0; n < kTiles; ++n)
#pragma unroll
          for (int e = 0; e < 4; ++e) {
            float &x = output[0][first + n][e];
            // Rounded before the subtraction, as the other was: equal streams cancel exactly.
            x = __fsub_rn(__fmul_rn(x, factors[e / 2]), shared.exchange[4 * n + e][thread]);
          }
        ptx::bar_arrive(kExchangeEmpty, kBoth);
      }
    }
    return stream() == 0;
  }

  // `stage`: of the queries of this tile, or -1 where it has none.
  __device__ void store(const Rows &rows, const typename Policy::State &state, int stage) {
    const Sequence &sequence = rows.work.sequence;
    if constexpr (Shape::kStreams > 1) {
      if (!subtract_streams(rows, state)) return;
    }
    float factors[2];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = rows.thread_rows.row(0, half);
      float unscale = 1.0f;
      if constexpr (Shape::kStreams == 1)
        unscale = Policy::finish(state, rows.scalars, a.policy, rows.work.place, sequence, row, 0, half);
      factors[half] = output_factor<kV>(output[0], half, unscale, a.problem.epilogue, a.value_dim, sequence.batch,
                                        rows.work.place.head, sequence.query_start + row, row < sequence.queries);
      // One half after the other needs fewer registers.
      if constexpr (!kStagesOutput) store_half(rows, half, factors[half]);
    }
    if constexpr (kStagesOutput) {
      const int end_row = rows.work.block_row + consumer_row() + thread / 32 * 16 + 16;
      if (stage >= 0 && a.output_type == OutputType::kElement && end_row <= sequence.queries) {
        store_staged(rows, factors, stage);
        return;
      }
#pragma unroll
      for (int half = 0; half < 2; ++half) store_half(rows, half, factors[half]);
    }
  }

  // Half of the rows of this thread, straight to the tensor.
  __device__ void store_half(const Rows &rows, int half, float factor) {
    const Sequence &sequence = rows.work.sequence;
    const int row = rows.thread_rows.row(0, half);
    store_scaled_row<Element, kV>(output[0], half, factor, a.problem.epilogue, a.output, a.output_type, a.value_dim,
                                  sequence.batch, rows.work.place.head, sequence.query_start + row,
                                  row < sequence.queries);
  }

  __device__ void compute(const Work &work) {
    const Rows rows = rows_of(work);
    typename Policy::State state = begin(work);
    if (work.has_keys()) {
      ptx::mbarrier_wait(address(&shared.barriers.query_full[queries.stage]), queries.phase);
      attend_overlapped(state, rows);
      queries.advance();
    }
    store(rows, state, -1);
  }

  // Every tile of the second stream waits for the first stream to have read the tile before; so does its end.
  __device__ void open_exchange() const {
    if (Shape::kStreams > 1 && stream() == 0) ptx::bar_arrive(kExchangeEmpty, 256);
  }
  __device__ void close_exchange() const {
    if (Shape::kStreams > 1 && stream() == 1) ptx::bar_sync(kExchangeEmpty, 256);
  }

  // One tile after the other.
  __device__ void run() {
    RingCursor<2> slot;
    open_exchange();
    for (;;) {
      const int tile = next_tile(shared, slot);
      if (tile >= a.tiles) break;
      compute(Work(a.problem, a.order, tile));
    }
    close_exchange();
  }

  __device__ void wait_operands(const Work &work) {
    if (!work.has_keys()) return;
    ptx::mbarrier_wait(address(&shared.barriers.query_full[queries.stage]), queries.phase);
    ptx::mbarrier_wait(address(&shared.barriers.key_full[keys.stage]), keys.phase);
  }

  // The last value product of a tile and its epilogue run under the first scores of the next tile. Those products are
  // started without conditions, which the compiler would serialise: where a tile sees no key, or none follows, they
  // compute on whatever lies there, and nobody looks at the result.
  __device__ void run_ahead() {
    RingCursor<2> slot;
    int tile = next_tile(shared, slot);
    if (tile >= a.tiles) return;
    open_exchange();
    Work work(a.problem, a.order, tile);
    wait_operands(work);
    start_scores();
    int staged = -1;  // queries over which the output of the tile before was written
    while (true) {
      const Rows rows = rows_of(work);
      typename Policy::State state = begin(work);
      const bool has_keys = work.has_keys();
      ptx::wgmma_wait_group<0>();
      if (has_keys) weigh_and_release(state, rows, work.end_block - 1);
      convert(has_keys);
      if (kStagesOutput && staged >= 0) {
        ptx::cp_async_bulk_wait_group_read<0>();
        release_queries(staged);
      }
      attend_rest(state, rows, work.end_block - 1);
      staged = has_keys ? queries.stage : -1;
      if (has_keys) {
        queries.advance();
        prepare_values(is_masked(rows, work.first_block));
      }
      start_values();
      tile = next_tile(shared, slot);
      const Work next(a.problem, a.order, min(tile, a.tiles - 1));
      if (tile < a.tiles) wait_operands(next);
      start_scores();
      ptx::wgmma_wait_group<1>();
      if (has_keys)
        release_values();
      else
        output_to_zero();
      store(rows, state, staged);
      if (tile >= a.tiles) break;
      work = next;
    }
    close_exchange();
    ptx::cp_async_bulk_wait_group_read<0>();  // shared memory goes with the thread block
    ptx::wgmma_wait_group<0>();
  }
};

}  // namespace sieve
