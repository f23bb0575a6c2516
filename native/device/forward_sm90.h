// The Hopper forward pipeline: wgmma, the copy engine, thread blocks that stay and compute tile after tile.
//
//   producer warpgroup                        consumer warpgroups, 64 query rows each
//     warp 0: next tile from a counter          wait for the tile and its queries
//       queries, then for each key block          for each key block, last to first:
//       keys and values -> a stage                  start scores = queries . keys^T           (wgmma, shared x shared)
//     warp 1: scalars of the keys -> the stage      start output += weights . values          (block before; registers
//     x shared) warps 2, 3: idle                              wait for the scores, weigh them           (FP32, under
//     the value product)
//                                                 epilogue, store
//
// The weights of a block are multiplied while the scores of the next one are computed and weighed. Stages are filled as
// soon as they are free, across tiles. Every wait is on an mbarrier of Barriers; named barriers only join the threads
// of a consumer warpgroup. Policies are those of forward_sm80.h, with one row tile and a chunk that is a key block.
#pragma once

#include "device/epilogue.h"
#include "device/ptx/mbarrier.h"
#include "device/ptx/tma.h"
#include "device/ptx/warpgroup.h"
#include "device/ptx/wgmma.h"
#include "device/ring.h"
#include "device/rows.h"
#include "device/tensor_map.h"
#include "device/warp_product.h"

namespace sieve {

template <class Policy>
struct ForwardSm90Arguments {
  CUtensorMap query[Policy::Shape::kViews];
  CUtensorMap key[Policy::Shape::kViews];
  CUtensorMap value;
  ProblemView problem;
  TensorView output;
  OutputType output_type;
  int32_t value_dim;  // of the tensors; Shape::kValueDim may be larger
  TileOrder order;
  int32_t tiles;
  int32_t *next_tile;  // device counter, 0 at the start of the launch
  typename Policy::Arguments policy;
};

// Arrivals that complete a phase, and who waits.
template <class Shape>
struct ForwardSm90Barriers {
  uint64_t tile_full[2];                      // producer thread; everyone else waits for the number of the next tile
  uint64_t tile_empty[2];                     // every consumer warp and the scalar warp; the producer waits
  uint64_t query_full[Shape::kQueryStages];   // copy engine
  uint64_t query_empty[Shape::kQueryStages];  // one thread a consumer
  uint64_t key_full[Shape::kStages];          // copy engine and, where keys have scalars, every lane of the scalar warp
  uint64_t key_empty[Shape::kStages];         // one thread a consumer; producer and scalar warp wait
  uint64_t value_full[Shape::kStages];        // copy engine
  uint64_t value_empty[Shape::kStages];       // one thread a consumer
};

template <class Shape>
struct ForwardSm90SharedMemory {
  // Tiles are panels of 64 channels, one after another: [panel][row][64], rows swizzled as in SharedTile. The last
  // panel may be wider than the tensor: what is missing arrives as zeros, and no product reads beyond the dims of the
  // shape.
  static constexpr int kHeadPanels = (Shape::kHeadDim + 63) / 64, kValuePanels = (Shape::kValueDim + 63) / 64;
  struct Query {
    alignas(1024) uint8_t view[Shape::kViews][Shape::kRows * kHeadPanels * 128];
  } queries[Shape::kQueryStages];
  struct Stage {
    alignas(1024) uint8_t key[Shape::kViews][Shape::kKeyBlock * kHeadPanels * 128];
    alignas(1024) uint8_t value[Shape::kKeyBlock * kValuePanels * 128];
  } stages[Shape::kStages];
  float key_scalars[Shape::kStages][Shape::kKeyScalars == 0 ? 1 : Shape::kKeyScalars][Shape::kKeyBlock];
  float row_scalars[Shape::kRowScalars == 0 ? 1 : Shape::kRowScalars][Shape::kRows];
  int tile[2];
  ForwardSm90Barriers<Shape> barriers;
};

// What one tile asks for.
template <class Shape>
struct TileWork {
  BlockPlace place;
  Sequence sequence;
  int block_row;
  int first_block, end_block;  // key blocks that some row of the tile sees

  __device__ TileWork(const ProblemView &problem, const TileOrder &order, int tile)
      : place(BlockPlace::of(problem, order, tile)), sequence(Sequence::at(problem, place.sequence)) {
    block_row = place.query_block * Shape::kRows;
    first_block = end_block = 0;
    if (block_row >= sequence.queries) return;
    const int last = min(block_row + Shape::kRows, sequence.queries) - 1;
    first_block = sequence.visible(problem, block_row).first / Shape::kKeyBlock;
    end_block = (sequence.visible(problem, last).end + Shape::kKeyBlock - 1) / Shape::kKeyBlock;
  }
  __device__ bool has_keys() const { return first_block < end_block; }
};

template <class Policy>
struct ForwardSm90 {
  using Shape = typename Policy::Shape;
  using Element = typename Shape::Element;
  using Arguments = ForwardSm90Arguments<Policy>;
  using Shared = ForwardSm90SharedMemory<Shape>;
  using Work = TileWork<Shape>;
  using Ring = RingCursor<Shape::kStages>;
  using QueryRing = RingCursor<Shape::kQueryStages>;
  static constexpr int kN = Shape::kKeyBlock, kD = Shape::kHeadDim, kV = Shape::kValueDim, kViews = Shape::kViews;
  static constexpr bool kHasScalars = Shape::kKeyScalars > 0;
  static constexpr int kConsumersBarrier = 1;  // named barrier of all consumers
  static constexpr int kConsumerBarrier = 2;   // 2, 3, ...: of the threads of one consumer

  static_assert(sizeof(Shared) <= 227 * 1024, "shared memory of a thread block");
  static_assert(128 * (Shape::kProducerRegisters + Shape::kConsumers * Shape::kConsumerRegisters) <= 65536,
                "registers");

  __device__ static uint32_t address(const void *pointer) { return ptx::shared_address(pointer); }

  __device__ static void initialize(Shared &shared) {
    ForwardSm90Barriers<Shape> &b = shared.barriers;
    for (int slot = 0; slot < 2; ++slot) {
      ptx::mbarrier_init(address(&b.tile_full[slot]), 1);
      ptx::mbarrier_init(address(&b.tile_empty[slot]), 4 * Shape::kConsumers + kHasScalars);
    }
    for (int stage = 0; stage < Shape::kQueryStages; ++stage) {
      ptx::mbarrier_init(address(&b.query_full[stage]), 1);
      ptx::mbarrier_init(address(&b.query_empty[stage]), Shape::kConsumers);
    }
    for (int stage = 0; stage < Shape::kStages; ++stage) {
      ptx::mbarrier_init(address(&b.key_full[stage]), 1 + 32 * kHasScalars);
      ptx::mbarrier_init(address(&b.value_full[stage]), 1);
      ptx::mbarrier_init(address(&b.key_empty[stage]), Shape::kConsumers);
      ptx::mbarrier_init(address(&b.value_empty[stage]), Shape::kConsumers);
    }
    ptx::fence_mbarrier_init();
  }

  template <int kRows, int kPanels>
  __device__ static void load_tile(void *target, const CUtensorMap &map, int row, int head, int batch,
                                   uint64_t *barrier) {
#pragma unroll
    for (int panel = 0; panel < kPanels; ++panel)
      ptx::cp_async_bulk_tensor_4d(address(target) + panel * kRows * 128, &map, panel * 64, row, head, batch,
                                   address(barrier));
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
      const int head = work.place.head, key_head = head / a.problem.group, batch = work.sequence.batch;
      if (work.has_keys()) {
        uint64_t *query_full = &b.query_full[query.stage];
        ptx::mbarrier_wait(address(&b.query_empty[query.stage]), query.phase ^ 1);
        ptx::mbarrier_arrive_expect_tx(address(query_full), sizeof(typename Shared::Query));
        for (int view = 0; view < kViews; ++view)
          load_tile<Shape::kRows, Shared::kHeadPanels>(shared.queries[query.stage].view[view], a.query[view],
                                                       work.sequence.query_start + work.block_row, head, batch,
                                                       query_full);
        query.advance();
      }
      for (int block = work.end_block - 1; block >= work.first_block; --block) {
        typename Shared::Stage &stage = shared.stages[ring.stage];
        const int row = work.sequence.key_start + block * kN;
        uint64_t *key_full = &b.key_full[ring.stage], *value_full = &b.value_full[ring.stage];
        ptx::mbarrier_wait(address(&b.key_empty[ring.stage]), ring.phase ^ 1);
        ptx::mbarrier_arrive_expect_tx(address(key_full), sizeof stage.key);
        for (int view = 0; view < kViews; ++view)
          load_tile<kN, Shared::kHeadPanels>(stage.key[view], a.key[view], row, key_head, batch, key_full);
        ptx::mbarrier_wait(address(&b.value_empty[ring.stage]), ring.phase ^ 1);
        ptx::mbarrier_arrive_expect_tx(address(value_full), sizeof stage.value);
        load_tile<kN, Shared::kValuePanels>(stage.value, a.value, row, key_head, batch, value_full);
        ring.advance();
      }
      tile = static_cast<int>(gridDim.x) + atomicAdd(a.next_tile, 1);
    }
  }

  // One warp: the floats that belong to the keys. They lie at any address, so the copy engine cannot bring them.
  __device__ static void produce_scalars(Shared &shared, const Arguments &a) {
    ForwardSm90Barriers<Shape> &b = shared.barriers;
    Ring ring;
    RingCursor<2> slot;
    for (;;) {
      const int tile = next_tile(shared, slot);
      if (tile >= a.tiles) return;
      const Work work(a.problem, a.order, tile);
      for (int block = work.end_block - 1; block >= work.first_block; --block) {
        ptx::mbarrier_wait(address(&b.key_empty[ring.stage]), ring.phase ^ 1);
        const int valid = work.sequence.keys - block * kN;
#pragma unroll
        for (int scalar = 0; scalar < Shape::kKeyScalars; ++scalar) {
          const float *source =
              Policy::key_scalars(a.policy, a.problem, scalar, work.sequence.batch, work.place.head / a.problem.group) +
              work.sequence.key_start + block * kN;
#pragma unroll
          for (int i = lane_index(); i < kN; i += 32)
            shared.key_scalars[ring.stage][scalar][i] = i < valid ? source[i] : 0.0f;
        }
        ptx::mbarrier_arrive(address(&b.key_full[ring.stage]));  // every lane for what it wrote
        ring.advance();
      }
    }
  }

  // Reads the number of the next tile, once a warp.
  __device__ static int next_tile(Shared &shared, RingCursor<2> &slot) {
    ptx::mbarrier_wait(address(&shared.barriers.tile_full[slot.stage]), slot.phase);
    const int tile = shared.tile[slot.stage];
    __syncwarp();
    if (lane_index() == 0) ptx::mbarrier_arrive(address(&shared.barriers.tile_empty[slot.stage]));
    slot.advance();
    return tile;
  }

  // One consumer warpgroup; all of its threads follow the same path.
  struct Consumer {
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

    __device__ void start_scores() {
      ptx::wgmma_fence();
#pragma unroll
      for (int view = 0; view < kViews; ++view) {
        const uint64_t query =
            ptx::matrix_descriptor(address(shared.queries[queries.stage].view[view]) + index * 64 * 128, 0);
        const uint64_t key = ptx::matrix_descriptor(address(shared.stages[keys.stage].key[view]), 0);
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
      uint32_t bad = 0;
#pragma unroll 4
      for (int i = thread; i < kN * Shared::kValuePanels * 8; i += 128) {
        const uint4 chunk = value[i];
        bad |= non_finite<Element>(chunk.x) | non_finite<Element>(chunk.y) | non_finite<Element>(chunk.z) |
               non_finite<Element>(chunk.w);
      }
      return !ptx::bar_red_or(kConsumerBarrier + index, 128, bad != 0);
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

    // The scores of a block are there: its keys are not needed any more, and after the last block the queries neither.
    __device__ void release_operands(const Rows &rows, int block) const {
      release(shared.barriers.key_empty[keys.stage]);
      if (block == rows.work.first_block) release(shared.barriers.query_empty[queries.stage]);
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
      return Policy::weigh(state, scores, rows.scalars, rows.thread_rows, &shared.key_scalars[keys.stage][0][column],
                           mask, a.policy, KeptPlace{rows.work.place});
    }

    // Weights are final at once and mostly zero: blocks without a weight cost no value product.
    __device__ void attend_skipping(typename Policy::State &state, const Rows &rows) {
      ForwardSm90Barriers<Shape> &b = shared.barriers;
      for (int block = rows.work.end_block - 1; block >= rows.work.first_block; --block) {
        ptx::mbarrier_wait(address(&b.key_full[keys.stage]), keys.phase);
        start_scores();
        ptx::wgmma_wait_group<0>();
        if (block == rows.work.first_block) release(b.query_empty[queries.stage]);
        const bool mine = weigh(state, rows, block);
        const bool any = ptx::bar_red_or(kConsumerBarrier + index, 128, mine);
        release(b.key_empty[keys.stage]);
        keys.advance();
        ptx::mbarrier_wait(address(&b.value_full[values.stage]), values.phase);
        if (any) {
          convert(mine);
          if (is_masked(rows, block) && !values_are_finite()) {
            add_contained_values();
          } else {
            start_values();
            ptx::wgmma_wait_group<0>();
          }
        }
        release(b.value_empty[values.stage]);
        values.advance();
      }
    }

    // The value product of a block runs under the weighing of the next one.
    __device__ void attend_overlapped(typename Policy::State &state, const Rows &rows) {
      ForwardSm90Barriers<Shape> &b = shared.barriers;
      int block = rows.work.end_block - 1;
      ptx::mbarrier_wait(address(&b.key_full[keys.stage]), keys.phase);
      start_scores();
      ptx::wgmma_wait_group<0>();
      if constexpr (!kHasScalars) release_operands(rows, block);
      weigh(state, rows, block);
      if constexpr (kHasScalars) release_operands(rows, block);
      keys.advance();
      convert(true);
      for (--block; block >= rows.work.first_block; --block) {
        prepare_values(is_masked(rows, block + 1));
        ptx::mbarrier_wait(address(&b.key_full[keys.stage]), keys.phase);
        start_scores();
        start_values();
        ptx::wgmma_wait_group<1>();
        if constexpr (!kHasScalars) release_operands(rows, block);
        weigh(state, rows, block);
        if constexpr (kHasScalars) release_operands(rows, block);
        keys.advance();
        ptx::wgmma_wait_group<0>();
        release(b.value_empty[values.stage]);
        values.advance();
        convert(true);
        Policy::rescale(state, output);
      }
      prepare_values(is_masked(rows, rows.work.first_block));
      start_values();
      ptx::wgmma_wait_group<0>();
      release(b.value_empty[values.stage]);
      values.advance();
    }

    __device__ void compute(const Work &work) {
      const Sequence &sequence = work.sequence;
      const ThreadRows thread_rows{work.block_row + index * 64 + thread / 32 * 16 + lane_index() / 4};
      const RowScalars<Shape::kRows> row_scalars{&shared.row_scalars[0][thread_rows.first - work.block_row]};
      if (Shape::kRowScalars > 0 && Policy::uses_row_scalars(a.policy)) {
        ptx::bar_sync(kConsumerBarrier + index, 128);  // the rows of the tile before are done
        if (thread < 64) {
          float scalars[Shape::kRowScalars == 0 ? 1 : Shape::kRowScalars];
          Policy::begin_row(a.policy, a.problem, sequence, work.place.head, work.block_row + index * 64 + thread,
                            scalars);
#pragma unroll
          for (int i = 0; i < Shape::kRowScalars; ++i) shared.row_scalars[i][index * 64 + thread] = scalars[i];
        }
        ptx::bar_sync(kConsumerBarrier + index, 128);
      }
#pragma unroll
      for (int n = 0; n < kV / 8; ++n)
#pragma unroll
        for (int e = 0; e < 4; ++e) output[0][n][e] = 0.0f;
      typename Policy::State state = Policy::begin(a.policy, work.place.head);
      if (work.has_keys()) {
        const int last = min(work.block_row + Shape::kRows, sequence.queries) - 1;
        const Rows rows{work, thread_rows, row_scalars, sequence.visible(a.problem, last).first,
                        sequence.visible(a.problem, work.block_row).end};
        ptx::mbarrier_wait(address(&shared.barriers.query_full[queries.stage]), queries.phase);
        if constexpr (Policy::kSkipsEmpty)
          attend_skipping(state, rows);
        else
          attend_overlapped(state, rows);
        queries.advance();
      }
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int row = thread_rows.row(0, half);
        const float factor = Policy::finish(state, row_scalars, a.policy, work.place, sequence, row, 0, half);
        store_row<Element, kV>(output[0], half, factor, a.problem.epilogue, a.output, a.output_type, a.value_dim,
                               sequence.batch, work.place.head, sequence.query_start + row, row < sequence.queries);
      }
    }
  };
};

template <class Policy>
__global__ void __launch_bounds__(Policy::Shape::kThreads, 1)
    forward_sm90(const __grid_constant__ ForwardSm90Arguments<Policy> a) {
  using Kernel = ForwardSm90<Policy>;
  using Shape = typename Policy::Shape;
  extern __shared__ __align__(1024) uint8_t raw[];
  auto &shared = *reinterpret_cast<typename Kernel::Shared *>(raw);
  if (threadIdx.x == 0) Kernel::initialize(shared);
  __syncthreads();
  const int warpgroup = __shfl_sync(0xffffffffu, static_cast<int>(threadIdx.x) / 128, 0);
  if (warpgroup == 0) {
    ptx::setmaxnreg_dec<Shape::kProducerRegisters>();
    const int warp = __shfl_sync(0xffffffffu, static_cast<int>(threadIdx.x) / 32, 0);
    if (warp == 0 && ptx::elect_sync()) Kernel::produce(shared, a);
    if constexpr (Kernel::kHasScalars) {
      if (warp == 1) Kernel::produce_scalars(shared, a);
    }
  } else {
    ptx::setmaxnreg_inc<Shape::kConsumerRegisters>();
    typename Kernel::Consumer consumer{shared, a, warpgroup - 1, static_cast<int>(threadIdx.x) % 128};
    RingCursor<2> slot;
    for (;;) {
      const int tile = Kernel::next_tile(shared, slot);
      if (tile >= a.tiles) break;
      consumer.compute(typename Kernel::Work(a.problem, a.order, tile));
    }
  }
}

}  // namespace sieve
