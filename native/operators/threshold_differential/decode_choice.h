// What decode decides before it runs: whether images pay, and in how many parts the keys of a key head are read side by
// side (device/decode_splits.h). Host code without CUDA. The numbers are measurements of an H200, LADDER.md has them.
#pragma once

#include <algorithm>

#include "device/decode_splits.h"
#include "operators/threshold_differential/decode_problem.h"

namespace sieve::threshold_differential {

// `rows` are those of one key head: query rows x heads of the group.

// Images of 128 channels are multiplied once for every 8 rows, keys too, but images 8 times as fast as they are read:
// beyond this many rows the multiplying, and the keys that at least one of the rows asks for, cost more than reading
// all keys.
inline Screen screen_that_pays(Screen screen, int32_t head_dim, int64_t rows) {
  return rows <= (screened_dim(head_dim) == 64 ? 64 : 32) ? screen : Screen::kNone;
}

// Thread blocks that run at once and are worth having. Keys of 64 channels are read fastest by one block a
// multiprocessor, as long as its arithmetic keeps pace. Images of 4 bits need more work a byte: a third block pays where
// it still has keys enough that its partial results do not matter. `keys` are those of all heads and sequences.
inline int64_t decode_places(Screen screen, int32_t head_dim, int64_t rows, int64_t keys, int32_t multiprocessors) {
  constexpr int64_t kLeastKeysOfThird = 1024;
  if (screen == Screen::kNone && screened_dim(head_dim) == 64 && rows <= 16) return multiprocessors;
  const bool third = screen == Screen::kInt4 && keys >= kLeastKeysOfThird * 3 * multiprocessors;
  return multiprocessors * (third ? 3 : 2);
}

}  // namespace sieve::threshold_differential
