// Threshold differential attention as a policy of the sparse Hopper pipeline: the same weights as weights.h, behind a
// screen.
//
// The screen looks at a score s' of another product than the exact one, s: both sum D products of 16-bit numbers in
// fp32, in their own order, so |s' - s| <= 2 D 2^-22 |q| |k| even where additions truncate, and |s' - s| rk rq <= 2^-14
// for D <= 128. The exact test (weights.h) is X rq > tau with X = fl(s rk), whose roundings move the cosine by 2^-22 at
// most. Together they stay below kSlack = 2^-13: a survivor has s' rk > (tau - kSlack) / rq, and the multiply-add of
// the screen keeps the sign of s' rk - limit. What is no number has no sign bit and is looked at exactly; an inverse
// norm of 0 (an infinite query) makes the limit NaN, so that its rows are, too.
//
// Images (signed bytes of unit rows) screen by the bound of screen.h. Keys have one scale, 1 / 127, whatever their row:
// no channel of a unit row is larger than 1. So
//
//   candidate  iff  z_u . z_v  >  127 (tau - kSlack - rho_u - rho_v (1 + rho_u)) / scale_u
//
// in which only rho_v depends on the key; the largest one among 64 keys stands for all of them, and a row compares its
// largest z_u . z_v with a number. What is no number makes the limit the least integer: everything is a candidate.
#pragma once

#include "operators/threshold_differential/image_rows.h"
#include "operators/threshold_differential/weights.h"

namespace sieve::threshold_differential {

struct SparseWeightArguments : WeightArguments {
  ImageRows query_images[2];  // [batch, query heads, rows], where images screen
  ImageRows key_images[2];    // [batch, key heads, rows]
};

template <class ShapeType>
struct SparseWeights : RowNumbers<ShapeType> {
  using Shape = ShapeType;
  using Arguments = SparseWeightArguments;
  using Numbers = RowNumbers<Shape>;
  using Numbers::kInverseNorm;
  using Numbers::kScaled;
  using Numbers::kThreshold;
  using Numbers::kWeightScale;
  using Rows = RowScalars<Shape::kRows>;
  static constexpr int kViews = Shape::kViews;

  __device__ static float limit(const Rows &rows, int view, int half) {
    const float inverse = rows.at(kInverseNorm + view, 0, half);
    return inverse > 0.0f ? (rows.at(kThreshold, 0, half) - kSlack) / inverse : __int_as_float(0x7fffffff);
  }

  __device__ static uint32_t screen(float score, float inverse_norm, float limit) {
    return __float_as_uint(fmaf(score, inverse_norm, -limit));
  }

  __device__ static const int8_t *query_image(const Arguments &a, int view) { return a.query_images[view].values; }
  __device__ static const float *key_distances(const Arguments &a, const ProblemView &problem, int view, int batch,
                                               int key_head) {
    return a.key_images[view].distances + Numbers::first_key(a, problem, batch, key_head);
  }

  // The limit of a row is x - y * distance.
  __device__ static float2 integer_limit(const Arguments &a, const Rows &rows, int64_t index, int view, int half) {
    const ImageRows &images = a.query_images[view];
    const float inverse = kKeySteps / images.scales[index], distance = images.distances[index];
    return make_float2((rows.at(kThreshold, 0, half) - kSlack - distance) * inverse, (1.0f + distance) * inverse);
  }
  __device__ static int32_t round_limit(float limit) {
    return limit >= -0x1p30f ? __float2int_rd(limit) : -0x7fffffff - 1;
  }

  // Exact weights of 16 keys, as the product with their values takes them. False where no thread of the warp has one.
  // Adds the survivors of this thread's rows to `counts` (of its first row), if somebody wants them, and sets the bits
  // of views that have some in `found`.
  __device__ static bool weigh(const float (&scores)[kViews][2][4], const float *key_scalars, const Rows &rows,
                               const ChunkMask &mask, const Arguments &a, int head, int *counts, uint32_t &found,
                               uint32_t (&weights)[4]) {
    float excess[kViews][2][4];
    bool any = false;
#pragma unroll
    for (int view = 0; view < kViews; ++view) {
      const float4 inverse = *reinterpret_cast<const float4 *>(key_scalars + view * Shape::kKeyBlock);
#pragma unroll
      for (int n = 0; n < 2; ++n) {
        const float left = n == 0 ? inverse.x : inverse.z, right = n == 0 ? inverse.y : inverse.w;
#pragma unroll
        for (int e = 0; e < 4; ++e)
          excess[view][n][e] = fmaf(scores[view][n][e] * (e % 2 == 0 ? left : right),
                                    rows.at(kInverseNorm + view, 0, e / 2), -rows.at(kThreshold, 0, e / 2));
      }
    }
    if (mask.active) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const KeyRange range = mask.columns(0, half);
#pragma unroll
        for (int n = 0; n < 2; ++n)
#pragma unroll
          for (int e = 0; e < 2; ++e)
            if (n * 8 + e < range.first || n * 8 + e >= range.end)
#pragma unroll
              for (int view = 0; view < kViews; ++view) excess[view][n][2 * half + e] = -1.0f;
      }
    }
#pragma unroll
    for (int view = 0; view < kViews; ++view)
#pragma unroll
      for (int n = 0; n < 2; ++n)
#pragma unroll
        for (int e = 0; e < 4; ++e) any |= !(excess[view][n][e] <= 0.0f);
    if (!__any_sync(0xffffffffu, any)) return false;
    record(excess, a, counts, found);
    const float lambda = kViews == 2 ? a.lambda.at(head) : 0.0f;
    switch (a.power_kind) {
      case Power::kOne:
        combine<Power::kOne>(excess, rows, a.power, lambda, weights);
        break;
      case Power::kTwo:
        combine<Power::kTwo>(excess, rows, a.power, lambda, weights);
        break;
      case Power::kThree:
        combine<Power::kThree>(excess, rows, a.power, lambda, weights);
        break;
      case Power::kGeneral:
        combine<Power::kGeneral>(excess, rows, a.power, lambda, weights);
        break;
    }
    return true;
  }

  // `counts` of a row, view after view.
  __device__ static void store_counts(const Arguments &a, const Sequence &sequence, int head, int row,
                                      const int *counts) {
#pragma unroll
    for (int view = 0; view < kViews; ++view)
      if (a.survivors[view].data != nullptr)
        *static_cast<int32_t *>(a.survivors[view].row(sequence.batch, head, sequence.query_start + row,
                                                      sizeof(int32_t))) = counts[view * Shape::kRows];
  }

  // A tile of rows and keys that `row` and `key` are in has survivors in the views `found`.
  __device__ static void mark_tile(const Arguments &a, const ProblemView &problem, const Sequence &sequence, int head,
                                   int row, int key, uint32_t found) {
    if (a.survivor_tiles.words.data != nullptr && lane_index() == 0)
      a.survivor_tiles.add(problem, sequence, head, row / kSurvivorTile, key / kSurvivorTile, static_cast<int>(found));
  }

  // Whether results of a tile of rows are written by all warps of a consumer.
  __device__ static bool shares_results(const Arguments &a) {
    return a.survivor_tiles.words.data != nullptr;
  }

  // Undoes weight_scale.
  __device__ static float unscale(const Rows &rows, int half) {
    return kScaled ? 1.0f / rows.at(kWeightScale, 0, half) : 1.0f;
  }

 private:
  using Excess = float[kViews][2][4];

  // Pieces with survivors are few, so counts live in shared memory. Integer sums have no order.
  __device__ static void record(const Excess &excess, const Arguments &a, int *counts, uint32_t &found) {
    const bool counted = a.survivors[0].data != nullptr || a.survivors[1].data != nullptr;
    if (!counted && a.survivor_tiles.words.data == nullptr) return;
#pragma unroll
    for (int view = 0; view < kViews; ++view) {
      bool any = false;
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        int count = 0;
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const float e = excess[view][i / 2][2 * half + i % 2];
          count += e > 0.0f;
          any |= !(e <= 0.0f);
        }
        if (counted && count > 0) atomicAdd(&counts[view * Shape::kRows + 8 * half], count);
      }
      found |= static_cast<uint32_t>(__any_sync(0xffffffffu, any)) << view;
    }
  }

  template <Power kPower>
  __device__ static void combine(const Excess &excess, const Rows &rows, float power, float lambda,
                                 uint32_t (&weights)[4]) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      float weight[2];
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        const int n = i / 2, e = 2 * (i % 2) + j;
        weight[j] = exceedance_power<kPower>(ptx::max_nan(excess[0][n][e], 0.0f), power);
        if constexpr (kViews == 2)
          weight[j] = fmaf(-lambda, exceedance_power<kPower>(ptx::max_nan(excess[1][n][e], 0.0f), power), weight[j]);
        if constexpr (kScaled) weight[j] *= rows.at(kWeightScale, 0, e / 2);
      }
      weights[i] = ptx::cvt_x2<typename Shape::Element>(weight[0], weight[1]);
    }
  }
};

}  // namespace sieve::threshold_differential
