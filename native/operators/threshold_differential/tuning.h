// Every tuned number of threshold differential attention. LADDER.md has the measurements.
#pragma once

#include "device/element.h"
#include "operators/threshold_differential/decode_problem.h"

namespace sieve::threshold_differential {

struct ForwardTiling {
  int rows;       // query rows a thread block
  int row_tiles;  // 16-row tiles a warp
  int key_block;  // keys a stage
  int key_chunk;  // keys scored at once by a warp
  int stages;
  int blocks_per_multiprocessor;  // that the registers must allow
};

// Generic forward. Registers bound it: the query fragments of all views (views * row_tiles * head_dim / 4 a thread),
// the output (row_tiles * value_dim / 2) and the scores of a chunk (views * row_tiles * key_chunk / 2) live side by
// side. Two row tiles a warp halve the shared-memory reads of keys a product; at 128 channels only one fits.
constexpr ForwardTiling forward_tiling_sm80(int head_dim, int value_dim, int views) {
  if (head_dim == 64 && value_dim == 64) return {128, 2, 64, views == 2 ? 32 : 64, 2, 2};
  return {128, 1, 64, views == 2 ? 32 : 64, 2, 1};
}

template <typename T, int kDim, int kValue, int kViewCount,
          ForwardTiling kTiling = forward_tiling_sm80(kDim, kValue, kViewCount)>
struct ForwardShapeSm80 {
  using Element = T;
  static constexpr int kHeadDim = kDim;
  static constexpr int kValueDim = kValue;
  static constexpr int kViews = kViewCount;
  static constexpr int kKeyScalars = kViewCount;  // inverse norms
  static constexpr int kRowScalars =
      1 + kViewCount + kNarrowExponent<T>;  // threshold, inverse norms, scale of fp16 weights
  static constexpr int kRows = kTiling.rows;
  static constexpr int kRowTiles = kTiling.row_tiles;
  static constexpr int kThreads = kRows / (16 * kRowTiles) * 32;
  static constexpr int kKeyBlock = kTiling.key_block;
  static constexpr int kKeyChunk = kTiling.key_chunk;
  static constexpr int kStages = kTiling.stages;
  static constexpr bool kQueriesStay = false;  // in shared memory
  static constexpr int kBlocksPerMultiprocessor = kTiling.blocks_per_multiprocessor;
};

// Hopper forward: 64 query rows a consumer. Scores (64 registers a thread), queries (views * head_dim / 4, half of it
// as images) and output (value_dim / 2) share the registers of a consumer: 160 with three, 232 with two.
struct HopperTiling {
  int consumers;
  int key_block;  // keys a stage
  int stages;
};

constexpr HopperTiling forward_tiling_sm90(int head_dim, int value_dim, int views) {
  if (head_dim == 64 && value_dim == 64) return {3, 128, 3};
  return {2, head_dim == 128 && views == 2 ? 64 : 128, 2};
}

template <typename T, int kDim, int kValue, int kViewCount, bool kScreensImages, HopperTiling kTiling>
struct SparseShapeSm90 {
  using Element = T;
  static constexpr int kHeadDim = kDim;
  static constexpr int kValueDim = kValue;
  static constexpr int kViews = kViewCount;
  static constexpr bool kImages = kScreensImages;
  static constexpr int kRowScalars = 1 + kViewCount + kNarrowExponent<T>;
  static constexpr int kConsumers = kTiling.consumers;
  static constexpr int kRows = 64 * kConsumers;
  static constexpr int kThreads = 128 * (kConsumers + 1);
  static constexpr int kKeyBlock = kTiling.key_block;
  static constexpr int kKeyChunk = 64;
  static constexpr int kStages = kTiling.stages;
  // Pieces of 16 keys with candidates in a block, of some warp, from which on the next block is taken as dense.
  static constexpr int kDensePieces = kKeyBlock / 32;
  static constexpr int kProducerRegisters = kConsumers == 2 ? 40 : kImages ? 56 : 32;
  static constexpr int kConsumerRegisters = kConsumers == 2 ? 232 : kImages ? 152 : 160;
};

template <typename T, int kDim, int kValue, int kViewCount,
          HopperTiling kTiling = forward_tiling_sm90(kDim, kValue, kViewCount)>
struct ForwardShapeSm90 : SparseShapeSm90<T, kDim, kValue, kViewCount, false, kTiling> {};

constexpr HopperTiling image_tiling_sm90(int head_dim, int value_dim, int views) {
  if (value_dim == 64) return {3, 128, 4};
  return {2, head_dim == 128 && views == 2 ? 64 : 128, 3};
}

template <typename T, int kDim, int kValue, int kViewCount,
          HopperTiling kTiling = image_tiling_sm90(kDim, kValue, kViewCount)>
struct ImageShapeSm90 : SparseShapeSm90<T, kDim, kValue, kViewCount, true, kTiling> {};

// ---- backward: a thread block owns 64 keys or 64 query rows and meets the other in columns, where the bitmap says so.
struct GradientTiling {
  int columns;  // a stage
  int stages;
  int chunk;  // columns scored at once by a warp
  int split;  // warps that share 16 rows
  int blocks_per_multiprocessor;
};

// Three blocks leave 168 registers a thread; what fp16 scales besides does not fit them.
constexpr GradientTiling key_gradient_tiling(int head_dim, int value_dim, bool narrow_exponent) {
  if (head_dim == 64 && value_dim == 64 && narrow_exponent) return {64, 2, 32, 1, 2};
  if (head_dim == 64) return {64, 1, 16, 1, value_dim == 64 ? 3 : 2};
  return {64, 1, 32, 2, 1};
}

constexpr GradientTiling query_gradient_tiling(int head_dim) {
  return {64, 1, 16, 1, head_dim == 64 ? 3 : 2};
}

template <typename T, int kDim, int kValue, int kViewCount, GradientTiling kTiling>
struct GradientShape {
  using Element = T;
  static constexpr int kHeadDim = kDim;
  static constexpr int kValueDim = kValue;
  static constexpr int kViews = kViewCount;
  static constexpr int kColumns = kTiling.columns;
  static constexpr int kStages = kTiling.stages;
  static constexpr int kChunk = kTiling.chunk;
  static constexpr int kSplit = kTiling.split;
  static constexpr int kThreads = 128 * kSplit;
  static constexpr int kSegment = 1024;  // tiles whose bits are looked at together
  static constexpr int kBlocksPerMultiprocessor = kTiling.blocks_per_multiprocessor;
};

template <typename T, int kDim, int kValue, int kViewCount>
using KeyGradientShape =
    GradientShape<T, kDim, kValue, kViewCount, key_gradient_tiling(kDim, kValue, kNarrowExponent<T>)>;
template <typename T, int kDim, int kValue, int kViewCount>
using QueryGradientShape = GradientShape<T, kDim, kValue, kViewCount, query_gradient_tiling(kDim)>;

// ---- decode: a warp reads its keys through a ring of its own, kStages steps of kStepKeys keys deep.
struct DecodeTiling {
  int stages;
  int blocks_per_multiprocessor;  // that registers and shared memory must allow
};

// Images: rings of 48 KB or less, three of which fit beside each other (4 bits, D 128: 150 us with two stages, 160 with
// four, of which two blocks fit; 8 bits, D 64: no difference). Keys: two rings of 64 KB keep the memory busy.
constexpr DecodeTiling decode_tiling(int head_dim, int views, Screen screen) {
  const int step_bytes = head_dim * views * (screen == Screen::kInt4 ? 16 : 32);
  const int most_bytes = screen == Screen::kNone ? 8192 : 4096;
  return {step_bytes >= most_bytes ? 2 : 4, screen == Screen::kNone ? 2 : 3};
}

template <typename T, int kDim, int kViewCount, Screen kScreenKind,
          DecodeTiling kTiling = decode_tiling(kDim, kViewCount, kScreenKind)>
struct DecodeShape {
  using Element = T;
  static constexpr int kHeadDim = kDim;
  static constexpr int kViews = kViewCount;
  static constexpr Screen kScreen = kScreenKind;
  static constexpr int kStepKeys = kScreen == Screen::kNone ? 16 : 32;
  static constexpr int kStages = kTiling.stages;
  static constexpr int kBlocksPerMultiprocessor = kTiling.blocks_per_multiprocessor;
  static constexpr int kChunk = 64;                        // keys in a row that one warp takes
  static constexpr int kKeyBlock = kDecodeWarps * kChunk;  // splits are shares of such blocks
};

}  // namespace sieve::threshold_differential
