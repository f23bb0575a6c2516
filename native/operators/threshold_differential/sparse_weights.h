// Threshold differential attention as a policy of the sparse Hopper pipeline: the same weights as weights.h, behind a
// screen.
//
// The screen looks at a score s' of another product than the exact one, s: both sum D products of 16-bit numbers in
// fp32, in their own order, so |s' - s| <= 2 D 2^-22 |q| |k| even where additions truncate, and |s' - s| rk rq <= 2^-14
// for D <= 128. The exact test (weights.h) is X rq > tau with X = fl(s rk), whose roundings move the cosine by 2^-22 at
// most. Together they stay below kSlack = 2^-13: a survivor has s' rk > (tau - kSlack) / rq, and the multiply-add of
// the screen keeps the sign of s' rk - limit. What is no number has no sign bit and is looked at exactly; an inverse
// norm of 0 (an infinite query) makes the limit NaN, so that its rows are, too.
#pragma once

#include "operators/threshold_differential/weights.h"

namespace sieve::threshold_differential {

template <class ShapeType>
struct SparseWeights : RowNumbers<ShapeType> {
  using Shape = ShapeType;
  using Arguments = WeightArguments;
  using Numbers = RowNumbers<Shape>;
  using Numbers::kInverseNorm;
  using Numbers::kScaled;
  using Numbers::kThreshold;
  using Numbers::kWeightScale;
  using Rows = RowScalars<Shape::kRows>;
  static constexpr int kViews = Shape::kViews;
  static constexpr float kSlack = 0x1p-13f;

  __device__ static float limit(const Rows &rows, int view, int half) {
    const float inverse = rows.at(kInverseNorm + view, 0, half);
    return inverse > 0.0f ? (rows.at(kThreshold, 0, half) - kSlack) / inverse : __int_as_float(0x7fffffff);
  }

  __device__ static uint32_t screen(float score, float inverse_norm, float limit) {
    return __float_as_uint(fmaf(score, inverse_norm, -limit));
  }

  // Exact weights of 16 keys, as the product with their values takes them. False where no thread of the warp has one.
  __device__ static bool weigh(const float (&scores)[kViews][2][4], const float *key_scalars, const Rows &rows,
                               const ThreadRows &thread_rows, const ChunkMask &mask, const Arguments &a, int head,
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
    record(excess, thread_rows, mask, a, head);
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

  __device__ static void record(const Excess &excess, const ThreadRows &thread_rows, const ChunkMask &mask,
                                const Arguments &a, int head) {
    if (a.survivors[0].data == nullptr && a.survivors[1].data == nullptr && a.survivor_tiles.words.data == nullptr)
      return;
    int bits = 0;
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
        add_survivors(a, view, mask.sequence, head, thread_rows.row(0, half), count);
      }
      bits |= __any_sync(0xffffffffu, any) << view;
    }
    if (a.survivor_tiles.words.data != nullptr && lane_index() == 0)
      a.survivor_tiles.add(mask.problem, mask.sequence, head, thread_rows.first / kSurvivorTile,
                           mask.key / kSurvivorTile, bits);
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
