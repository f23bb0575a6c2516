// The generic forward pipeline: compute capability 8.0 and newer, mma.sync and cp.async, one thread block a query
// block.
//
//   queries -> registers
//   for each key block that the block's rows may see:          two or more stages in shared memory
//     wait, start the copy of a later block
//     for each chunk of keys that the warp's rows may see:
//       scores of every view = queries . keys^T
//       policy.weigh: scores -> weights, "is any of them non-zero?"
//       if so: output += weights . values
//   epilogue, store
//
// Every warp owns 16 kRowTiles query rows and works alone between the barriers, so an empty chunk costs a warp only its
// scores. What an operator is, is its Policy: Shape (numbers), Arguments (plain data), State (per-thread, in registers)
// and
//   key_scalars(arguments, ...)      where the kKeyScalars floats of every key lie; they travel with the key blocks
//   begin_row(arguments, ...)        the kRowScalars floats of a row; they wait in shared memory, registers are scarcer
//   begin(arguments, head)           the state before the first key
//   weigh(state, scores, ...)        scores -> weights in place; returns whether the warp has a non-zero one
//   rescale(state, output)           what a new maximum does to the output so far; nothing where weights are final
//   finish(state, ...)               factor of the whole output row; writes per-row results
// docs/kernels.md lists the policies of the other operators.
#pragma once

#include <type_traits>

#include "device/epilogue.h"
#include "device/problem.h"
#include "device/rows.h"
#include "device/sequence.h"
#include "device/shared_tile.h"
#include "device/warp_product.h"

namespace sieve {

template <class Policy>
struct ForwardArguments {
  ProblemView problem;
  TensorView query[Policy::Shape::kViews];
  TensorView key[Policy::Shape::kViews];
  TensorView value;
  TensorView output;
  OutputType output_type;
  int32_t head_dim;  // of the tensors; the dims of the shape may be larger
  int32_t value_dim;
  TileOrder order;
  typename Policy::Arguments policy;
};

template <class Shape>
struct ForwardSharedMemory {
  using QueryTile = SharedTile<Shape::kRows, kPaddedChannels<Shape::kHeadDim>>;
  using KeyTile = SharedTile<Shape::kKeyBlock, kPaddedChannels<Shape::kHeadDim>>;
  using ValueTile = SharedTile<Shape::kKeyBlock, kPaddedChannels<Shape::kValueDim>>;
  struct Stage {
    uint8_t key[Shape::kViews][KeyTile::kBytes];
    uint8_t value[ValueTile::kBytes];
  };
  using Queries = uint8_t[Shape::kViews][QueryTile::kBytes];
  struct Beside {
    Stage stages[Shape::kStages];
    Queries query;
  };
  union Above {
    Stage stages[Shape::kStages];
    Queries query;  // only before the first key block
  };
  std::conditional_t<Shape::kQueriesStay, Beside, Above> tiles;
  float key_scalars[Shape::kStages][Shape::kKeyScalars == 0 ? 1 : Shape::kKeyScalars][Shape::kKeyBlock];
  float row_scalars[Shape::kRowScalars == 0 ? 1 : Shape::kRowScalars][Shape::kRows];
};

// Where a key block lies: no counter runs along, registers are scarce.
template <class Shape>
__device__ int stage_of(int block) {
  return static_cast<int>(static_cast<unsigned>(block) % Shape::kStages);
}

// Walks along the keys of a sequence, one key block a step, and copies what this thread has to copy.
template <class Policy>
struct KeyWalk {
  using Shape = typename Policy::Shape;
  using SharedMemory = ForwardSharedMemory<Shape>;
  using KeyTile = typename SharedMemory::KeyTile;
  using ValueTile = typename SharedMemory::ValueTile;
  static_assert(Shape::kThreads >= Shape::kKeyScalars * Shape::kKeyBlock,
                "one pass copies all scalars, one float a thread");

  const uint16_t *key[Shape::kViews];
  const uint16_t *value;
  const float *scalar;

  __device__ KeyWalk(const ForwardArguments<Policy> &a, const Sequence &sequence, int key_head, int block) {
    const int first = block * Shape::kKeyBlock;
    const int64_t row = sequence.key_start + static_cast<int64_t>(first);
#pragma unroll
    for (int view = 0; view < Shape::kViews; ++view)
      key[view] = KeyTile::template thread_source<Shape::kThreads>(
          static_cast<const uint16_t *>(a.key[view].row(sequence.batch, key_head, row, 2)), a.key[view].row_stride);
    value = ValueTile::template thread_source<Shape::kThreads>(
        static_cast<const uint16_t *>(a.value.row(sequence.batch, key_head, row, 2)), a.value.row_stride);
    if constexpr (Shape::kKeyScalars == 0) return;
    const int index = min(static_cast<int>(threadIdx.x) / Shape::kKeyBlock, Shape::kKeyScalars - 1);
    scalar = Policy::key_scalars(a.policy, a.problem, index, sequence.batch, key_head) + row +
             static_cast<int>(threadIdx.x) % Shape::kKeyBlock;
  }

  // Starts copying the next block into a stage; of its keys, `remaining` belong to the sequence, others become zero.
  __device__ void load_next(ForwardSharedMemory<Shape> &shared, int stage, const ForwardArguments<Policy> &a,
                            int remaining) {
#pragma unroll
    for (int view = 0; view < Shape::kViews; ++view) {
      KeyTile::template load<Shape::kThreads>(ptx::shared_address(shared.tiles.stages[stage].key[view]), key[view],
                                              a.key[view].row_stride,
                                              KeyTile::template inside<Shape::kThreads>(a.head_dim) ? remaining : 0);
      key[view] += Shape::kKeyBlock * a.key[view].row_stride;
    }
    ValueTile::template load<Shape::kThreads>(ptx::shared_address(shared.tiles.stages[stage].value), value,
                                              a.value.row_stride,
                                              ValueTile::template inside<Shape::kThreads>(a.value_dim) ? remaining : 0);
    value += Shape::kKeyBlock * a.value.row_stride;
    if constexpr (Shape::kKeyScalars > 0) {
      if (static_cast<int>(threadIdx.x) < Shape::kKeyScalars * Shape::kKeyBlock)
        ptx::cp_async_4(ptx::shared_address(&shared.key_scalars[stage][0][0] + threadIdx.x), scalar,
                        static_cast<int>(threadIdx.x) % Shape::kKeyBlock < remaining ? 4 : 0);
      scalar += Shape::kKeyBlock;
    }
  }
};

template <class Policy>
__global__ void __launch_bounds__(Policy::Shape::kThreads, Policy::Shape::kBlocksPerMultiprocessor)
    forward_sm80(const __grid_constant__ ForwardArguments<Policy> a) {
  using Shape = typename Policy::Shape;
  using Element = typename Shape::Element;
  using SharedMemory = ForwardSharedMemory<Shape>;
  constexpr int kWarpRows = 16 * Shape::kRowTiles;
  static_assert(Shape::kThreads == Shape::kRows / kWarpRows * 32, "one warp for every kWarpRows rows");
  static_assert(Shape::kStages >= 2, "one stage is computed on while another is filled");
  static_assert(sizeof(SharedMemory) <= 99 * 1024, "the least shared memory of capability 8.0 and newer");
  extern __shared__ __align__(128) uint8_t raw[];
  SharedMemory &shared = *reinterpret_cast<SharedMemory *>(raw);

  const PlaceOfBlock block_place{a.problem, a.order};
  const BlockPlace place = block_place.get();
  const Sequence sequence = Sequence::at(a.problem, place.sequence);
  const int block_row = place.query_block * Shape::kRows;
  if (block_row >= sequence.queries) return;

  const int lane = lane_index();
  const int warp_row = block_row + static_cast<int>(threadIdx.x) / 32 * kWarpRows;
  const ThreadRows thread_rows{warp_row + lane / 4};

  using QueryTile = typename SharedMemory::QueryTile;
  std::conditional_t<Shape::kQueriesStay, RowsInShared<Shape::kRowTiles, Shape::kRows, Shape::kHeadDim>,
                     RowsInRegisters<Shape::kRowTiles, Shape::kRows, Shape::kHeadDim>>
      queries[Shape::kViews];
#pragma unroll
  for (int view = 0; view < Shape::kViews; ++view) {
    const TensorView &query = a.query[view];
    QueryTile::template load<Shape::kThreads>(
        ptx::shared_address(shared.tiles.query[view]),
        QueryTile::template thread_source<Shape::kThreads>(
            static_cast<const uint16_t *>(
                query.row(sequence.batch, place.head, sequence.query_start + static_cast<int64_t>(block_row), 2)),
            query.row_stride),
        query.row_stride, QueryTile::template inside<Shape::kThreads>(a.head_dim) ? sequence.queries - block_row : 0);
  }
  ptx::cp_async_commit_group();
  for (int row = static_cast<int>(threadIdx.x); row < Shape::kRows && Policy::uses_row_scalars(a.policy);
       row += Shape::kThreads) {
    float scalars[Shape::kRowScalars == 0 ? 1 : Shape::kRowScalars];
    Policy::begin_row(a.policy, a.problem, sequence, place.head, block_row + row, scalars);
#pragma unroll
    for (int i = 0; i < Shape::kRowScalars; ++i) shared.row_scalars[i][row] = scalars[i];
  }
  ptx::cp_async_wait_group<0>();
  __syncthreads();
#pragma unroll
  for (int view = 0; view < Shape::kViews; ++view)
    queries[view].load(ptx::shared_address(shared.tiles.query[view]), warp_row - block_row);
  if constexpr (!Shape::kQueriesStay) __syncthreads();  // the stages reuse the queries' memory

  // Ranges of keys are non-decreasing from row to row, so the first and last row bound those between.
  const int block_last = min(block_row + Shape::kRows, sequence.queries) - 1;
  const int warp_last = min(warp_row + kWarpRows, sequence.queries) - 1;
  const KeyRange warp_top = sequence.visible(a.problem, warp_row);
  const KeyRange warp_bottom = warp_row < sequence.queries ? sequence.visible(a.problem, warp_last) : KeyRange{0, 0};
  const int first_block = sequence.visible(a.problem, block_row).first / Shape::kKeyBlock;
  const int end_block = (sequence.visible(a.problem, block_last).end + Shape::kKeyBlock - 1) / Shape::kKeyBlock;

  KeyWalk<Policy> walk(a, sequence, place.head / a.problem.group, first_block);
#pragma unroll
  for (int i = 0; i < Shape::kStages - 1; ++i) {
    const int block = first_block + i;
    if (block < end_block) walk.load_next(shared, stage_of<Shape>(block), a, sequence.keys - block * Shape::kKeyBlock);
    ptx::cp_async_commit_group();
  }

  typename Policy::State state = Policy::begin(a.policy, place.head);
  const RowScalars<Shape::kRows> row_scalars{&shared.row_scalars[0][thread_rows.first - block_row]};
  Accumulators<Shape::kRowTiles, Shape::kValueDim> output = {};
  for (int block = first_block; block < end_block; ++block) {
    ptx::cp_async_wait_group<Shape::kStages - 2>();
    __syncthreads();  // this stage has arrived for everyone, and everyone has left the stage that is filled next
    if (const int later = block + Shape::kStages - 1; later < end_block)
      walk.load_next(shared, stage_of<Shape>(later), a, sequence.keys - later * Shape::kKeyBlock);
    ptx::cp_async_commit_group();

    const int stage = stage_of<Shape>(block);
#pragma unroll 1
    for (int chunk = 0; chunk < Shape::kKeyBlock; chunk += Shape::kKeyChunk) {
      const int key = block * Shape::kKeyBlock + chunk;
      if (key >= warp_bottom.end || key + Shape::kKeyChunk <= warp_top.first) continue;
      Accumulators<Shape::kRowTiles, Shape::kKeyChunk> scores[Shape::kViews];
#pragma unroll
      for (int view = 0; view < Shape::kViews; ++view)
        score_product<Element, Shape::kRowTiles, Shape::kKeyChunk, Shape::kKeyBlock, Shape::kHeadDim>(
            scores[view], queries[view], ptx::shared_address(shared.tiles.stages[stage].key[view]), chunk);
      const ChunkMask mask{a.problem, sequence, thread_rows.first, key + 2 * (lane & 3),
                           key < warp_bottom.first || key + Shape::kKeyChunk > warp_top.end};
      const float *key_scalars = &shared.key_scalars[stage][0][chunk + 2 * (lane & 3)];
      if (!Policy::weigh(state, scores, row_scalars, thread_rows, key_scalars, mask, a.policy, block_place)) continue;
      Policy::rescale(state, output);
      const uint32_t values = ptx::shared_address(shared.tiles.stages[stage].value);
      if (mask.active)
        value_product<Element, true, Shape::kRowTiles, Shape::kKeyChunk, Shape::kKeyBlock, Shape::kValueDim>(
            output, scores[0], values, chunk);
      else
        value_product<Element, false, Shape::kRowTiles, Shape::kKeyChunk, Shape::kKeyBlock, Shape::kValueDim>(
            output, scores[0], values, chunk);
    }
  }

  const BlockPlace end_place = block_place.get();
  const Sequence end_sequence = Sequence::at(a.problem, end_place.sequence);
#pragma unroll
  for (int m = 0; m < Shape::kRowTiles; ++m) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = thread_rows.row(m, half);
      store_row<Element, Shape::kValueDim>(
          output[m], half, Policy::finish(state, row_scalars, a.policy, end_place, end_sequence, row, m, half),
          a.problem.epilogue, a.output, a.output_type, a.value_dim, end_sequence.batch, end_place.head,
          end_sequence.query_start + row, row < end_sequence.queries);
    }
  }
}

}  // namespace sieve
