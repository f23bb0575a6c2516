// A place in a ring of stages; the phase changes with every round.
#pragma once

#include <cstdint>

namespace sieve {

template <int kStages>
struct RingCursor {
  int stage = 0;
  uint32_t phase = 0;
  __device__ RingCursor before() const {
    return stage == 0 ? RingCursor{kStages - 1, phase ^ 1} : RingCursor{stage - 1, phase};
  }
  __device__ void advance() {
    if (++stage == kStages) {
      stage = 0;
      phase ^= 1;
    }
  }
};

// A place in a ring of two, in one register.
struct PairCursor {
  uint32_t count = 0;
  __device__ int stage() const { return static_cast<int>(count & 1); }
  __device__ uint32_t phase() const { return count >> 1 & 1; }
  __device__ void advance() { ++count; }
};

}  // namespace sieve
