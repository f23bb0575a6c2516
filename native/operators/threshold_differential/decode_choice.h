// What decode decides before it runs: whether images pay, and in how many parts the keys of a key head are read side by
// side (device/decode_splits.h). Host code without CUDA. The numbers are measurements of an H200, LADDER.md has them.
#pragma once

#include "device/decode_splits.h"
#include "operators/threshold_differential/decode_problem.h"

namespace sieve::threshold_differential {

// `rows` are those of one key head: query rows x heads of the group.

// With more rows, multiplying their images and attending to the keys that at least one of them asks for cost more than
// reading all keys (32 rows: images take 0.5 to 0.9 of the time, 64 rows: 0.8 to 1.6).
inline Screen screen_that_pays(Screen screen, int64_t rows) {
  constexpr int64_t kMostRowsOfImages = 32;
  return rows <= kMostRowsOfImages ? screen : Screen::kNone;
}

// Thread blocks that run at once and are worth having: two of a multiprocessor's, three of the more arithmetic that
// images of 4 bits ask for a byte. Every split leaves a partial result a warp for the sum of a row; beyond 64 splits of
// a head that costs more than one more block a multiprocessor gains. `heads` are those of all sequences.
inline int64_t decode_places(Screen screen, int64_t heads, int32_t multiprocessors) {
  constexpr int64_t kMostSplitsOfHead = 64;
  int64_t blocks = screen == Screen::kInt4 ? 3 : 2;
  while (blocks > 1 && blocks * multiprocessors > kMostSplitsOfHead * heads) --blocks;
  return blocks * multiprocessors;
}

}  // namespace sieve::threshold_differential
