// Products of one warp on mma.sync: query rows times keys, weights times values. Operands sit in SharedTile layout.
#pragma once

#include "device/element.h"
#include "device/ptx/ldmatrix.h"
#include "device/ptx/math.h"
#include "device/ptx/mma.h"
#include "device/shared_tile.h"

namespace sieve {

__device__ inline int lane_index() {
  return static_cast<int>(threadIdx.x) & 31;
}

// A operand: kRowTiles x 16 rows by kChannels, held in registers for the whole key loop.
template <int kRowTiles, int kChannels>
using RowFragments = uint32_t[kRowTiles][kChannels / 16][4];

// fp32 accumulators of kRowTiles x 16 rows by kColumns.
template <int kRowTiles, int kColumns>
using Accumulators = float[kRowTiles][kColumns / 8][4];

// Tiles hold whole panels of 64 channels; the products stop at the dims of the shape.
template <int kChannels>
inline constexpr int kPaddedChannels = (kChannels + 63) / 64 * 64;

// Query rows in registers for the whole key loop.
template <int kRowTiles, int kRows, int kChannels>
struct RowsInRegisters {
  RowFragments<kRowTiles, kChannels> fragments;

  // Reads the rows [first_row, first_row + 16 kRowTiles) of a tile.
  __device__ void load(uint32_t tile, int first_row) {
    const int lane = lane_index();
    using Tile = SharedTile<kRows, kPaddedChannels<kChannels>>;
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m) {
      const uint32_t row = tile + Tile::offset(first_row + m * 16 + (lane & 15), lane >> 4);
#pragma unroll
      for (int k = 0; k < kChannels / 16; ++k) ptx::ldmatrix_x4(fragments[m][k], Tile::step(row, k));
    }
  }
  __device__ void read(uint32_t (&a)[kRowTiles][4], int k) const {
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m)
#pragma unroll
      for (int i = 0; i < 4; ++i) a[m][i] = fragments[m][k][i];
  }
};

// Query rows that stay in shared memory, where registers are scarcer than its bandwidth.
template <int kRowTiles, int kRows, int kChannels>
struct RowsInShared {
  using Tile = SharedTile<kRows, kPaddedChannels<kChannels>>;
  uint32_t first;

  __device__ void load(uint32_t tile, int first_row) {
    const int lane = lane_index();
    first = tile + Tile::offset(first_row + (lane & 15), lane >> 4);
  }
  __device__ void read(uint32_t (&a)[kRowTiles][4], int k) const {
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m)
      ptx::ldmatrix_x4(a[m], Tile::step(first + m * 16 * kPaddedChannels<kChannels> * 2, k));
  }
};

// scores = rows . keys^T for the keys [first_key, first_key + kKeys) of a tile.
template <typename Element, int kRowTiles, int kKeys, int kTileRows, int kChannels, class Rows>
__device__ inline void score_product(Accumulators<kRowTiles, kKeys> &scores, const Rows &rows, uint32_t tile,
                                     int first_key) {
  static_assert(kKeys % 16 == 0, "keys are read in pairs of eight");
  constexpr int kPitch = kPaddedChannels<kChannels>;
  using Tile = SharedTile<kTileRows, kPitch>;
  const int lane = lane_index();
  const uint32_t key_rows = tile + Tile::offset((lane & 7) + ((lane >> 4) << 3), (lane >> 3) & 1) +
                            static_cast<uint32_t>(first_key * kPitch * 2);
#pragma unroll
  for (int m = 0; m < kRowTiles; ++m)
#pragma unroll
    for (int n = 0; n < kKeys / 8; ++n)
#pragma unroll
      for (int e = 0; e < 4; ++e) scores[m][n][e] = 0.0f;
#pragma unroll
  for (int k = 0; k < kChannels / 16; ++k) {
    uint32_t a[kRowTiles][4];
    rows.read(a, k);
#pragma unroll
    for (int n = 0; n < kKeys / 16; ++n) {
      uint32_t keys[4];  // keys 0-7 channels 0-7, 8-15; keys 8-15 channels 0-7, 8-15
      ptx::ldmatrix_x4(keys, Tile::step(key_rows + n * 16 * kPitch * 2, k));
#pragma unroll
      for (int m = 0; m < kRowTiles; ++m) {
        ptx::mma_m16n8k16<Element>(scores[m][2 * n], a[m], keys[0], keys[1]);
        ptx::mma_m16n8k16<Element>(scores[m][2 * n + 1], a[m], keys[2], keys[3]);
      }
    }
  }
}

// output += a . values for 16 keys and 16 channels, where a non-finite value must not reach the rows whose weight is
// zero (0 * NaN is NaN): such values are taken out of the product, and a second product of indicators says whom they
// reach.
template <typename Element, int kRowTiles, int kChannels>
__device__ inline void contained_product(Accumulators<kRowTiles, kChannels> &output, int n,
                                         const uint32_t (&a)[kRowTiles][4], uint32_t (&values)[4]) {
  uint32_t bad[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) bad[i] = non_finite<Element>(values[i]);
  if (!__any_sync(0xffffffffu, (bad[0] | bad[1] | bad[2] | bad[3]) != 0)) return;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    values[i] &= ~bad[i];
    bad[i] = non_zero<Element>(bad[i]);
  }
#pragma unroll
  for (int m = 0; m < kRowTiles; ++m) {
    uint32_t reached[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) reached[i] = non_zero<Element>(a[m][i]);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float hits[4] = {};
      ptx::mma_m16n8k16<Element>(hits, reached, bad[2 * half], bad[2 * half + 1]);
#pragma unroll
      for (int e = 0; e < 4; ++e)
        if (hits[e] > 0.0f) output[m][n + half][e] = __int_as_float(0x7fc00000);
    }
  }
}

// output += weights . values for the keys [first_key, first_key + kKeys) of a tile; weights are rounded to Element
// here, once. kContained: rows of the warp see different keys, so that a NaN among the values must stay with those that
// see it.
template <typename Element, bool kContained, int kRowTiles, int kKeys, int kTileRows, int kChannels>
__device__ inline void value_product(Accumulators<kRowTiles, kChannels> &output,
                                     const Accumulators<kRowTiles, kKeys> &weights, uint32_t tile, int first_key) {
  constexpr int kPitch = kPaddedChannels<kChannels>;
  using Tile = SharedTile<kTileRows, kPitch>;
  const int lane = lane_index();
  const uint32_t key_rows = tile + Tile::offset(lane & 15, lane >> 4) + static_cast<uint32_t>(first_key * kPitch * 2);
#pragma unroll
  for (int k = 0; k < kKeys / 16; ++k) {
    uint32_t a[kRowTiles][4];  // the accumulator layout of a score tile is the A layout of the next product
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m)
#pragma unroll
      for (int half = 0; half < 4; ++half)
        a[m][half] = ptx::cvt_x2<Element>(weights[m][2 * k + half / 2][2 * (half % 2)],
                                          weights[m][2 * k + half / 2][2 * (half % 2) + 1]);
#pragma unroll
    for (int n = 0; n < kChannels / 16; ++n) {
      uint32_t values[4];  // channels 0-7 of keys 0-7, 8-15; channels 8-15 of keys 0-7, 8-15
      ptx::ldmatrix_x4_trans(values, Tile::step(key_rows + k * 16 * kPitch * 2, n));
      if constexpr (kContained) contained_product<Element, kRowTiles, kChannels>(output, 2 * n, a, values);
#pragma unroll
      for (int m = 0; m < kRowTiles; ++m) {
        ptx::mma_m16n8k16<Element>(output[m][2 * n], a[m], values[0], values[1]);
        ptx::mma_m16n8k16<Element>(output[m][2 * n + 1], a[m], values[2], values[3]);
      }
    }
  }
}

// Sum over the four lanes that share a row of an accumulator.
template <typename T>
__device__ inline T row_sum(T value) {
  value += __shfl_xor_sync(0xffffffffu, value, 1);
  value += __shfl_xor_sync(0xffffffffu, value, 2);
  return value;
}

}  // namespace sieve
