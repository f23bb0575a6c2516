// The query rows of a thread, and which keys they see: what policies are told about where they are.
#pragma once

#include "device/sequence.h"

namespace sieve {

// Rows of this thread: 16-row tile m, half -> first + 16 m + 8 half, of the sequence.
struct ThreadRows {
  int first;
  __device__ int row(int m, int half) const { return first + 16 * m + 8 * half; }
};

// Which keys of a chunk the rows of this thread see. Inactive: all rows that are scored together see all of them.
struct ChunkMask {
  const ProblemView &problem;
  const Sequence &sequence;
  int row;  // of the sequence: first row of this thread
  int key;  // of the sequence: first key of this thread's columns
  bool active;

  // Keys visible to the row of row tile m, half, counted from `key`.
  __device__ KeyRange columns(int m, int half) const {
    const KeyRange range = sequence.visible(problem, ptx::mov_here(row) + 16 * m + 8 * half);
    return {range.first - key, range.end - key};
  }

  // Replaces the scores of keys that a row does not see, in all views.
  template <int kViews, int kRowTiles, int kTiles>
  __device__ void apply(float (&scores)[kViews][kRowTiles][kTiles][4]) const {
    if (!active) return;
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const KeyRange range = columns(m, half);
#pragma unroll
        for (int n = 0; n < kTiles; ++n)
#pragma unroll
          for (int e = 0; e < 2; ++e)
            if (n * 8 + e >= range.end)
#pragma unroll
              for (int view = 0; view < kViews; ++view) scores[view][m][n][2 * half + e] = -__builtin_huge_valf();
        if (problem.window == 0) continue;  // then every row begins at key 0
#pragma unroll
        for (int n = 0; n < kTiles; ++n)
#pragma unroll
          for (int e = 0; e < 2; ++e)
            if (n * 8 + e < range.first)
#pragma unroll
              for (int view = 0; view < kViews; ++view) scores[view][m][n][2 * half + e] = -__builtin_huge_valf();
      }
    }
  }
};

// Floats that belong to the rows of this thread, in shared memory.
template <int kRows>
struct RowScalars {
  const float *first;  // of the thread's first row
  __device__ float at(int scalar, int m, int half) const { return first[scalar * kRows + 16 * m + 8 * half]; }
};

}  // namespace sieve
