// Tiles of 16-bit rows in shared memory.
//
// Rows are stored one after another; the 16-byte chunk c of row r lies at chunk position c ^ (r % 8). Eight consecutive rows
// of one chunk column then cover all 32 banks, so both the copies and ldmatrix run without bank conflicts.
#pragma once

#include <cstdint>

#include "device/ptx/cp_async.h"

namespace sieve {

template <int kRows, int kChannels>
struct SharedTile {
  static_assert(kChannels % 64 == 0, "the swizzle permutes groups of eight 16-byte chunks");
  static constexpr int kChunks = kChannels / 8;
  static constexpr int kBytes = kRows * kChannels * 2;

  // Byte offset of a 16-byte chunk.
  __device__ static constexpr uint32_t offset(int row, int chunk) {
    return static_cast<uint32_t>(row * kChannels * 2 + ((chunk ^ (row & 7)) << 4));
  }

  // Starts copying rows [0, kRows) of `source` (row `row` at source + row * row_stride); rows from `valid` on become zero.
  template <int kThreads>
  __device__ static void load(uint32_t tile, const uint16_t *source, int64_t row_stride, int valid) {
    static_assert(kThreads % kChunks == 0 && (kRows * kChunks) % kThreads == 0, "whole rows a pass, whole passes a tile");
    constexpr int kRowsPerPass = kThreads / kChunks;
    const int chunk = static_cast<int>(threadIdx.x) % kChunks;
    const int first = static_cast<int>(threadIdx.x) / kChunks;
#pragma unroll
    for (int pass = 0; pass < kRows / kRowsPerPass; ++pass) {
      const int row = first + pass * kRowsPerPass;
      const bool inside = row < valid;
      // A row outside is not read, but its address must still be one of the tensor's.
      const uint16_t *address = source + (inside ? row * row_stride : 0) + chunk * 8;
      ptx::cp_async_16(tile + offset(row, chunk), address, inside ? 16 : 0);
    }
  }
};

}  // namespace sieve
