// Products of one warp for backward pipelines, beside those of warp_product.h: operands that wait in shared memory, and
// score gradients that are stored by key and read by query.
#pragma once

#include "device/warp_product.h"

namespace sieve {

// Accumulators of kRowTiles x 16 rows by kColumns, rounded to pairs: word [m][n][half] holds columns 8 n + 2 (lane % 4)
// + {0, 1} of row 16 m + lane / 4 + 8 half. Words 2 k and 2 k + 1 are the A operand of step k of a next product.
template <int kRowTiles, int kColumns>
using PackedTiles = uint32_t[kRowTiles][kColumns / 8][2];

template <int kRowTiles, int kColumns>
struct PackedRows {
  const PackedTiles<kRowTiles, kColumns> &words;

  __device__ void read(uint32_t (&a)[kRowTiles][4], int k) const {
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m)
#pragma unroll
      for (int i = 0; i < 4; ++i) a[m][i] = words[m][2 * k + i / 2][i % 2];
  }
};

// sums += weights . values: kValues rows of a tile from first_value on, of their channels those from 16 first_channels
// on.
template <typename Element, int kRowTiles, int kColumns, int kValues, int kTileRows, int kChannels, class Weights>
__device__ inline void sum_product(Accumulators<kRowTiles, kColumns> &sums, const Weights &weights, uint32_t tile,
                                   int first_value, int first_channels) {
  using Tile = SharedTile<kTileRows, kChannels>;
  const int lane = lane_index();
  const uint32_t values = Tile::step(tile + Tile::offset(lane & 15, lane >> 4), first_channels) +
                          static_cast<uint32_t>(first_value * kChannels * 2);
#pragma unroll
  for (int k = 0; k < kValues / 16; ++k) {
    uint32_t a[kRowTiles][4];
    weights.read(a, k);
#pragma unroll
    for (int n = 0; n < kColumns / 16; ++n) {
      uint32_t b[4];  // channels 0-7 of values 0-7, 8-15; channels 8-15 of values 0-7, 8-15
      ptx::ldmatrix_x4_trans(b, Tile::step(values + k * 16 * kChannels * 2, n));
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
