// Products of one warp for backward pipelines, beside those of warp_product.h: operands that wait in shared memory, and
// score gradients that are stored by key and read by query.
#pragma once

#include "device/warp_product.h"

namespace sieve {

// Accumulators of kRowTiles x 16 rows by kColumns, rounded to pairs: word [m][n][half] holds columns 8 n + 2 (lane % 4)
// + {0, 1} of row 16 m + lane / 4 + 8 half. Words 2 k and 2 k + 1 are the A operand of step k of a next product.
template <int kRowTiles, int kColumns>
using PackedTiles = uint32_t[kRowTiles][kColumns / 8][2];

// scores = rows . columns^T, both in shared memory: the rows [first_row, first_row + 16 kRowTiles) of one tile, the
// rows [first_column, first_column + kColumns) of another.
template <typename Element, int kRowTiles, int kColumns, int kTileRows, int kTileColumns, int kChannels>
__device__ inline void shared_product(Accumulators<kRowTiles, kColumns> &scores, uint32_t row_tile, int first_row,
                                      uint32_t column_tile, int first_column) {
  static_assert(kColumns % 16 == 0, "columns are read in pairs of eight");
  using RowTile = SharedTile<kTileRows, kChannels>;
  using ColumnTile = SharedTile<kTileColumns, kChannels>;
  const int lane = lane_index();
  const uint32_t rows = row_tile + RowTile::offset(first_row + (lane & 15), lane >> 4);
  const uint32_t columns = column_tile + ColumnTile::offset((lane & 7) + ((lane >> 4) << 3), (lane >> 3) & 1) +
                           static_cast<uint32_t>(first_column * kChannels * 2);
#pragma unroll
  for (int m = 0; m < kRowTiles; ++m)
#pragma unroll
    for (int n = 0; n < kColumns / 8; ++n)
#pragma unroll
      for (int e = 0; e < 4; ++e) scores[m][n][e] = 0.0f;
#pragma unroll
  for (int k = 0; k < kChannels / 16; ++k) {
    uint32_t a[kRowTiles][4];
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m) ptx::ldmatrix_x4(a[m], RowTile::step(rows + m * 16 * kChannels * 2, k));
#pragma unroll
    for (int n = 0; n < kColumns / 16; ++n) {
      uint32_t b[4];
      ptx::ldmatrix_x4(b, ColumnTile::step(columns + n * 16 * kChannels * 2, k));
#pragma unroll
      for (int m = 0; m < kRowTiles; ++m) {
        ptx::mma_m16n8k16<Element>(scores[m][2 * n], a[m], b[0], b[1]);
        ptx::mma_m16n8k16<Element>(scores[m][2 * n + 1], a[m], b[2], b[3]);
      }
    }
  }
}

// sums += weights . values for the rows [first_value, first_value + kValues) of a tile.
template <typename Element, int kRowTiles, int kValues, int kTileRows, int kChannels>
__device__ inline void packed_product(Accumulators<kRowTiles, kChannels> &sums,
                                      const PackedTiles<kRowTiles, kValues> &weights, uint32_t tile, int first_value) {
  using Tile = SharedTile<kTileRows, kChannels>;
  const int lane = lane_index();
  const uint32_t rows = tile + Tile::offset(lane & 15, lane >> 4) + static_cast<uint32_t>(first_value * kChannels * 2);
#pragma unroll
  for (int k = 0; k < kValues / 16; ++k) {
#pragma unroll
    for (int n = 0; n < kChannels / 16; ++n) {
      uint32_t b[4];  // channels 0-7 of values 0-7, 8-15; channels 8-15 of values 0-7, 8-15
      ptx::ldmatrix_x4_trans(b, Tile::step(rows + k * 16 * kChannels * 2, n));
#pragma unroll
      for (int m = 0; m < kRowTiles; ++m) {
        const uint32_t a[4] = {weights[m][2 * k][0], weights[m][2 * k][1], weights[m][2 * k + 1][0],
                               weights[m][2 * k + 1][1]};
        ptx::mma_m16n8k16<Element>(sums[m][2 * n], a, b[0], b[1]);
        ptx::mma_m16n8k16<Element>(sums[m][2 * n + 1], a, b[2], b[3]);
      }
    }
  }
}

// sums += weights . values, the weights of kRowTiles x 16 rows in shared memory, [rows][values]; of the values'
// channels those from 16 first_channels on. change(step, words) may alter the weights of 16 values before they are
// used.
template <typename Element, int kRowTiles, int kColumns, int kTileRows, int kValues, int kChannels, class Change>
__device__ inline void shared_sum(Accumulators<kRowTiles, kColumns> &sums, uint32_t weight_tile, int first_row,
                                  uint32_t value_tile, int first_channels, const Change &change) {
  using WeightTile = SharedTile<kTileRows, kValues>;
  using ValueTile = SharedTile<kValues, kChannels>;
  const int lane = lane_index();
  const uint32_t weights = weight_tile + WeightTile::offset(first_row + (lane & 15), lane >> 4);
  const uint32_t values = ValueTile::step(value_tile + ValueTile::offset(lane & 15, lane >> 4), first_channels);
#pragma unroll
  for (int k = 0; k < kValues / 16; ++k) {
    uint32_t a[kRowTiles][4];
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m) {
      ptx::ldmatrix_x4(a[m], WeightTile::step(weights + m * 16 * kValues * 2, k));
      change(k, a[m]);
    }
#pragma unroll
    for (int n = 0; n < kColumns / 16; ++n) {
      uint32_t b[4];
      ptx::ldmatrix_x4_trans(b, ValueTile::step(values + k * 16 * kChannels * 2, n));
#pragma unroll
      for (int m = 0; m < kRowTiles; ++m) {
        ptx::mma_m16n8k16<Element>(sums[m][2 * n], a[m], b[0], b[1]);
        ptx::mma_m16n8k16<Element>(sums[m][2 * n + 1], a[m], b[2], b[3]);
      }
    }
  }
}

// sums = gradients^T . keys: of a tile [keys][queries] the queries [16 first_tile, 16 (first_tile + kRowTiles)), of a
// tile [keys][channels] the channels [16 first_channels, ...).
template <typename Element, int kRowTiles, int kColumns, int kKeys, int kQueries, int kChannels>
__device__ inline void transposed_product(Accumulators<kRowTiles, kColumns> &sums, uint32_t gradient_tile, int lane,
                                          int first_tile, uint32_t key_tile, int first_channels) {
  using GradientTile = SharedTile<kKeys, kQueries>;
  using KeyTile = SharedTile<kKeys, kChannels>;
  const uint32_t gradients = gradient_tile + GradientTile::offset((lane & 7) + ((lane >> 4) << 3), (lane >> 3) & 1);
  const uint32_t keys = key_tile + KeyTile::offset(lane & 15, lane >> 4);
#pragma unroll
  for (int m = 0; m < kRowTiles; ++m)
#pragma unroll
    for (int n = 0; n < kColumns / 8; ++n)
#pragma unroll
      for (int e = 0; e < 4; ++e) sums[m][n][e] = 0.0f;
#pragma unroll
  for (int k = 0; k < kKeys / 16; ++k) {
    uint32_t a[kRowTiles][4];
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m)
      ptx::ldmatrix_x4_trans(a[m], GradientTile::step(gradients, first_tile + m) + k * 16 * kQueries * 2);
#pragma unroll
    for (int n = 0; n < kColumns / 16; ++n) {
      uint32_t b[4];
      ptx::ldmatrix_x4_trans(b, KeyTile::step(keys, first_channels + n) + k * 16 * kChannels * 2);
#pragma unroll
      for (int m = 0; m < kRowTiles; ++m) {
        ptx::mma_m16n8k16<Element>(sums[m][2 * n], a[m], b[0], b[1]);
        ptx::mma_m16n8k16<Element>(sums[m][2 * n + 1], a[m], b[2], b[3]);
      }
    }
  }
}

}  // namespace sieve
