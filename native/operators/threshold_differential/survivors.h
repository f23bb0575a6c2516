// The survivor bitmap: two bits, one a view, for every tile of 64 query rows x 64 keys (layout: survivor_tiles in
// sieve/attention.h). Forward writes it; what reads it may pass over tiles without a bit.
#pragma once

#include "device/problem.h"

#ifdef __CUDACC__
#include "device/sequence.h"
#endif

namespace sieve::threshold_differential {

constexpr int kSurvivorTile = 64;
constexpr int kSurvivorWordTiles = 16;  // key tiles of one word

struct SurvivorTiles {
  TensorView words;   // int32, one row a query tile; data = nullptr: not wanted
  int32_t width = 0;  // words of a row

#ifdef __CUDACC__
  // Words of the tile that holds query rows [64 tile, 64 tile + 64) of a sequence.
  __device__ int32_t *row(const ProblemView &problem, const Sequence &sequence, int head, int tile) const {
    const int first = problem.query_starts != nullptr ? sequence.query_start / kSurvivorTile + sequence.index : 0;
    return static_cast<int32_t *>(words.row(sequence.batch, head, first + tile, sizeof(int32_t)));
  }

  __device__ void clear(const ProblemView &problem, const Sequence &sequence, int head, int tile) const {
    int32_t *target = row(problem, sequence, head, tile);
    for (int i = 0; i < width; ++i) target[i] = 0;
  }

  __device__ void add(const ProblemView &problem, const Sequence &sequence, int head, int tile, int key_tile,
                      int bits) const {
    atomicOr(row(problem, sequence, head, tile) + key_tile / kSurvivorWordTiles,
             bits << (2 * (key_tile % kSurvivorWordTiles)));
  }

  // Bits of view 0 and 1 of a key tile, at the bottom.
  __device__ static int bits(const int32_t *row, int key_tile) {
    return row[key_tile / kSurvivorWordTiles] >> (2 * (key_tile % kSurvivorWordTiles)) & 3;
  }
#endif
};

}  // namespace sieve::threshold_differential
