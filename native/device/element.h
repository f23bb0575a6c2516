// The 16-bit element types of queries, keys and values.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

namespace sieve {

// fp16 has too few exponents for small weights; kernels that round weights to it scale them first.
template <typename Element>
constexpr bool kNarrowExponent = false;
template <>
inline constexpr bool kNarrowExponent<__half> = true;

// The two elements of a 32-bit word.
template <typename Element>
__device__ float2 unpack(uint32_t pair);

template <>
__device__ inline float2 unpack<__nv_bfloat16>(uint32_t pair) {
  return make_float2(__uint_as_float(pair << 16), __uint_as_float(pair & 0xffff0000u));
}

template <>
__device__ inline float2 unpack<__half>(uint32_t pair) {
  return __half22float2(*reinterpret_cast<const __half2 *>(&pair));
}

// 0xffff in each half of a word that is infinite or NaN.
template <typename Element>
__device__ inline uint32_t non_finite(uint32_t pair) {
  constexpr uint32_t kExponent = kNarrowExponent<Element> ? 0x7c007c00u : 0x7f807f80u;
  return __vcmpeq2(pair & kExponent, kExponent);
}

// 1.0 in each half of a word that is not zero.
template <typename Element>
__device__ inline uint32_t non_zero(uint32_t pair) {
  constexpr uint32_t kOne = kNarrowExponent<Element> ? 0x3c003c00u : 0x3f803f80u;
  return __vcmpne2(pair & 0x7fff7fffu, 0) & kOne;
}

}  // namespace sieve
