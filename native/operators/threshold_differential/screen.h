// Screens: images of unit keys in 4 or 8 bits a channel, and the proof that a key which they rule out is no survivor.
//
// A row x (query or key) with its stored inverse norm r stands for the vector u = r x (a unit vector, but for rounding
// and for rows below the floor of the norm). Its image is u' = scale z with integers z, and rho >= |u - u'| is kept.
// Then for a query u and a key v, by the inequality of Cauchy and Schwarz,
//
//   u.v = u'.v' + (u - u').v' + u.(v - v')  <=  u'.v' + rho_u (|v| + rho_v) + |u| rho_v
//
// and the integers give u'.v' = scale_u scale_v (z_u . z_v) exactly. The kernel's own score of the pair, computed from
// the stored rows, is a survivor iff fl(fl(acc r_v) r_u - tau) > 0, that is fl(acc r_v) r_u > tau: one multiply-add
// rounds once and keeps the sign. How far that score lies from u.v, in units of 2^-24:
//   acc    the products of 16-bit elements are exact in fp32; the tensor cores add them in groups of at least 8
//          channels, and each group's sum loses at most 4 ulp of the largest magnitude on its way, which is at most
//          |x_u| |x_v|: 128 / 8 groups give 16 x 8 = 128
//   r_v    its product rounds once: 1
//   |u|    r is 1 / |x| up to the rounding of a sum of squares (8 + 4 additions), a root and a division: 16; so
//          |u|, |v| <= 1 + 2^-20
// together below 2^-16. The bound is evaluated in fp32 as well: its terms are at most 4 / scale_u before they are
// compared with 0, four roundings are at most 2^-20 of that; tau - slack rounds to 2^-24 of tau, and beyond |tau| = 4
// the bound is far from both. kSlack = 2^-13 is eight times what all of it needs.
//
//   candidate  iff  not ( scale_v (z_u . z_v) + rho_v (1 + rho_u) / scale_u + (rho_u + kSlack - tau) / scale_u <= 0 )
//
// so every survivor is a candidate, NaN is one, and exact scores of the candidates give the survivors of the exact
// kernel, one for one. Rows whose norm or elements leave the range in which this holds (NaN, infinity, norms above
// 1e18, where a product may overflow) have rho = infinity: always candidates.
//
// Layout of 16 keys in one view, in the order in which the lanes of a warp multiply them (mma.m16n8k32, keys as rows;
// lane 4 g + t holds keys g and g + 8): for every 64 channels
//   int8   512 bytes for keys 0-7, 512 for keys 8-15: 16 bytes a lane, channels 16 t .. 16 t + 15
//   int4   512 bytes: 8 bytes of key g, 8 bytes of key g + 8; byte b of word w holds channel 16 t + 8 w + b in its low
//          half and channel 16 t + 8 w + 4 + b in its high half
// then 8 bytes for every g: scale and rho of key g, scale and rho of key g + 8, as fp16. In both kinds the integers
// multiply as bytes: 4 bits stand in the upper half of a byte, as 16 z.
#pragma once

#include <cuda_fp16.h>

#include "device/ptx/math.h"
#include "operators/threshold_differential/decode_problem.h"

namespace sieve::threshold_differential {

constexpr float kSlack = 0x1p-13f;
constexpr float kLeastInverseNorm = 1e-18f;

template <Screen kScreen, int kDim>
struct ScreenLayout {
  static constexpr bool kInt8 = kScreen == Screen::kInt8;
  static constexpr int kLargest = kInt8 ? 127 : 7;
  static constexpr int kUnit = kInt8 ? 1 : 16;                 // z = 1 as a byte
  static constexpr int kPieces = kDim / 64 * (kInt8 ? 2 : 1);  // of 16 bytes a lane
  static constexpr int kValueBytes = kPieces * 512;
  static_assert(kValueBytes + 64 == screen_bytes(kScreen, kDim));

  // Where 8 channels of one of 16 keys lie; `chunk` counts in 8 channels.
  __device__ static int value_offset(int key, int chunk) {
    const int lane = key % 8 * 4 + chunk % 8 / 2, half = key / 8, word = chunk % 2, group = chunk / 8;
    return kInt8 ? group * 1024 + half * 512 + lane * 16 + word * 8 : group * 512 + lane * 16 + half * 8 + word * 4;
  }
  __device__ static int scale_offset(int key) { return kValueBytes + key % 8 * 8 + key / 8 * 4; }
};

// Four integers as the bytes of a word.
__device__ inline uint32_t pack_bytes(const int *z) {
  return static_cast<uint32_t>(z[0] & 0xff) | static_cast<uint32_t>(z[1] & 0xff) << 8 |
         static_cast<uint32_t>(z[2] & 0xff) << 16 | static_cast<uint32_t>(z[3]) << 24;
}

// 8 neighbouring integers of 4 bits: channel b low, channel 4 + b high in byte b.
__device__ inline uint32_t pack_nibbles(const int (&z)[8]) {
  uint32_t word = 0;
#pragma unroll
  for (int b = 0; b < 4; ++b) word |= static_cast<uint32_t>((z[b] & 0xf) | (z[b + 4] & 0xf) << 4) << (8 * b);
  return word;
}

// 16 z of the low and the high halves of every byte.
__device__ inline void unpack_nibbles(uint32_t word, uint32_t &low, uint32_t &high) {
  low = word << 4 & 0xf0f0f0f0u;
  high = word & 0xf0f0f0f0u;
}

// u = r x of 8 channels of a row.
template <typename Element>
__device__ inline void unit_row(const uint4 &row, float inverse_norm, float (&unit)[8]) {
  const uint32_t words[4] = {row.x, row.y, row.z, row.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float2 pair = unpack<Element>(words[i]);
    unit[2 * i] = pair.x * inverse_norm;
    unit[2 * i + 1] = pair.y * inverse_norm;
  }
}

// Largest magnitude of a row of which kLanes lanes hold 8 channels each; NaN if there is one.
template <int kLanes>
__device__ inline float largest_magnitude(const float (&unit)[8]) {
  float top = 0.0f;
#pragma unroll
  for (int i = 0; i < 8; ++i) top = ptx::max_nan(top, fabsf(unit[i]));
#pragma unroll
  for (int step = kLanes / 2; step > 0; step /= 2) top = ptx::max_nan(top, __shfl_xor_sync(0xffffffffu, top, step));
  return top;
}

// The nearest integers z of u / scale, and rho >= |u - scale z|. Rounding of u (r x is not exact) and of the sum of
// squares stay below 2^-17 of it plus 2^-24: the growth and the floor cover them, also where rho is rounded to fp16
// upwards. Infinite where the argument above does not hold.
template <int kLanes, int kLargest>
__device__ inline float quantise(const float (&unit)[8], float scale, float inverse_norm, int (&z)[8]) {
  const float inverse = scale > 0.0f ? 1.0f / scale : 0.0f;
  float squares = 0.0f;
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    z[i] = min(max(__float2int_rn(unit[i] * inverse), -kLargest), kLargest);
    const float rest = fmaf(-scale, static_cast<float>(z[i]), unit[i]);
    squares = fmaf(rest, rest, squares);
  }
#pragma unroll
  for (int step = kLanes / 2; step > 0; step /= 2) squares += __shfl_xor_sync(0xffffffffu, squares, step);
  const float rho = fmaf(sqrtf(squares), 1.0f + 0x1p-10f, 0x1p-20f);
  const bool holds = rho < 4.0f && inverse_norm > kLeastInverseNorm;
  return holds ? rho : __int_as_float(0x7f800000);
}

}  // namespace sieve::threshold_differential
