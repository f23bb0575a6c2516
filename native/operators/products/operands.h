// Operands of products, which differ in all bits as those of real tensors do: zeros would draw less power and let the
// clock rise. And the use of their results.
#pragma once

#include "device/element.h"

namespace sieve::products {

template <typename Element>
__device__ inline uint32_t random_pair(uint32_t number) {
  uint32_t bits = number * 2654435761u + 0x9e3779b9u;
  bits ^= bits >> 16;
  bits *= 0x85ebca6bu;
  bits ^= bits >> 13;
  // Either half: a sign, and a magnitude from 1/4 to 1.
  constexpr uint32_t kFraction = kNarrowExponent<Element> ? 0x07ff07ffu : 0x00ff00ffu;
  constexpr uint32_t kQuarter = kNarrowExponent<Element> ? 0x34003400u : 0x3e803e80u;
  return (bits & 0x80008000u) | ((bits & kFraction) + kQuarter);
}

// Looks at every sum: products whose results nobody looks at are removed, even those of a volatile instruction.
template <int kCount>
__device__ inline void use_sums(const float (&sums)[kCount]) {
  float total = 0.0f;
#pragma unroll
  for (int i = 0; i < kCount; ++i) total += sums[i];
  if (total != total) __nanosleep(1);  // never
}

}  // namespace sieve::products
