// The threshold of a query row. One expression, in one order of operations, for forward, backward and decode: only so
// do the same keys survive everywhere.
#pragma once

namespace sieve::threshold_differential {

// tau = beta * sqrt(2 max(ln(n / kappa), 0) / head_dim), n = visible keys; n = 0 gives 0 (no key is left to compare).
__device__ inline float threshold(float beta, float kappa, int visible, int head_dim) {
  const float logarithm = visible > 0 ? fmaxf(logf(static_cast<float>(visible) / kappa), 0.0f) : 0.0f;
  return beta * sqrtf(2.0f * logarithm / static_cast<float>(head_dim));
}

}  // namespace sieve::threshold_differential
