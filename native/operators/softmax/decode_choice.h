// In how many parts decode reads the keys of a key head side by side. Host code without CUDA; the numbers are
// measurements of an H200, LADDER.md has them. What is asked is the room of the cache, not its present length: the plan
// of a captured graph stays valid while the cache grows.
#pragma once

#include <algorithm>
#include <cstdint>

#include "sieve/attention.h"

namespace sieve::softmax {

constexpr int32_t kMostSplits = 1024;

// Thread blocks that run at once and are worth having. One of the Hopper path keeps a multiprocessor's copies going as
// long as each of its warps has the rows to itself (up to 16 packed rows: 125 us with one, 127 with two, of 537 MB); with
// more rows its arithmetic needs a second (64 rows of 64 channels: 385 us with one, 291 with two). A block of the generic
// path waits for its copies, so two take turns. `rows` are those of one key head: query rows x heads of the group.
inline int64_t decode_places(int32_t path, int64_t rows, int32_t multiprocessors) {
  return multiprocessors * (path == SIEVE_PATH_HOPPER && rows <= 16 ? 1 : 2);
}

// A split has a thread block of its own. What decides is how full the rounds of blocks are: 5 splits of 64 heads are
// 320 blocks in 264 places and take 1.4 times as long as 4 splits. So: the fewest splits that leave at most 5 % of the
// places empty, or the fullest rounds there are.
inline int32_t decode_splits(int64_t sequences_and_heads, int64_t keys, int64_t places) {
  constexpr int64_t kLeastKeys = 512;  // of a split: fewer cost more to combine than to read
  const int64_t most = std::clamp<int64_t>(std::min(keys / kLeastKeys, places), 1, kMostSplits);
  int64_t best = 1;
  double fullest = 0;
  for (int64_t splits = 1; splits <= most && fullest < 0.95; ++splits) {
    const int64_t blocks = sequences_and_heads * splits, rounds = (blocks + places - 1) / places;
    const double full = static_cast<double>(blocks) / static_cast<double>(rounds * places);
    if (full <= fullest) continue;
    fullest = full;
    best = splits;
  }
  return static_cast<int32_t>(best);
}

}  // namespace sieve::softmax
