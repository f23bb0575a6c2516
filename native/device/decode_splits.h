// In how many parts a decode reads the keys of a key head side by side. Host code without CUDA. What is asked is the
// room of the cache, not its present length: the plan of a captured graph stays valid while the cache grows.
#pragma once

#include <algorithm>
#include <cstdint>

namespace sieve {

constexpr int32_t kMostSplits = 1024;

// A split has a thread block of its own; `places` is how many of them run at once and are worth having. What decides is
// how full the rounds of blocks are: 5 splits of 64 heads are 320 blocks in 264 places and take 1.4 times as long as 4
// splits. So: the fewest splits that leave at most 5 % of the places empty, or the fullest rounds there are.
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

}  // namespace sieve
