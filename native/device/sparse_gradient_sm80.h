// The generic backward pipeline of operators whose weights are final at once and mostly zero (a threshold known before
// the first key): compute capability 8.0 and newer, mma.sync and cp.async. It visits the tiles of 64 query rows x 64
// keys that a bitmap names, and costs nothing elsewhere.
//
// It runs twice, mirrored, so that every sum stays in the registers of one warp: no atomics, one order, the same bits
// in every run. A thread block owns 64 keys (kOwnsKeys: gradients of keys and values) or 64 query rows (gradients of
// queries, sums of rows). "Rows" are what a block owns, "columns" what it meets; each have up to two views and their
// values (of query rows: the upstream gradients).
//
//   for up to kSegment candidates: which tiles are active -> bits in shared memory     barrier: the bits are there
//   for each active tile, in kColumns columns                                          kStages of them in shared memory
//     wait for the columns                                                             barrier A: they are here
//     where a row does not see a column: what is not finite is taken out               barrier B: it is out
//     each warp with its 16 rows, for kChunk columns:
//       scores of every view = rows . columns^T -> exceedances                         the forward's products and order
//       for 16 columns with a weight:
//         G    = values . values^T
//         policy: exceedances, G -> weights W, score gradients D, rounded
//         sums of view t += D_t . columns_t         value sums += W . values           (the latter: kOwnsKeys)
//                                                                                      barrier C: the stage is free
//     start the copy of later columns
//   sums -> gradients -> global memory
//
// Scoring twice is what the second sweep costs: where every tile is active 11 products instead of 8, where 3 % are,
// nothing that matters beside finding them.
//
// Where the sums of 16 rows do not fit the registers, two warps share the rows (kSplit): each looks for weights in half
// of the columns, tells the other (pair barrier), and sums its part of the channels of what either found. Registers:
// sums (kViews kHeadDim + value_dim of key blocks) / (2 kSplit), exceedances kViews kChunk / 2, G 8. Shared memory:
// rows and their values, kStages of columns.
//
// Values that are not finite stay with the pairs that see them: rows, as A operands, reach their own sums only. Columns
// are B operands of the sums; where a row does not see one of them, theirs are replaced by zero and their scalars by
// NaN, and what is not visible has no weight whatever its score.
//
// A policy has Shape (numbers), Arguments (plain data), and
//   kQueryScalars, kKeyScalars          how many floats a query row and a key have
//   active(arguments, ...)              bits of a tile, one a view
//   exceedance(score, view, q, k)       > 0 or NaN: the pair has a weight; q and k are the floats of the pair
//   tile(arguments, head)               a float that all pairs of a tile have in common; weigh gets it
//   key_scale(arguments, ...)           factor of what a block of keys sums; weigh multiplies with it
//   with_power(arguments, function)     calls it with a constant that weigh takes, chosen once for many pairs
//   weigh<constant, kOwnsKeys>(...)     weight and score gradients of a pair, times what their sums want
//   Sums                                what a query row adds up besides
//   poison<of_queries>(scalars, column) makes the pairs of a column NaN
//   finish_query, finish_key, ...       factors of finished sums
//   close_rows, no_rows                 what becomes of the Sums of a block of query rows
#pragma once

#include "device/sparse_gradient_sm80_block.h"

namespace sieve {

template <class Policy, bool kOwnsKeys>
__global__ void __launch_bounds__(Policy::Shape::kThreads, Policy::Shape::kBlocksPerMultiprocessor)
    sparse_gradient_sm80(const __grid_constant__ SparseGradientArguments<Policy> a) {
  using Shape = typename Policy::Shape;
  using Block = SparseGradientBlock<Policy, kOwnsKeys>;
  using SharedMemory = typename Block::SharedMemory;
  constexpr int kStages = Shape::kStages;
  static_assert(sizeof(SharedMemory) <= 99 * 1024, "the least shared memory of capability 8.0 and newer");
  extern __shared__ __align__(128) uint8_t raw[];
  SharedMemory &shared = *reinterpret_cast<SharedMemory *>(raw);

  if (threadIdx.x == 0) {
    SparseGradientPlace place{};
    place.exists = find_sparse_gradient_place<kOwnsKeys>(a.problem, a.order, static_cast<int>(blockIdx.x), place);
    shared.place = place;
    if (kOwnsKeys && place.exists)
      shared.key_scale = Policy::key_scale(a.policy, a.problem, place.sequence, place.column_head);
  }
  if (static_cast<int>(threadIdx.x) < Shape::kColumns) shared.marks[threadIdx.x] = 0.0f;
  __syncthreads();
  if (!shared.place.exists) {
    if constexpr (!kOwnsKeys) Policy::no_rows(a.policy, static_cast<int>(blockIdx.x));
    return;
  }

  Block block{a, shared, shared.place};
  bool has_rows = false;
#pragma unroll 1
  for (int first = 0; first < block.candidates(); first += Shape::kSegment) {
    block.find_active(first);
    __syncthreads();
    typename Block::Item item{block.next_active(0), 0};
    typename Block::Item ahead = item;
    if (!has_rows && item.candidate < Shape::kSegment) {
      block.load_rows();
      has_rows = true;
    }
    const auto load_ahead = [&](int stage) {
      if (ahead.candidate < Shape::kSegment) {
        block.load_columns(first, ahead, stage);
        ahead = block.next(ahead);
      }
      ptx::cp_async_commit_group();
    };
#pragma unroll
    for (int stage = 0; stage < kStages; ++stage) load_ahead(stage);
    int stage = 0;
#pragma unroll 1
    for (; item.candidate < Shape::kSegment; item = block.next(item)) {
      if (threadIdx.x == 0)
        shared.tile = Policy::tile(a.policy, kOwnsKeys ? block.head_of(first + item.candidate) : shared.place.head);
      ptx::cp_async_wait_group<kStages - 1>();
      __syncthreads();  // barrier A
      block.visit(first, item, stage);
      __syncthreads();  // barrier C
      load_ahead(stage);
      if (++stage == kStages) stage = 0;
    }
    __syncthreads();  // the bits have been read
  }
  ptx::cp_async_wait_group<0>();
  block.finish();
  if constexpr (!kOwnsKeys)
    Policy::close_rows(a.policy, a.problem, shared.place, shared.row_scalars, shared.after.sums);
}

}  // namespace sieve
