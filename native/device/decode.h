// The decode pipeline: a few new query rows of every sequence against a cache of keys and values, limited by the bytes
// of the cache. What its two loading paths (decode_sm80.h, decode_sm90.h) share: the rows, the arithmetic, the merge.
//
//   grid: one thread block a (sequence, key head, split); a split is an equal share of the key blocks that the rows
//   see, computed on the device from the sequence's length
//
//     global --copies, kStages deep--> stage 0: keys (each view), values     rows: query row x query head of the group,
//                                      stage 1: ...                          16 a tile, in registers for the whole
//                                      split
//     each warp: one tile of rows, every kParts-th chunk of keys
//       scores = rows . keys^T        (mma)
//       policy.weigh                  (FP32)
//       output += weights . values    (mma)
//     merge of the warps in shared memory -> the only split: epilogue, output; else a partial result
//   second launch (decode_combine.h): merge of the partial results, epilogue
//
// Up to 64 rows are 1, 2 or 4 tiles; the kWarps warps that are not needed as tiles share the keys. A key is read from
// global memory once, whatever the number of rows. Shared memory: kStages x 32 KB (tuning.h), reused by the merge;
// registers: the output (kValueDim / 2) and the query rows (views x kHeadDim / 4) dominate.
//
// A partial result is exp2(level) x (output, total). Policy functions:
//   begin_row(arguments, problem, sequence, head, row, scalars)   the kRowScalars floats of a row, in registers
//   begin()                                                       the state before the first key
//   weigh(state, scores, row_scalars, mask)                       scores -> weights in place; has the warp any?
//   rescale(state, output)                                        what a new level does to the output so far
//   level(state, half), total(state, half)                        of the thread's two rows; total is of the whole row
//   kNormalized                                                   the result is output / total, else output
// An operator without a running maximum has level 0 and total 0.
#pragma once

#include "device/decode_combine.h"
#include "device/problem.h"
#include "device/ptx/warpgroup.h"
#include "device/sequence.h"
#include "device/shared_tile.h"
#include "device/warp_product.h"
#include "device/warp_row.h"

namespace sieve {

constexpr int kDecodeRows = 64;  // most packed rows of a thread block

// Where the keys of a sequence lie: the rows of its batch entry, or pages of the tensors named by a table.
struct CacheView {
  const int32_t *page_table = nullptr;  // [batch][page_table_width], or null
  int64_t page_table_width = 0;
  int32_t page_size = 0;  // divisible by 16
};

template <class Policy>
struct DecodeArguments {
  ProblemView problem;
  CacheView cache;
  TensorView query[Policy::Shape::kViews];
  TensorView key[Policy::Shape::kViews];
  TensorView value;
  DecodeOutput result;
  int32_t head_dim;  // of the tensors; channels up to the kernel's are zeros
  typename Policy::Arguments policy;
};

// What a thread block computes.
template <class Shape>
struct DecodeWork {
  Sequence sequence;
  int key_head;
  int split;
  int rows;     // packed: query row x group, heads fastest
  int end_key;  // keys from here on are seen by no row
  int first_block, end_block;

  __device__ DecodeWork(const ProblemView &problem, int splits, int place) {
    const int key_heads = problem.query_heads / problem.group;
    split = place % splits;
    key_head = place / splits % key_heads;
    sequence = Sequence::at(problem, place / splits / key_heads);
    rows = problem.queries * problem.group;
    // Ranges of keys are non-decreasing from row to row.
    const int first_key = sequence.visible(problem, 0).first;
    end_key = sequence.visible(problem, problem.queries - 1).end;
    const int begin = first_key / Shape::kKeyBlock;
    const int blocks = max((end_key + Shape::kKeyBlock - 1) / Shape::kKeyBlock - begin, 0);
    first_block = begin + static_cast<int>(static_cast<int64_t>(blocks) * split / splits);
    end_block = begin + static_cast<int>(static_cast<int64_t>(blocks) * (split + 1) / splits);
  }
};

// A key block in shared memory: panels of 64 channels, each a SharedTile (the 128-byte swizzle of the copy engine).
template <int kRows>
using Panel = SharedTile<kRows, 64>;

template <class Shape>
struct DecodeStage {
  uint8_t key[Shape::kViews][Shape::kKeyBlock * Shape::kHeadDim * 2];
  uint8_t value[Shape::kKeyBlock * Shape::kValueDim * 2];
};

// Results of the warps on their way to the merge. The padding spreads rows over the banks.
template <class Shape>
struct DecodeMerge {
  float output[Shape::kWarps][16][Shape::kValueDim + 8];
  float level[Shape::kWarps][16];
  float total[Shape::kWarps][16];
};

// Which keys of a chunk the two rows of this thread see.
struct PackedMask {
  KeyRange ranges[2];  // counted from the thread's first column
  bool active;         // not: all rows of the warp see all keys of the chunk

  template <int kViews, int kTiles>
  __device__ void apply(float (&scores)[kViews][1][kTiles][4]) const {
    if (!active) return;
#pragma unroll
    for (int n = 0; n < kTiles; ++n)
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const int column = n * 8 + e % 2;
        if (column < ranges[e / 2].first || column >= ranges[e / 2].end)
#pragma unroll
          for (int view = 0; view < kViews; ++view) scores[view][0][n][e] = -__builtin_huge_valf();
      }
  }
};

// One warp at work: a tile of 16 packed rows, and its share of the keys.
template <class Policy>
struct DecodeWarp {
  using Shape = typename Policy::Shape;
  using Element = typename Shape::Element;
  using KeyPanel = Panel<Shape::kKeyBlock>;
  static constexpr int kViews = Shape::kViews;
  static constexpr int kD = Shape::kHeadDim, kV = Shape::kValueDim, kN = Shape::kKeyBlock;
  static constexpr int kPanelBytes = kN * 128;
  static constexpr int kRowScalars = Shape::kRowScalars == 0 ? 1 : Shape::kRowScalars;
  static constexpr int kChunk = Shape::kKeyChunk;
  static_assert(kN % kChunk == 0 && kChunk % 16 == 0, "whole chunks; keys are read in pairs of eight");

  const int lane = lane_index();
  int tile, part, parts;         // chunk c of the sequence belongs to part c % parts, a power of two
  int first_key, end_key;        // keys that some row of the tile sees
  int common_first, common_end;  // keys that all rows of the tile see
  KeyRange ranges[2];            // of the thread's rows
  float row_scalars[2][kRowScalars];
  uint32_t queries[kViews][kD / 16][4];
  typename Policy::State state;
  Accumulators<1, kV> output;

  __device__ DecodeWarp(const DecodeArguments<Policy> &a, const DecodeWork<Shape> &work, int warp) {
    const int tiles = row_tiles(work.rows);
    tile = warp & (tiles - 1);
    part = warp / tiles;
    parts = Shape::kWarps / tiles;
    const int group = a.problem.group, top = tile * 16, bottom = min(top + 16, work.rows) - 1;
    const KeyRange above = work.sequence.visible(a.problem, min(top, work.rows - 1) / group);
    const KeyRange below = work.sequence.visible(a.problem, bottom / group);
    first_key = above.first;
    end_key = top < work.rows ? below.end : 0;
    common_first = below.first;
    common_end = above.end;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = top + lane / 4 + 8 * half;
      const bool inside = row < work.rows;
      const int query = inside ? row / group : 0, head = work.key_head * group + (inside ? row % group : 0);
      ranges[half] = inside ? work.sequence.visible(a.problem, query) : KeyRange{0, 0};
      Policy::begin_row(a.policy, a.problem, work.sequence, head, query, row_scalars[half]);
#pragma unroll
      for (int view = 0; view < kViews; ++view) {
        const uint16_t *source =
            static_cast<const uint16_t *>(a.query[view].row(work.sequence.batch, head, query, 2)) + 2 * (lane & 3);
#pragma unroll
        for (int k = 0; k < kD / 8; ++k)
          queries[view][k / 2][half + k % 2 * 2] =
              inside && k * 8 < a.head_dim ? *reinterpret_cast<const uint32_t *>(source + k * 8) : 0;
      }
    }
    state = Policy::begin();
#pragma unroll
    for (int n = 0; n < kV / 8; ++n)
#pragma unroll
      for (int e = 0; e < 4; ++e) output[0][n][e] = 0.0f;
  }

  // Tiles of a thread block: 1, 2 or 4.
  __device__ static int row_tiles(int rows) {
    return rows <= 16 ? 1 : rows <= 32 ? 2 : 4;
  }

  // This warp's share of key block `block`.
  __device__ void attend(const DecodeStage<Shape> &stage, int block) {
#pragma unroll
    for (int chunk = 0; chunk < kN; chunk += kChunk) {
      const int key = block * kN + chunk;
      if ((key / kChunk & (parts - 1)) != part || key >= end_key || key + kChunk <= first_key) continue;
      Accumulators<1, kChunk> scores[kViews];
#pragma unroll
      for (int view = 0; view < kViews; ++view)
        score(scores[view][0], queries[view], ptx::shared_address(stage.key[view]) + chunk * 128);
      const int column = key + 2 * (lane & 3);
      const PackedMask mask{
          {{ranges[0].first - column, ranges[0].end - column}, {ranges[1].first - column, ranges[1].end - column}},
          key < common_first || key + kChunk > common_end};
      if (!Policy::weigh(state, scores, row_scalars, mask)) continue;
      Policy::rescale(state, output);
      const uint32_t values = ptx::shared_address(stage.value) + chunk * 128;
      if (mask.active)
        add_values<true>(scores[0], values);
      else
        add_values<false>(scores[0], values);
    }
  }

  __device__ void score(float (&scores)[kChunk / 8][4], const uint32_t (&rows)[kD / 16][4], uint32_t keys) const {
    const uint32_t first = keys + KeyPanel::offset((lane & 7) + ((lane >> 4) << 3), (lane >> 3) & 1);
#pragma unroll
    for (int n = 0; n < kChunk / 8; ++n)
#pragma unroll
      for (int e = 0; e < 4; ++e) scores[n][e] = 0.0f;
#pragma unroll
    for (int k = 0; k < kD / 16; ++k)
#pragma unroll
      for (int n = 0; n < kChunk / 16; ++n) {
        uint32_t key[4];
        ptx::ldmatrix_x4(key, KeyPanel::step(first + n * 2048, k % 4) + k / 4 * kPanelBytes);
        ptx::mma_m16n8k16<Element>(scores[2 * n], rows[k], key[0], key[1]);
        ptx::mma_m16n8k16<Element>(scores[2 * n + 1], rows[k], key[2], key[3]);
      }
  }

  // kContained: rows of the warp see different keys, so that a NaN among the values must stay with those that see it.
  template <bool kContained>
  __device__ void add_values(const Accumulators<1, kChunk> &weights, uint32_t values) {
    const uint32_t first = values + KeyPanel::offset(lane & 15, lane >> 4);
#pragma unroll
    for (int k = 0; k < kChunk / 16; ++k) {
      uint32_t a[1][4];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float(&pair)[4] = weights[0][2 * k + i / 2];
        a[0][i] = ptx::cvt_x2<Element>(pair[2 * (i % 2)], pair[2 * (i % 2) + 1]);
      }
#pragma unroll
      for (int n = 0; n < kV / 16; ++n) {
        uint32_t value[4];
        ptx::ldmatrix_x4_trans(value, KeyPanel::step(first + k * 2048, n % 4) + n / 4 * kPanelBytes);
        if constexpr (kContained) contained_product<Element, 1, kV>(output, 2 * n, a, value);
        ptx::mma_m16n8k16<Element>(output[0][2 * n], a[0], value[0], value[1]);
        ptx::mma_m16n8k16<Element>(output[0][2 * n + 1], a[0], value[2], value[3]);
      }
    }
  }

  __device__ void publish(DecodeMerge<Shape> &merge, int warp) const {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = lane / 4 + 8 * half;
#pragma unroll
      for (int n = 0; n < kV / 8; ++n)
        *reinterpret_cast<float2 *>(&merge.output[warp][row][n * 8 + 2 * (lane & 3)]) =
            make_float2(output[0][n][2 * half], output[0][n][2 * half + 1]);
      const float total = Policy::total(state, half);
      if ((lane & 3) == 0) {
        merge.level[warp][row] = Policy::level(state, half);
        merge.total[warp][row] = total;
      }
    }
  }
};

// Merges what the warps found: every warp finishes every kWarps-th row. The warps have met since they published.
template <class Policy>
__device__ void merge_rows(const DecodeMerge<typename Policy::Shape> &merge, const DecodeArguments<Policy> &a,
                           const DecodeWork<typename Policy::Shape> &work, int warp) {
  using Shape = typename Policy::Shape;
  using Row = WarpRow<Shape::kValueDim>;
  const DecodeOutput &result = a.result;
  const int tiles = DecodeWarp<Policy>::row_tiles(work.rows);
  for (int row = warp; row < work.rows; row += Shape::kWarps) {
    float top = -__builtin_huge_valf();
    for (int w = row / 16; w < Shape::kWarps; w += tiles) top = fmaxf(top, merge.level[w][row % 16]);
    const float shift = top == -__builtin_huge_valf() ? 0.0f : top;
    Row sum{};
    float total = 0.0f;
    for (int w = row / 16; w < Shape::kWarps; w += tiles) {
      const float factor = ptx::ex2_approx(merge.level[w][row % 16] - shift);
      total = fmaf(merge.total[w][row % 16], factor, total);
      sum.add(factor, merge.output[w][row % 16], Shape::kValueDim);
    }
    float lse = -__builtin_huge_valf();
    if constexpr (Policy::kNormalized) {
      sum.scale(total == 0.0f ? 0.0f : 1.0f / total);
      if (total != 0.0f) lse = top + log2f(total);
    }
    const int query = row / a.problem.group, head = work.key_head * a.problem.group + row % a.problem.group;
    if (result.splits == 1) {
      finish_row<typename Shape::Element>(sum, lse, a.problem, result, work.sequence.batch, head, query);
    } else {
      const int64_t index = partial_row(a.problem, work.split, work.sequence.batch, head, query);
      sum.store(result.partial_outputs + index * result.value_dim, result.value_dim);
      if (Policy::kNormalized && lane_index() == 0) result.partial_lses[index] = lse;
    }
  }
}

}  // namespace sieve
