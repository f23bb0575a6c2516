// Tuned numbers of the softmax decode. LADDER.md has the measurements.
#pragma once

#include "device/element.h"

namespace sieve::softmax {

struct DecodeTiling {
  int key_block;  // keys a stage
  int key_chunk;  // keys that a warp scores at once
  int stages;
  int warps;                      // that compute
  int blocks_per_multiprocessor;  // that registers and shared memory must allow
};

// A stage is 32 KB of keys and values at every head_dim.
constexpr DecodeTiling decode_tiling_sm80(int head_dim) {
  if (head_dim == 256) return {32, 16, 3, 4, 1};  // registers: the output alone takes half of them
  return {8192 / head_dim, 32, 3, 4, 2};
}

constexpr DecodeTiling decode_tiling_sm90(int head_dim) {
  if (head_dim == 256) return {32, 16, 6, 4, 1};
  return {8192 / head_dim, 32, 3, 4, 2};
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

}  // namespace sieve::softmax
