// From the sums that a backward pipeline leaves to the gradients of queries and row factors.
//
//   query_sums   [query heads][padded rows / 64][dim / 8][128][4], fp32: the accumulators of 64 query rows in the order
//                in which the 128 threads of four warps hold them. Thread t = 32 w + l holds rows 16 w + l / 4 (+ 8),
//                channels 8 j + 2 (l % 4) + {0, 1} in [j][t][0..1] and, of the row + 8, in [j][t][2..3].
//
//   dq_i = scale n_i sum_i                    n_i = row factor, 1 without one
//   dn_i = q_i . (scale sum_i)                optional; also kept in a padded array for the sums over rows below
//
// A thread takes eight channels of two rows that are eight apart: 64 consecutive bytes of the sums, 16 bytes of either
// row of the gradient. kDim / 8 neighbouring lanes are a row, so that all of it moves in whole sectors. Memory-bound:
// 4 bytes a channel read, 2 or 4 written.
#pragma once

#include "device/element.h"
#include "device/padded_rows.h"
#include "device/row_factor.h"
#include "device/warp_product.h"

namespace sieve {

struct QueryGradientArguments {
  ProblemView problem;
  int32_t tiles = 0;     // of PaddedRows::kTile rows, of the longest sequence
  int32_t head_dim = 0;  // of the tensors; kDim or less
  int64_t padded_rows = 0;
  const float *query_sums = nullptr;
  const float *factors = nullptr;  // padded; null: all 1
  float scale = 1;
  TensorView query;           // read only where a gradient of row factors is wanted
  TensorView query_gradient;  // data = nullptr: not wanted
  OutputType query_gradient_type = OutputType::kElement;
  TensorView row_factor_gradient;     // data = nullptr: not wanted
  float *factor_gradients = nullptr;  // dn_i, padded; null: not wanted
};

constexpr int kQueryGradientThreads = 256;

template <typename Element>
__device__ inline void store_channels(const TensorView &target, OutputType type, int batch, int head, int64_t row,
                                      int channel, const float (&x)[8]) {
  if (type == OutputType::kFloat32) {
    float4 *t = reinterpret_cast<float4 *>(static_cast<float *>(target.row(batch, head, row, 4)) + channel);
    t[0] = make_float4(x[0], x[1], x[2], x[3]);
    t[1] = make_float4(x[4], x[5], x[6], x[7]);
  } else {
    *reinterpret_cast<uint4 *>(static_cast<uint16_t *>(target.row(batch, head, row, 2)) + channel) =
        make_uint4(ptx::cvt_x2<Element>(x[0], x[1]), ptx::cvt_x2<Element>(x[2], x[3]), ptx::cvt_x2<Element>(x[4], x[5]),
                   ptx::cvt_x2<Element>(x[6], x[7]));
  }
}

template <typename Element>
__device__ inline float dot_channels(uint4 elements, const float (&x)[8]) {
  const uint32_t words[4] = {elements.x, elements.y, elements.z, elements.w};
  float sum = 0.0f;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float2 pair = unpack<Element>(words[i]);
    sum = fmaf(pair.x, x[2 * i], sum);
    sum = fmaf(pair.y, x[2 * i + 1], sum);
  }
  return sum;
}

template <typename Element, int kDim>
__global__ void __launch_bounds__(kQueryGradientThreads)
    query_gradient(const __grid_constant__ QueryGradientArguments a) {
  constexpr int kLanes = kDim / 8;
  constexpr int kPairs = kQueryGradientThreads / kLanes;  // of rows, a pass
  static_assert(32 % kLanes == 0 && PaddedRows::kTile / 2 % kPairs == 0, "a row stays within a warp; whole passes");
  const PaddedTile place = PaddedTile::of(a.problem, a.tiles, static_cast<int>(blockIdx.x));
  const Sequence sequence = Sequence::at(a.problem, place.sequence);
  const int first_row = place.first_row;
  if (first_row >= sequence.queries) return;
  const int64_t padded =
      place.head * a.padded_rows + PaddedRows::first(a.problem, sequence, place.sequence) + first_row;
  const int j = static_cast<int>(threadIdx.x) % kLanes;
  const bool wants_dot = a.row_factor_gradient.data != nullptr || a.factor_gradients != nullptr;

#pragma unroll 2
  for (int pass = 0; pass < PaddedRows::kTile / 2 / kPairs; ++pass) {
    const int pair = pass * kPairs + static_cast<int>(threadIdx.x) / kLanes;
    const int tile_row = pair / 8 * 16 + pair % 8;
    const float *sums = a.query_sums + (padded + tile_row / 64 * 64) * kDim + (j * 128 + pair % 32 * 4) * 4;
    float x[2][8];
#pragma unroll
    for (int q = 0; q < 4; ++q) {
      const float4 d = reinterpret_cast<const float4 *>(sums)[q];
      x[0][2 * q] = d.x * a.scale;
      x[0][2 * q + 1] = d.y * a.scale;
      x[1][2 * q] = d.z * a.scale;
      x[1][2 * q + 1] = d.w * a.scale;
    }
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = first_row + tile_row + 8 * half;
      const bool inside = row < sequence.queries && 8 * j < a.head_dim;
      const int64_t tensor_row = sequence.query_start + static_cast<int64_t>(row);
      if (wants_dot) {
        float dot = 0.0f;
        if (inside)
          dot = dot_channels<Element>(
              *reinterpret_cast<const uint4 *>(
                  static_cast<const uint16_t *>(a.query.row(sequence.batch, place.head, tensor_row, 2)) + 8 * j),
              x[half]);
#pragma unroll
        for (int step = kLanes / 2; step > 0; step /= 2) dot += __shfl_xor_sync(0xffffffffu, dot, step);
        if (inside && j == 0) {
          if (a.row_factor_gradient.data != nullptr)
            *static_cast<float *>(a.row_factor_gradient.row(sequence.batch, place.head, tensor_row, 4)) = dot;
          if (a.factor_gradients != nullptr) a.factor_gradients[padded + tile_row + 8 * half] = dot;
        }
      }
      if (!inside || a.query_gradient.data == nullptr) continue;
      if (a.factors != nullptr) {
        const float factor = a.factors[padded + tile_row + 8 * half];
#pragma unroll
        for (float &value : x[half]) value *= factor;
      }
      store_channels<Element>(a.query_gradient, a.query_gradient_type, sequence.batch, place.head, tensor_row, 8 * j,
                              x[half]);
    }
  }
}

// Gradients of the two parameters of the row factor, one float a head: sum over rows of dn_i * (dn_i / d parameter), in
// a fixed order. One thread block a head.
constexpr int kParameterGradientThreads = 512;

struct ParameterGradientArguments {
  ProblemView problem;
  int64_t padded_rows = 0;
  const float *factor_gradients = nullptr;
  float *first_gradient = nullptr;  // either may be null
  float *second_gradient = nullptr;
};

// One compiled copy for all operators is enough: `static` keeps the copies of several files apart.
static __global__ void __launch_bounds__(kParameterGradientThreads)
    parameter_gradients(const __grid_constant__ ParameterGradientArguments a) {
  __shared__ float partial[2][kParameterGradientThreads / 32];
  const int head = static_cast<int>(blockIdx.x);
  const int thread = static_cast<int>(threadIdx.x);
  float first = 0.0f, second = 0.0f;
  for (int index = 0; index < a.problem.batch; ++index) {
    const Sequence sequence = Sequence::at(a.problem, index);
    const float *gradients = a.factor_gradients + head * a.padded_rows + PaddedRows::first(a.problem, sequence, index);
    for (int row = thread; row < sequence.queries; row += kParameterGradientThreads) {
      const RowFactorSlopes slopes = row_factor_slopes(a.problem, sequence, head, row);
      first = fmaf(gradients[row], slopes.first, first);
      second = fmaf(gradients[row], slopes.second, second);
    }
  }
#pragma unroll
  for (int step = 16; step > 0; step /= 2) {
    first += __shfl_xor_sync(0xffffffffu, first, step);
    second += __shfl_xor_sync(0xffffffffu, second, step);
  }
  if (thread % 32 == 0) {
    partial[0][thread / 32] = first;
    partial[1][thread / 32] = second;
  }
  __syncthreads();
  if (thread != 0) return;
  first = second = 0.0f;
  for (int warp = 0; warp < kParameterGradientThreads / 32; ++warp) {
    first += partial[0][warp];
    second += partial[1][warp];
  }
  if (a.first_gradient != nullptr) a.first_gradient[head] = first;
  if (a.second_gradient != nullptr) a.second_gradient[head] = second;
}

}  // namespace sieve
