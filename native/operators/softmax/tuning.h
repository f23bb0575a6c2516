// Every tuned number of softmax attention. LADDER.md has the measurements.
#pragma once

#include "device/element.h"

namespace sieve::softmax {

// ---- backward, generic: dK and dV of a warp's keys (16 key_tiles) stay in registers beside S and dP of a chunk.
struct BackwardTiling {
  int key_tiles;  // 16-key tiles a warp
  int warps;
  int query_block;
  int query_chunk;  // queries scored at once
  int stages;
  int dq_row_warps;  // warps side by side along the queries of dQ; the others share its channels
  int blocks_per_multiprocessor;
};

constexpr BackwardTiling backward_tiling_sm80(int dim) {
  if (dim == 64) return {2, 4, 64, 32, 2, 2, 2};
  return {1, 4, 64, 64, 1, 2, 2};
}

template <typename T, int kDim, BackwardTiling kTiling = backward_tiling_sm80(kDim)>
struct BackwardShapeSm80 {
  using Element = T;
  static constexpr int kHeadDim = kDim;
  static constexpr int kValueDim = kDim;
  static constexpr int kKeyTiles = kTiling.key_tiles;
  static constexpr int kThreads = 32 * kTiling.warps;
  static constexpr int kKeyBlock = 16 * kKeyTiles * kTiling.warps;
  static constexpr int kQueryBlock = kTiling.query_block;
  static constexpr int kQueryChunk = kTiling.query_chunk;
  static constexpr int kStages = kTiling.stages;
  static constexpr int kDqRowWarps = kTiling.dq_row_warps;
  static constexpr int kBlocksPerMultiprocessor = kTiling.blocks_per_multiprocessor;
};

}  // namespace sieve::softmax
