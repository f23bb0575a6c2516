// Tiles of rows on their way into backward pipelines: copies by all threads of a block, and the taking out of values
// that are not finite before they stand where a zero weight would not stop them.
#pragma once

#include "device/element.h"
#include "device/problem.h"
#include "device/ptx/math.h"
#include "device/shared_tile.h"

namespace sieve {

// Copies kRows rows of a tensor, from `row` on; rows from `valid` on and channels from `channels` on become zero.
template <int kThreads, int kRows, int kChannels>
__device__ inline void load_tile(uint8_t *tile, const TensorView &tensor, int batch, int head, int64_t row, int valid,
                                 int channels) {
  using Tile = SharedTile<kRows, kChannels>;
  const int thread = ptx::mov_here(static_cast<int>(threadIdx.x));
  Tile::template load<kThreads>(
      ptx::shared_address(tile),
      Tile::template thread_source<kThreads>(static_cast<const uint16_t *>(tensor.row(batch, head, row, 2)),
                                             tensor.row_stride, thread),
      tensor.row_stride, Tile::template inside<kThreads>(channels, thread) ? valid : 0, thread);
}

// Replaces the 16-byte pieces of a tile that hold a value that is not finite by zeros, and marks their rows with NaN.
// Returns whether this thread found one.
template <typename Element, int kThreads, int kRows, int kChannels>
__device__ inline bool take_out_non_finite(uint8_t *tile, float *marks) {
  constexpr int kChunks = kChannels / 8;
  bool found = false;
#pragma unroll 1
  for (int i = ptx::mov_here(static_cast<int>(threadIdx.x)); i < kRows * kChunks; i += kThreads) {
    uint4 &piece = reinterpret_cast<uint4 *>(tile)[i];
    const uint4 x = piece;
    if ((non_finite<Element>(x.x) | non_finite<Element>(x.y) | non_finite<Element>(x.z) | non_finite<Element>(x.w)) !=
        0) {
      piece = make_uint4(0, 0, 0, 0);
      marks[i / kChunks] = __int_as_float(0x7fc00000);
      found = true;
    }
  }
  return found;
}

}  // namespace sieve
