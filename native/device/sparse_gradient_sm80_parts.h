// What the sparse backward pipeline works on: arguments, shared memory, the place of a thread block.
#pragma once

#include "device/gradient_products.h"
#include "device/gradient_tiles.h"
#include "device/key_blocks.h"

namespace sieve {

constexpr int kSparseGradientTile = 64;

template <class Policy>
struct SparseGradientArguments {
  static constexpr int kViews = Policy::Shape::kViews;
  ProblemView problem;
  int32_t head_dim = 0;  // of the tensors; the shape's or less
  int32_t value_dim = 0;
  TensorView query[kViews];
  TensorView key[kViews];
  TensorView value;
  TensorView output_gradient;
  TensorView query_gradient[kViews];  // data = nullptr: not wanted
  TensorView key_gradient[kViews];
  TensorView value_gradient;
  OutputType query_gradient_type[kViews] = {};
  OutputType key_gradient_type[kViews] = {};
  OutputType value_gradient_type = OutputType::kElement;
  const float *query_scalars[Policy::kQueryScalars] = {};  // [batch, query heads, query_rows]
  const float *key_scalars[Policy::kKeyScalars] = {};      // [batch, key heads, key_rows]
  int64_t query_rows = 0;
  int64_t key_rows = 0;
  HeadGroups order;
  typename Policy::Arguments policy;
};

// What a thread block works on. It waits in shared memory: registers are scarcer.
struct SparseGradientPlace {
  Sequence sequence;
  bool exists;       // false: the block belongs to no sequence
  int head;          // of the rows: a key head or a query head
  int first_row;     // of the sequence
  int rows;          // that exist, from first_row on
  int column_head;   // the first
  int column_heads;  // query heads of the group, or 1
  int first_tile;    // of columns
  int tiles;
  int common_first;  // columns that every row sees: [common_first, common_end)
  int common_end;
};

template <class Policy, bool kOwnsKeys>
struct SparseGradientSharedMemory {
  using Shape = typename Policy::Shape;
  static constexpr int kViews = Shape::kViews;
  static constexpr int kRows = kSparseGradientTile;
  static constexpr int kRowScalars = kOwnsKeys ? Policy::kKeyScalars : Policy::kQueryScalars;
  static constexpr int kColumnScalars = kOwnsKeys ? Policy::kQueryScalars : Policy::kKeyScalars;
  uint8_t rows[kViews][SharedTile<kRows, Shape::kHeadDim>::kBytes];
  uint8_t row_values[SharedTile<kRows, Shape::kValueDim>::kBytes];
  struct Stage {
    uint8_t columns[kViews][SharedTile<Shape::kColumns, Shape::kHeadDim>::kBytes];
    uint8_t values[SharedTile<Shape::kColumns, Shape::kValueDim>::kBytes];
  };
  // After the last tile: products of rows with their sums, a part each, and sums of query rows.
  struct After {
    float dots[kViews][Shape::kSplit][kRows];
    float sums[kOwnsKeys ? 1 : Policy::Sums::kCount][kRows];
  };
  union {
    Stage stages[Shape::kStages];
    After after;
  };
  float row_scalars[kRowScalars][kRows];
  float column_scalars[Shape::kStages][kColumnScalars][Shape::kColumns];
  float marks[Shape::kColumns];  // NaN: the column is not finite
  uint32_t active[kViews][Shape::kSegment / 32];
  int found[2][kRows / 16][2];  // of a pair of warps, this chunk and the one before: the half of each has a weight
  SparseGradientPlace place;
  float tile;
  float key_scale;
};

// Where the block with this index works; false where nobody does.
template <bool kOwnsKeys>
__device__ inline bool find_sparse_gradient_place(const ProblemView &problem, const HeadGroups &order, int index,
                                                  SparseGradientPlace &place) {
  if constexpr (kOwnsKeys) {
    const KeyBlockPlace at = KeyBlockPlace::of(problem, order, kSparseGradientTile, index);
    if (at.sequence < 0) return false;
    place.sequence = Sequence::at(problem, at.sequence);
    place.head = at.key_head;
    place.first_row = at.key_block * kSparseGradientTile;
    if (problem.query_starts != nullptr && place.first_row >= place.sequence.keys) return false;
    place.rows = max(min(kSparseGradientTile, place.sequence.keys - place.first_row), 0);
    place.column_head = at.key_head * problem.group;
    place.column_heads = problem.group;
    const int last = place.first_row + place.rows - 1;
    const RowRange all = rows_that_see(problem, place.sequence, place.first_row, last + 1);
    place.first_tile = all.first / kSparseGradientTile;
    place.tiles =
        all.first < all.end ? (all.end + kSparseGradientTile - 1) / kSparseGradientTile - place.first_tile : 0;
    if (place.tiles > 0) {
      place.common_first = rows_that_see(problem, place.sequence, last, last + 1).first;
      place.common_end = rows_that_see(problem, place.sequence, place.first_row, place.first_row + 1).end;
    }
  } else {
    const BlockPlace at = BlockPlace::of(problem, order, index);
    place.sequence = Sequence::at(problem, at.sequence);
    place.head = at.head;
    place.first_row = at.query_block * kSparseGradientTile;
    if (place.first_row >= place.sequence.queries) return false;
    place.rows = min(kSparseGradientTile, place.sequence.queries - place.first_row);
    place.column_head = at.head / problem.group;
    place.column_heads = 1;
    const KeyRange top = place.sequence.visible(problem, place.first_row);
    const KeyRange bottom = place.sequence.visible(problem, place.first_row + place.rows - 1);
    place.first_tile = top.first / kSparseGradientTile;
    place.tiles = max((bottom.end + kSparseGradientTile - 1) / kSparseGradientTile - place.first_tile, 0);
    place.common_first = bottom.first;
    place.common_end = top.end;
  }
  return true;
}

}  // namespace sieve
