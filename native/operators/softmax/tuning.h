// Every tuned number of softmax attention. LADDER.md has the measurements.
#pragma once

#include "device/element.h"

namespace sieve::softmax {

// ---- forward, Hopper: 64 query rows a consumer; scores, output and packed weights share its registers
// (key_block / 2 + value_dim / 2 + key_block / 4, of 232), stages and queries the 227 KB.
struct HopperTiling {
  int key_block;
  int stages;
  int query_stages;  // 2: the queries of the next tile arrive under the present one
  int consumers;
};

constexpr HopperTiling forward_tiling_sm90(int head_dim, int value_dim) {
  if (value_dim == 256) return head_dim == 256 ? HopperTiling{80, 2, 1, 2} : HopperTiling{96, 2, 1, 2};
  if (head_dim == 64 && value_dim == 64) return {128, 2, 2, 3};
  return {128, 2, 2, 2};
}

template <typename T, int kDim, int kValue, HopperTiling kTiling = forward_tiling_sm90(kDim, kValue)>
struct ForwardShapeSm90 {
  using Element = T;
  static constexpr int kHeadDim = kDim;
  static constexpr int kValueDim = kValue;
  static constexpr int kViews = 1;
  static constexpr int kStreams = 1;
  static constexpr int kKeyStreams = 1;
  static constexpr int kRowScalars = 1;  // row factor
  static constexpr int kConsumers = kTiling.consumers;
  static constexpr int kRows = 64 * kConsumers;
  static constexpr int kRowTiles = 1;
  static constexpr int kThreads = 128 * (kConsumers + 1);
  static constexpr int kKeyBlock = kTiling.key_block;
  static constexpr int kKeyChunk = kTiling.key_block;
  static constexpr int kStages = kTiling.stages;
  static constexpr int kQueryStages = kTiling.query_stages;
  static constexpr int kProducerRegisters = kConsumers == 2 ? 40 : 32;
  static constexpr int kConsumerRegisters = kConsumers == 2 ? 232 : 160;
};

// ---- forward, generic: the output (row_tiles * value_dim / 2 registers), the scores of a chunk (row_tiles * key_chunk
// / 2) and, unless they stay in shared memory, the queries (row_tiles * head_dim / 4) live side by side.
struct GenericTiling {
  int rows;       // query rows a thread block
  int row_tiles;  // 16-row tiles a warp
  int key_block;  // keys a stage
  int key_chunk;  // keys scored at once by a warp
  int stages;
  int blocks_per_multiprocessor;  // that the registers must allow
  bool queries_stay;              // in shared memory
};

constexpr GenericTiling forward_tiling_sm80(int head_dim, int value_dim) {
  if (value_dim == 256 || head_dim == 256) return {128, 1, 32, 32, 2, 1, false};
  if (head_dim <= 64 && value_dim <= 64) return {128, 2, 128, 64, 2, 2, false};
  return {128, 2, 64, 32, 2, 2, true};  // 32 rows a warp read the keys half as often
}

template <typename T, int kDim, int kValue, GenericTiling kTiling = forward_tiling_sm80(kDim, kValue)>
struct ForwardShapeSm80 {
  using Element = T;
  static constexpr int kHeadDim = kDim;
  static constexpr int kValueDim = kValue;
  static constexpr int kViews = 1;
  static constexpr int kKeyScalars = 0;
  static constexpr int kRowScalars = 1;  // row factor
  static constexpr int kRows = kTiling.rows;
  static constexpr int kRowTiles = kTiling.row_tiles;
  static constexpr int kThreads = kRows / (16 * kRowTiles) * 32;
  static constexpr int kKeyBlock = kTiling.key_block;
  static constexpr int kKeyChunk = kTiling.key_chunk;
  static constexpr int kStages = kTiling.stages;
  static constexpr int kBlocksPerMultiprocessor = kTiling.blocks_per_multiprocessor;
  static constexpr bool kQueriesStay = kTiling.queries_stay;
};

// ---- decode, both paths: memory is the limit; a stage is 32 KB of keys and values at every head_dim.
struct DecodeTiling {
  int key_block;  // keys a stage
  int key_chunk;  // keys that a warp scores at once
  int stages;
  int warps;                      // that compute
  int blocks_per_multiprocessor;  // that registers and shared memory must allow
};

constexpr DecodeTiling decode_tiling_sm80(int head_dim) {
  if (head_dim == 256) return {32, 16, 3, 4, 1};  // registers: the output alone takes half of them
  return {8192 / head_dim, 32, 3, 4, 2};
}

constexpr DecodeTiling decode_tiling_sm90(int head_dim) {
  if (head_dim == 256) return {32, 16, 6, 4, 1};
  if (head_dim == 64) return {128, 64, 3, 4, 2};  // chunks of 32 keys: 14 % slower with 64 packed rows, 1 % with 32
  return {64, 32, 3, 4, 2};
}

template <typename T, int kDim, DecodeTiling kTiling>
struct DecodeShape {
  using Element = T;
  static constexpr int kHeadDim = kDim;
  static constexpr int kValueDim = kDim;
  static constexpr int kViews = 1;
  static constexpr int kRowScalars = 1;  // factor of the scores, in base 2
  static constexpr int kKeyBlock = kTiling.key_block;
  static constexpr int kKeyChunk = kTiling.key_chunk;
  static constexpr int kStages = kTiling.stages;
  static constexpr int kWarps = kTiling.warps;
  static constexpr int kBlocksPerMultiprocessor = kTiling.blocks_per_multiprocessor;
};

// ---- backward, generic: dK and dV of a warp's keys (16 key_tiles) stay in registers beside S and dP of a chunk.
struct BackwardTiling {
  int key_tiles;  // 16-key tiles a warp
  int split;      // warps that share them: each scores a part of the queries and sums a part of the channels
  int warps;
  int query_block;
  int query_chunk;  // queries scored at once
  int stages;
  int dq_row_warps;  // warps side by side along the queries of dQ; the others share its channels
  int blocks_per_multiprocessor;
};

constexpr BackwardTiling backward_tiling_sm80(int dim) {
  if (dim == 64) return {2, 1, 4, 128, 32, 1, 4, 2};
  return {2, 2, 4, 64, 32, 1, 1, 2};
}

template <typename T, int kDim, BackwardTiling kTiling = backward_tiling_sm80(kDim)>
struct BackwardShapeSm80 {
  using Element = T;
  static constexpr int kHeadDim = kDim;
  static constexpr int kValueDim = kDim;
  static constexpr int kKeyTiles = kTiling.key_tiles;
  static constexpr int kThreads = 32 * kTiling.warps;
  static constexpr int kSplit = kTiling.split;
  static constexpr int kKeyBlock = 16 * kKeyTiles * kTiling.warps / kSplit;
  static constexpr int kQueryBlock = kTiling.query_block;
  static constexpr int kQueryChunk = kTiling.query_chunk;
  static constexpr int kStages = kTiling.stages;
  static constexpr int kDqRowWarps = kTiling.dq_row_warps;
  static constexpr int kBlocksPerMultiprocessor = kTiling.blocks_per_multiprocessor;
};

// ---- backward, Hopper: 64 queries a tile. With 128 the scores, dweights and their operands do not fit the registers
// beside the sums (C7512), and the tile is waited for instead of overlapped.
template <typename T, int kDim, int kValue, bool kHasRowFactors, bool kFixedOrder>
struct BackwardShapeSm90 {
  using Element = T;
  static constexpr int kHeadDim = kDim;
  static constexpr int kValueDim = kValue;
  static constexpr int kQueryBlock = 64;
  static constexpr int kKeyBlock = 128;
  static constexpr int kStages = kDim == 64 ? 4 : 2;
  static constexpr int kProducerRegisters = 24;
  static constexpr int kConsumerRegisters = 240;
  static constexpr bool kRowFactors = kHasRowFactors;
  static constexpr bool kOrdered = kFixedOrder;
};

}  // namespace sieve::softmax
