// Tiles of 16-bit rows in shared memory.
//
// Rows are stored one after another; the 16-byte chunk c of row r lies at chunk position c ^ (r % 8). Eight consecutive
// rows of one chunk column then cover all 32 banks, so both the copies and ldmatrix run without bank conflicts.
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

  // From the address of chunk 0 or 1 of a row to that of the chunk 2 k further: the swizzle makes it an exclusive or,
  // which costs one instruction and no register a k. Tiles lie on 128-byte boundaries.
  __device__ static constexpr uint32_t step(uint32_t address, int k) {
    return (address ^ (static_cast<uint32_t>(k & 3) << 5)) + static_cast<uint32_t>(k >> 2) * 128;
  }

  // The copying functions take the thread as an argument so that a caller can read it anew (ptx::mov_here): what hangs
  // on it then occupies no register over a long loop.

  // What this thread copies of a tile whose first row is at `source`: one 16-byte chunk of every kRowsPerPass-th row.
  template <int kThreads>
  __device__ static const uint16_t *thread_source(const uint16_t *source, int64_t row_stride,
                                                  int thread = static_cast<int>(threadIdx.x)) {
    return source + thread / kChunks * row_stride + thread % kChunks * 8;
  }

  // Whether this thread's chunk lies inside a tensor of so many channels.
  template <int kThreads>
  __device__ static bool inside(int channels, int thread = static_cast<int>(threadIdx.x)) {
    return thread % kChunks * 8 < channels;
  }

  // Starts copying this thread's part of kRows rows; rows from `valid` on become zero.
  template <int kThreads>
  __device__ static void load(uint32_t tile, const uint16_t *thread_source, int64_t row_stride, int valid,
                              int thread = static_cast<int>(threadIdx.x)) {
    constexpr int kRowsPerPass = kThreads / kChunks;
    static_assert(kThreads % kChunks == 0 && kRows % kRowsPerPass == 0, "whole rows a pass, whole passes a tile");
    static_assert(kRowsPerPass % 8 == 0, "the swizzle of a thread's rows is the same in every pass");
    const int first = thread / kChunks;
    const uint32_t target = tile + offset(first, thread % kChunks);
#pragma unroll
    for (int pass = 0; pass < kRows / kRowsPerPass; ++pass) {
      // A copy of no bytes reads nothing, whatever its address.
      ptx::cp_async_16(target + static_cast<uint32_t>(pass * kRowsPerPass * kChannels * 2),
                       thread_source + pass * kRowsPerPass * row_stride, first + pass * kRowsPerPass < valid ? 16 : 0);
    }
  }
};

}  // namespace sieve
