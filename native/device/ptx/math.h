// Single instructions that C++ has no operator for.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

namespace sieve::ptx {

// max.NaN.f32: the larger value, NaN if either is NaN (fmaxf would hide it).
__device__ inline float max_nan(float a, float b) {
  float d;
  asm("max.NaN.f32 %0, %1, %2;" : "=f"(d) : "f"(a), "f"(b));
  return d;
}

// ex2.approx.ftz.f32: 2^a, relative error 2^-22.
__device__ inline float ex2_approx(float a) {
  float d;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(d) : "f"(a));
  return d;
}

// lg2.approx.ftz.f32: log2(a), absolute error 2^-22 near 1, relative 2^-22 elsewhere.
__device__ inline float lg2_approx(float a) {
  float d;
  asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(d) : "f"(a));
  return d;
}

// mov.b32 that the compiler may not move: what is computed from the copy is computed where it is used, not kept in
// registers over a loop that rarely needs it.
__device__ inline int mov_here(int a) {
  int d;
  asm volatile("mov.b32 %0, %1;" : "=r"(d) : "r"(a));
  return d;
}

// %ctaid.x, read again at every call: a value that is cheap to recompute should not occupy a register over a long loop.
__device__ inline int ctaid_x() {
  int d;
  asm volatile("mov.u32 %0, %%ctaid.x;" : "=r"(d));
  return d;
}

// cvt.rn.bf16x2.f32 / cvt.rn.f16x2.f32: low and high rounded to nearest even into one register.
template <typename Element>
__device__ uint32_t cvt_x2(float low, float high);

template <>
__device__ inline uint32_t cvt_x2<__nv_bfloat16>(float low, float high) {
  uint32_t d;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(d) : "f"(high), "f"(low));
  return d;
}

template <>
__device__ inline uint32_t cvt_x2<__half>(float low, float high) {
  uint32_t d;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(d) : "f"(high), "f"(low));
  return d;
}

}  // namespace sieve::ptx
