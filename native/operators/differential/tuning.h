// Every tuned number of differential attention. LADDER.md has the measurements.
#pragma once

namespace sieve::differential {

// ---- forward, Hopper: a consumer for each stream, both on the same 64 query rows.
struct StreamTiling {
  int key_block;
  int stages;
  int query_stages;
};

constexpr StreamTiling stream_tiling(int value_dim) {
  if (value_dim == 64) return {128, 3, 2};
  return {128, 2, 2};
}

// kKeys: 2 = every stream has keys of its own (V1), 1 = they share them (V2).
template <typename T, int kDim, int kValue, int kKeys, StreamTiling kTiling = stream_tiling(kValue)>
struct StreamShape {
  using Element = T;
  static constexpr int kHeadDim = kDim;
  static constexpr int kValueDim = kValue;
  static constexpr int kViews = 1;
  static constexpr int kStreams = 2;
  static constexpr int kKeyStreams = kKeys;
  static constexpr int kRowScalars = 0;
  static constexpr int kConsumers = 2;
  static constexpr int kRows = 64;
  static constexpr int kRowTiles = 1;
  static constexpr int kThreads = 384;
  static constexpr int kKeyBlock = kTiling.key_block;
  static constexpr int kKeyChunk = kTiling.key_block;
  static constexpr int kStages = kTiling.stages;
  static constexpr int kQueryStages = kTiling.query_stages;
  static constexpr int kProducerRegisters = 40;
  static constexpr int kConsumerRegisters = 232;
};

}  // namespace sieve::differential
