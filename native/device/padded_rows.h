// Per-row arrays of a backward pass, padded so that no tile of query rows is shared by two sequences.
//
// An array is [query heads][padded rows]. Sequence s of a packed problem begins at tile query_starts[s] / kTile + s,
// batch entry b of any other at tile b * ceil(queries / kTile). Rows between a sequence's end and its tile's belong to
// nobody; tiles between sequences are never read.
#pragma once

#include "device/sequence.h"

namespace sieve {

struct PaddedRows {
  static constexpr int kTile = 128;

  // Padded row of row 0 of sequence `index`.
  __device__ static int64_t first(const ProblemView &problem, const Sequence &sequence, int index) {
    const int64_t tile = problem.query_starts != nullptr
                             ? static_cast<int64_t>(sequence.query_start / kTile) + index
                             : static_cast<int64_t>(index) * ((problem.queries + kTile - 1) / kTile);
    return tile * kTile;
  }
};

// A tile of padded rows of one head of one sequence, for kernels whose thread blocks take one each. `tiles` of the
// longest sequence.
struct PaddedTile {
  int first_row;  // of the sequence
  int head;
  int sequence;

  __device__ static PaddedTile of(const ProblemView &problem, int tiles, int index) {
    return {index % tiles * PaddedRows::kTile, index / tiles % problem.query_heads,
            index / tiles / problem.query_heads};
  }
};

}  // namespace sieve
