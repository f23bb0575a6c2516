// The generic backward pipeline: compute capability 8.0 and newer, mma.sync and cp.async, one thread block a key block.
//
//   keys, values -> shared memory                                              once
//   for each query head of the group, for each tile of query rows that sees the keys:
//     wait for queries, output gradients, row scalars              barrier A: the tile is here, dS is free
//     for each chunk of queries, each warp with its 16 kKeyTiles keys:
//       S^T  = keys . queries^T              dP^T = values . output_gradients^T
//       policy: S, dP, row scalars -> weights P, score gradients dS            (FP32, then rounded to pairs)
//       dS^T -> shared memory                dV += P^T . output_gradients      dK += dS^T . queries
//                                                                  barrier B: dS is complete, the tile is free
//     start the copy of a later tile
//     dQ   = dS . keys -> added to query_sums in global memory
//   dK, dV -> global memory
//
// Scores are computed transposed, so that P^T and dS^T are the A operands of the next products as they stand in the
// registers, and dK and dV stay in the registers of the warp that owns their keys: no atomics, a fixed order. Only the
// sums for the query gradient are shared between thread blocks. They are added as they come, or, where the result must
// repeat bit for bit, in the order of the key blocks from last to first: a block waits until it is its turn at a tile.
// Thread blocks then start in that order too, so that one only ever waits for blocks that started before it; under a
// causal mask every block reaches its first tile first of all, and the turns follow each other like a wave.
//
// What bounds it is the reading of operands from shared memory, which a warp with more keys does less often. Where dK
// and dV of 32 keys do not fit the registers (128 channels), kSplit warps share the keys: each scores its part of the
// tile's queries and sums its part of the channels. P^T then goes through shared memory too, the products with it
// follow barrier B, and barrier C frees the tile.
//
// Registers: dK and dV (kKeyTiles (head_dim + value_dim) / (2 kSplit) a thread), S and dP of a chunk, or dQ. Shared
// memory: keys, values, kStages tiles of queries and output gradients, dS, with kSplit > 1 also P.
//
// Values that are not finite stay with the pairs that see them. Keys and values, as A operands, reach their own rows
// only. As B operands queries, output gradients (in tiles where a row does not see a key) and keys are replaced by
// zero, and their rows marked: a NaN among the row scalars, or added to the scores of the key, makes the weights of
// what is visible NaN, and what is not visible stays zero.
//
// What an operator is, is its Policy: Shape (numbers), Arguments (plain data) and
//   factor(arguments)                    of all scores; rows may have one of their own besides
//   weight(score, factor, shift)         weight of a pair; NaN where shift, a number of the row, is NaN
//   gradient(weight, dweight, delta)     derivative by the score, without the factors; delta is a number of the row too
// docs/kernels.md says what two views and other weights add.
#pragma once

#include "device/gradient_products.h"
#include "device/gradient_tiles.h"
#include "device/key_blocks.h"
#include "device/ptx/reduce.h"
#include "device/ptx/store_shared.h"

namespace sieve {

template <class Policy>
struct BackwardArguments {
  ProblemView problem;
  HeadGroups order;
  int32_t head_dim = 0;  // of the tensors; the shape's or less
  int32_t value_dim = 0;
  TensorView query;
  TensorView key;
  TensorView value;
  TensorView output_gradient;
  TensorView key_gradient;  // data = nullptr: not wanted
  TensorView value_gradient;
  OutputType key_gradient_type = OutputType::kElement;
  OutputType value_gradient_type = OutputType::kElement;
  float key_scale = 1;
  float value_scale = 1;
  int64_t padded_rows = 0;
  const float *shifts = nullptr;
  const float *deltas = nullptr;
  const float *factors = nullptr;  // null: all 1
  float *query_sums = nullptr;     // null: not wanted
  int32_t *turns = nullptr;        // null: sums are added as they come
  typename Policy::Arguments policy;
};

// What a thread block works on. It waits in shared memory: registers are scarcer, and none of it is needed per pair.
struct BackwardPlace {
  Sequence sequence;
  int key_head;
  int key_block;
  int64_t padded;  // of row 0 of the sequence
  int first_tile;  // of query rows that see a key of the block
  int tiles;
};

template <class Policy>
struct BackwardSharedMemory {
  using Shape = typename Policy::Shape;
  uint8_t key[SharedTile<Shape::kKeyBlock, Shape::kHeadDim>::kBytes];
  uint8_t value[SharedTile<Shape::kKeyBlock, Shape::kValueDim>::kBytes];
  struct Stage {
    uint8_t query[SharedTile<Shape::kQueryBlock, Shape::kHeadDim>::kBytes];
    uint8_t output_gradient[SharedTile<Shape::kQueryBlock, Shape::kValueDim>::kBytes];
  } stages[Shape::kStages];
  static constexpr int kPairBytes = SharedTile<Shape::kKeyBlock, Shape::kQueryBlock>::kBytes;
  uint8_t score_gradients[kPairBytes];                       // [keys][queries]
  uint8_t weights[Shape::kSplit > 1 ? kPairBytes : 16];      // [keys][queries]
  float row_scalars[Shape::kStages][3][Shape::kQueryBlock];  // shifts, deltas, factors
  float key_marks[Shape::kKeyBlock];                         // 0, or NaN for keys that are not finite
  int has_key_marks;
  BackwardPlace place;
};

// The place of a thread block in its loop: a tile of query rows of one head of the group.
struct QueryTile {
  int head;
  int tile;
};

template <class Policy>
struct BackwardBlock {
  using Shape = typename Policy::Shape;
  using Element = typename Shape::Element;
  using SharedMemory = BackwardSharedMemory<Policy>;
  static constexpr int kThreads = Shape::kThreads;
  static constexpr int kWarps = kThreads / 32;
  static constexpr int kQueryBlock = Shape::kQueryBlock;
  static constexpr int kQueryChunk = Shape::kQueryChunk;
  static constexpr int kKeyTiles = Shape::kKeyTiles;
  static constexpr int kWarpKeys = 16 * kKeyTiles;
  static constexpr int kSplit = Shape::kSplit;
  static constexpr int kWarpQueries = kQueryBlock / kSplit;       // that a warp scores
  static constexpr int kWarpChannels = Shape::kHeadDim / kSplit;  // that a warp sums
  static constexpr int kWarpValueChannels = Shape::kValueDim / kSplit;
  static constexpr int kDqRowTiles = kQueryBlock / 16 / Shape::kDqRowWarps;
  static constexpr int kDqColumns = Shape::kHeadDim * Shape::kDqRowWarps / kWarps;
  static_assert(Shape::kKeyBlock * kSplit == kWarps * kWarpKeys, "every warp, or kSplit of them, own their keys");
  static_assert(PaddedRows::kTile % kQueryBlock == 0 && kQueryBlock % 64 == 0, "query tiles are whole padded tiles");
  static_assert(kWarpQueries % kQueryChunk == 0 && kQueryChunk % 16 == 0, "whole chunks of whole products");
  static_assert(kDqRowTiles * 16 * Shape::kDqRowWarps == kQueryBlock && kDqColumns % 16 == 0, "whole products");

  const BackwardArguments<Policy> &a;
  SharedMemory &shared;
  const BackwardPlace &place;

  __device__ int first_key() const { return place.key_block * Shape::kKeyBlock; }

  // Starts copying a tile of query rows into a stage.
  __device__ void load(const QueryTile &at, int stage) const {
    const Sequence &sequence = place.sequence;
    const int row = at.tile * kQueryBlock;
    const int64_t tensor_row = sequence.query_start + static_cast<int64_t>(row);
    load_tile<kThreads, kQueryBlock, Shape::kHeadDim>(shared.stages[stage].query, a.query, sequence.batch, at.head,
                                                      tensor_row, sequence.queries - row, a.head_dim);
    load_tile<kThreads, kQueryBlock, Shape::kValueDim>(shared.stages[stage].output_gradient, a.output_gradient,
                                                       sequence.batch, at.head, tensor_row, sequence.queries - row,
                                                       a.value_dim);
    const int64_t first = at.head * a.padded_rows + place.padded + row;
    const int scalars = a.factors != nullptr ? 3 : 2;
#pragma unroll 1
    for (int i = ptx::mov_here(static_cast<int>(threadIdx.x)); i < scalars * kQueryBlock; i += kThreads) {
      const float *source = i < kQueryBlock ? a.shifts : i < 2 * kQueryBlock ? a.deltas : a.factors;
      ptx::cp_async_4(ptx::shared_address(&shared.row_scalars[stage][0][0] + i), source + first + i % kQueryBlock, 4);
    }
  }

  // Whether a row of the tile does not see a key of the block: only such pairs need masks.
  __device__ bool crosses_an_edge(int tile) const {
    const Sequence &sequence = place.sequence;
    const int first = tile * kQueryBlock, last = first + kQueryBlock - 1;
    return last >= sequence.queries || first_key() + Shape::kKeyBlock > sequence.visible(a.problem, first).end ||
           first_key() < sequence.visible(a.problem, last).first;
  }

  // Scores and products of value gradients of one chunk -> weights and score gradients. The latter go to shared memory
  // as they are, and come back with the row's factor for the key gradient.
  template <bool kMasked>
  __device__ void weigh(Accumulators<kKeyTiles, kQueryChunk> &scores, Accumulators<kKeyTiles, kQueryChunk> &products,
                        PackedTiles<kKeyTiles, kQueryChunk> &weights, PackedTiles<kKeyTiles, kQueryChunk> &gradients,
                        int stage, int tile, int chunk, int warp_key) const {
    const int lane = lane_index();
    const int column = chunk + 2 * (lane & 3);
    const int key = warp_key + lane / 4;
    const bool has_marks = shared.has_key_marks != 0;
    const uint32_t row_bytes = static_cast<uint32_t>(key * kQueryBlock * 2 + (lane & 3) * 4);
    const uint32_t gradient_row = ptx::shared_address(shared.score_gradients) + row_bytes;
#pragma unroll
    for (int n = 0; n < kQueryChunk / 8; ++n) {
      const auto pair = [&](int scalar) {
        return *reinterpret_cast<const float2 *>(&shared.row_scalars[stage][scalar][column + 8 * n]);
      };
      const float2 shift = pair(0), delta = pair(1);
      const float2 factor = a.factors != nullptr ? pair(2) : make_float2(1.0f, 1.0f);
      const float factors[2] = {Policy::factor(a.policy) * factor.x, Policy::factor(a.policy) * factor.y};
      KeyRange range[2];
      if constexpr (kMasked) {
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          const int row = tile * kQueryBlock + column + 8 * n + i;
          range[i] = place.sequence.visible(a.problem, row);
          range[i].first -= first_key() + key;
          range[i].end = row < place.sequence.queries ? range[i].end - first_key() - key : range[i].first;
        }
      }
#pragma unroll
      for (int m = 0; m < kKeyTiles; ++m) {
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          float &s = scores[m][n][e], &g = products[m][n][e];
          if (has_marks) s += shared.key_marks[key + 16 * m + 8 * (e / 2)];
          s = Policy::weight(s, factors[e & 1], e & 1 ? shift.y : shift.x);
          g = Policy::gradient(s, g, e & 1 ? delta.y : delta.x);
          if constexpr (kMasked) {
            const int k = 16 * m + 8 * (e / 2);
            const bool visible = k >= range[e & 1].first && k < range[e & 1].end;
            s = visible ? s : 0.0f;
            g = visible ? g : 0.0f;
          }
        }
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          float *g = products[m][n] + 2 * half;
          weights[m][n][half] = ptx::cvt_x2<Element>(scores[m][n][2 * half], scores[m][n][2 * half + 1]);
          gradients[m][n][half] = ptx::cvt_x2<Element>(g[0], g[1]);
          // Eight queries are one 16-byte piece of a row, swizzled as in SharedTile; key % 8 is lane / 4.
          const uint32_t piece = static_cast<uint32_t>((chunk / 8 + n) ^ (lane / 4)) << 4;
          const uint32_t target = gradient_row + static_cast<uint32_t>((16 * m + 8 * half) * kQueryBlock * 2) + piece;
          ptx::store_shared(target, gradients[m][n][half]);
          if constexpr (kSplit > 1)
            ptx::store_shared(target + SharedMemory::kPairBytes, weights[m][n][half]);
          else if (a.factors != nullptr)
            gradients[m][n][half] = ptx::cvt_x2<Element>(g[0] * factor.x, g[1] * factor.y);
        }
      }
    }
  }

  // Score gradients in shared memory, times the factors of their queries.
  struct FactoredRows {
    RowsInShared<kKeyTiles, Shape::kKeyBlock, kQueryBlock> rows;
    const float *factors;  // of this thread's columns; null: all 1

    __device__ void read(uint32_t (&words)[kKeyTiles][4], int k) const {
      rows.read(words, k);
      if (factors == nullptr) return;
#pragma unroll
      for (int m = 0; m < kKeyTiles; ++m)
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const float2 g = unpack<Element>(words[m][i]);
          const float2 factor = *reinterpret_cast<const float2 *>(factors + 16 * k + 8 * (i / 2));
          words[m][i] = ptx::cvt_x2<Element>(g.x * factor.x, g.y * factor.y);
        }
    }
  };

  // Sums of a split warp: all queries of the tile, its share of the channels.
  __device__ void sum_shared(Accumulators<kKeyTiles, kWarpChannels> &key_sums,
                             Accumulators<kKeyTiles, kWarpValueChannels> &value_sums, int stage, int warp_key,
                             int part) const {
    RowsInShared<kKeyTiles, Shape::kKeyBlock, kQueryBlock> weights;
    weights.load(ptx::shared_address(shared.weights), warp_key);
    sum_product<Element, kKeyTiles, kWarpValueChannels, kQueryBlock, kQueryBlock, Shape::kValueDim>(
        value_sums, weights, ptx::shared_address(shared.stages[stage].output_gradient), 0,
        part * kWarpValueChannels / 16);
    FactoredRows gradients;
    gradients.rows.load(ptx::shared_address(shared.score_gradients), warp_key);
    gradients.factors = a.factors != nullptr ? &shared.row_scalars[stage][2][2 * (lane_index() & 3)] : nullptr;
    sum_product<Element, kKeyTiles, kWarpChannels, kQueryBlock, kQueryBlock, Shape::kHeadDim>(
        key_sums, gradients, ptx::shared_address(shared.stages[stage].query), 0, part * kWarpChannels / 16);
  }

  // Adds dS . keys of a tile to the query sums.
  __device__ void add_query_sums(const QueryTile &at) const {
    // Read here: what hangs on it should not occupy registers over the loop around.
    const int thread = ptx::mov_here(static_cast<int>(threadIdx.x));
    const int warp = thread / 32;
    const int first_tile = warp % Shape::kDqRowWarps * kDqRowTiles;
    const int first_column = warp / Shape::kDqRowWarps * kDqColumns;
    Accumulators<kDqRowTiles, kDqColumns> sums;
    transposed_product<Element, kDqRowTiles, kDqColumns, Shape::kKeyBlock, kQueryBlock, Shape::kHeadDim>(
        sums, ptx::shared_address(shared.score_gradients), thread % 32, first_tile, ptx::shared_address(shared.key),
        first_column / 16);
    const int64_t first = at.head * a.padded_rows + place.padded + at.tile * kQueryBlock;
    int32_t *turn = a.turns + first / 64 * 2;
    int behind = 0;
    if (a.turns != nullptr) {
      behind = blocks_behind(a.problem, place.sequence, place.key_block, Shape::kKeyBlock, at.tile * kQueryBlock,
                             kQueryBlock);
      if (threadIdx.x == 0)
        while (ptx::load_acquire(turn) != behind) {
        }
      __syncthreads();
    }
    float *target = a.query_sums + first * Shape::kHeadDim + thread % 32 * 4;
#pragma unroll
    for (int m = 0; m < kDqRowTiles; ++m) {
      const int tile = first_tile + m;  // four to 64 rows
      float *rows = target + tile / 4 * 64 * Shape::kHeadDim + tile % 4 * 32 * 4 + first_column / 8 * 128 * 4;
#pragma unroll
      for (int n = 0; n < kDqColumns / 8; ++n) ptx::red_add_v4(rows + n * 128 * 4, sums[m][n]);
    }
    if (a.turns != nullptr) {
      __syncthreads();
      if (threadIdx.x == 0) {
        __threadfence();
        ptx::store_release(turn, behind + 1);
      }
    }
  }

  // Writes the gradient of this warp's keys; keys outside the sequence, but inside the tensor, get 0.
  template <int kChannels>
  __device__ void store(const float (&sums)[kKeyTiles][kChannels / 8][4], const TensorView &gradient, OutputType type,
                        float scale, int warp_key, int first_channel, int channels) const {
    if (gradient.data == nullptr) return;
    const Sequence &sequence = place.sequence;
    const int rows = a.problem.query_starts != nullptr ? sequence.keys : a.problem.keys;
    const int lane = lane_index();
#pragma unroll
    for (int m = 0; m < kKeyTiles; ++m) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int row = first_key() + warp_key + 16 * m + 8 * half + lane / 4;
        if (row >= rows) continue;
        void *target = gradient.row(sequence.batch, place.key_head, sequence.key_start + static_cast<int64_t>(row),
                                    type == OutputType::kFloat32 ? 4 : 2);
#pragma unroll
        for (int n = 0; n < kChannels / 8; ++n) {
          if (first_channel + 8 * n >= channels) break;
          const int channel = first_channel + 8 * n + 2 * (lane & 3);
          const float x = sums[m][n][2 * half] * scale, y = sums[m][n][2 * half + 1] * scale;
          if (type == OutputType::kFloat32)
            *reinterpret_cast<float2 *>(static_cast<float *>(target) + channel) = make_float2(x, y);
          else
            *reinterpret_cast<uint32_t *>(static_cast<uint16_t *>(target) + channel) = ptx::cvt_x2<Element>(x, y);
        }
      }
    }
  }
};

template <class Policy>
__global__ void __launch_bounds__(Policy::Shape::kThreads, Policy::Shape::kBlocksPerMultiprocessor)
    backward_sm80(const __grid_constant__ BackwardArguments<Policy> a) {
  using Shape = typename Policy::Shape;
  using Element = typename Shape::Element;
  using Block = BackwardBlock<Policy>;
  using SharedMemory = BackwardSharedMemory<Policy>;
  constexpr int kThreads = Shape::kThreads, kStages = Shape::kStages;
  static_assert(sizeof(SharedMemory) <= 99 * 1024, "the least shared memory of capability 8.0 and newer");
  extern __shared__ __align__(128) uint8_t raw[];
  SharedMemory &shared = *reinterpret_cast<SharedMemory *>(raw);

  // Without turns the blocks with most query rows (the first keys, under a causal mask) start first.
  const int index = static_cast<int>(a.turns == nullptr ? blockIdx.x : gridDim.x - 1 - blockIdx.x);
  const KeyBlockPlace key_place = KeyBlockPlace::of(a.problem, a.order, Shape::kKeyBlock, index);
  if (key_place.sequence < 0) return;
  const Sequence sequence = Sequence::at(a.problem, key_place.sequence);
  const int first_key = key_place.key_block * Shape::kKeyBlock;
  const int rows = a.problem.query_starts != nullptr ? sequence.keys : a.problem.keys;
  if (first_key >= rows) return;
  const RowRange visible =
      rows_that_see(a.problem, sequence, first_key, min(first_key + Shape::kKeyBlock, sequence.keys));
  if (threadIdx.x == 0) {
    const int first_tile = visible.first / Shape::kQueryBlock;
    const int tiles = (visible.end + Shape::kQueryBlock - 1) / Shape::kQueryBlock - first_tile;
    shared.place = {sequence,
                    key_place.key_head,
                    key_place.key_block,
                    PaddedRows::first(a.problem, sequence, key_place.sequence),
                    first_tile,
                    visible.first < visible.end ? tiles : 0};
  }
  __syncthreads();
  const BackwardPlace &place = shared.place;
  const Block block{a, shared, place};
  const auto load_ahead = [&](QueryTile at, int steps, int stage) {
    at.tile += steps;
    for (; at.tile >= place.first_tile + place.tiles; at.tile -= place.tiles) ++at.head;
    if (at.head < (place.key_head + 1) * a.problem.group) block.load(at, stage);
    ptx::cp_async_commit_group();
  };

  const int64_t key_row = sequence.key_start + static_cast<int64_t>(first_key);
  QueryTile at{place.key_head * a.problem.group, place.first_tile};
  if (place.tiles > 0) {
    load_tile<kThreads, Shape::kKeyBlock, Shape::kHeadDim>(shared.key, a.key, sequence.batch, key_place.key_head,
                                                           key_row, sequence.keys - first_key, a.head_dim);
    load_tile<kThreads, Shape::kKeyBlock, Shape::kValueDim>(shared.value, a.value, sequence.batch, place.key_head,
                                                            key_row, sequence.keys - first_key, a.value_dim);
#pragma unroll
    for (int stage = 0; stage < kStages; ++stage) load_ahead(at, stage, stage);
  }
  for (int i = static_cast<int>(threadIdx.x); i < Shape::kKeyBlock; i += kThreads) shared.key_marks[i] = 0.0f;
  ptx::cp_async_wait_group<kStages - 1>();
  __syncthreads();
  const int has_key_marks =
      __syncthreads_or(place.tiles > 0 && take_out_non_finite<Element, kThreads, Shape::kKeyBlock, Shape::kHeadDim>(
                                              shared.key, shared.key_marks));
  if (threadIdx.x == 0) shared.has_key_marks = has_key_marks;

  // Where a warp stands is read where it is needed: cheap, and no registers over the loop.
  const auto first_key_of_warp = [] {
    return ptx::mov_here(static_cast<int>(threadIdx.x)) / 32 / Shape::kSplit * Block::kWarpKeys;
  };
  const auto part_of_warp = [] { return static_cast<int>(threadIdx.x) / 32 % Shape::kSplit; };
  Accumulators<Shape::kKeyTiles, Block::kWarpChannels> key_sums = {};
  Accumulators<Shape::kKeyTiles, Block::kWarpValueChannels> value_sums = {};
  int stage = 0;
#pragma unroll 1
  while (place.tiles > 0 && at.head < (place.key_head + 1) * a.problem.group) {
    ptx::cp_async_wait_group<kStages - 1>();
    __syncthreads();  // barrier A
    typename SharedMemory::Stage &tile = shared.stages[stage];
    const int warp_key = first_key_of_warp(), part = part_of_warp();
    const bool masked = block.crosses_an_edge(at.tile);
    if (masked) {
      take_out_non_finite<Element, kThreads, Shape::kQueryBlock, Shape::kHeadDim>(tile.query,
                                                                                  shared.row_scalars[stage][0]);
      take_out_non_finite<Element, kThreads, Shape::kQueryBlock, Shape::kValueDim>(tile.output_gradient,
                                                                                   shared.row_scalars[stage][0]);
      __syncthreads();
    }
#pragma unroll 1
    for (int chunk = part * Block::kWarpQueries; chunk < (part + 1) * Block::kWarpQueries;
         chunk += Shape::kQueryChunk) {
      Accumulators<Shape::kKeyTiles, Shape::kQueryChunk> scores, products;
      RowsInShared<Shape::kKeyTiles, Shape::kKeyBlock, Shape::kHeadDim> keys;
      RowsInShared<Shape::kKeyTiles, Shape::kKeyBlock, Shape::kValueDim> values;
      keys.load(ptx::shared_address(shared.key), warp_key);
      values.load(ptx::shared_address(shared.value), warp_key);
      score_product<Element, Shape::kKeyTiles, Shape::kQueryChunk, Shape::kQueryBlock, Shape::kHeadDim>(
          scores, keys, ptx::shared_address(tile.query), chunk);
      score_product<Element, Shape::kKeyTiles, Shape::kQueryChunk, Shape::kQueryBlock, Shape::kValueDim>(
          products, values, ptx::shared_address(tile.output_gradient), chunk);
      PackedTiles<Shape::kKeyTiles, Shape::kQueryChunk> weights, gradients;
      if (masked)
        block.template weigh<true>(scores, products, weights, gradients, stage, at.tile, chunk, warp_key);
      else
        block.template weigh<false>(scores, products, weights, gradients, stage, at.tile, chunk, warp_key);
      if constexpr (Shape::kSplit == 1) {
        using Rows = PackedRows<Shape::kKeyTiles, Shape::kQueryChunk>;
        sum_product<Element, Shape::kKeyTiles, Shape::kValueDim, Shape::kQueryChunk, Shape::kQueryBlock,
                    Shape::kValueDim>(value_sums, Rows{weights}, ptx::shared_address(tile.output_gradient), chunk, 0);
        sum_product<Element, Shape::kKeyTiles, Shape::kHeadDim, Shape::kQueryChunk, Shape::kQueryBlock,
                    Shape::kHeadDim>(key_sums, Rows{gradients}, ptx::shared_address(tile.query), chunk, 0);
      }
    }
    __syncthreads();  // barrier B
    if constexpr (Shape::kSplit > 1) {
      block.sum_shared(key_sums, value_sums, stage, warp_key, part);
      __syncthreads();  // barrier C
    }
    load_ahead(at, kStages, stage);
    if (a.query_sums != nullptr) block.add_query_sums(at);
    if (++at.tile == place.first_tile + place.tiles) at = {at.head + 1, place.first_tile};
    if (++stage == kStages) stage = 0;
  }
  const int warp_key = first_key_of_warp(), part = part_of_warp();
  block.template store<Block::kWarpChannels>(key_sums, a.key_gradient, a.key_gradient_type, a.key_scale, warp_key,
                                             part * Block::kWarpChannels, a.head_dim);
  block.template store<Block::kWarpValueChannels>(value_sums, a.value_gradient, a.value_gradient_type, a.value_scale,
                                                  warp_key, part * Block::kWarpValueChannels, a.value_dim);
}

}  // namespace sieve
