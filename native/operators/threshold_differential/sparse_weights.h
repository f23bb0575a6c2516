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

  // Where the floats of the keys lie.
  __device__ static int64_t key_head_index(const ProblemView &problem, int batch, int key_head) {
    return static_cast<int64_t>(batch) * (problem.query_heads / problem.group) + key_head;
  }
  __device__ static int64_t key_rows(const Arguments &a) { return a.key_rows; }
  __device__ static const float *key_scalars(const Arguments &a, int view) { return a.key_inverse_norms[view]; }

  __device__ static float limit(const Rows &rows, int view, int half) {
    const float inverse = rows.at(kInverseNorm + view, 0, half);
    return inverse > 0.0f ? (rows.at(kThreshold, 0, half) - kSlack) / inverse : __int_as_float(0x7fffffff);
  }

  __device__ static uint32_t screen(float score, float inverse_norm, float limit) {
    return __float_as_uint(fmaf(score, inverse_norm, -limit));
  }

  __device__ static const int8_t *query_image(const Arguments &a, int view) { return a.query_images[view].values; }
  // What the group of 64 rows of the tensor that holds `row` has, or the last group.
  __device__ static const float *key_distances(const Arguments &a, int64_t head, int view, int row) {
    const int64_t groups = image_groups(a.key_rows);
    return a.key_images[view].distances + head * groups + min(static_cast<int64_t>(row / 64), groups - 1);
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

  // Exact weights of 16 keys a piece, as the product with their values takes them. False where no thread of the warp
  // has one. Adds the survivors of this thread's rows to `counts` (of its first row), if somebody wants them, and sets
  // the bits of views that have some in `found`.
  template <int kPieces>
  __device__ static bool weigh(const float (&scores)[kViews][2 * kPieces][4], const float *key_scalars,
                               const Rows &rows, const ChunkMask &mask, const Arguments &a, int head, int *counts,
                               uint32_t &found, uint32_t (&weights)[kPieces][4]) {
    Excess<kPieces> excess;
#pragma unroll
    for (int view = 0; view < kViews; ++view) {
      const float inverse[2] = {rows.at(kInverseNorm + view, 0, 0), rows.at(kInverseNorm + view, 0, 1)};
#pragma unroll
      for (int n = 0; n < 2 * kPieces; ++n) {
        const float2 keys =
            *reinterpret_cast<const float2 *>(key_scalars + view * Shape::kKeyBlock + n / 2 * 16 + n % 2 * 2);
#pragma unroll
        for (int e = 0; e < 4; ++e)
          excess[view][n][e] =
              fmaf(scores[view][n][e] * (e % 2 == 0 ? keys.x : keys.y), inverse[e / 2], -rows.at(kThreshold, 0, e / 2));
      }
    }
    if (mask.active) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const KeyRange range = mask.columns(0, half);
#pragma unroll
        for (int n = 0; n < 2 * kPieces; ++n)
#pragma unroll
          for (int e = 0; e < 2; ++e)
            if (n * 8 + e < range.first || n * 8 + e >= range.end)
#pragma unroll
              for (int view = 0; view < kViews; ++view) excess[view][n][2 * half + e] = -1.0f;
      }
    }
    // Excesses that do not count become 0; NaN stays.
    float top = 0.0f;
#pragma unroll
    for (int n = 0; n < 2 * kPieces; ++n) {
      float largest[4];
#pragma unroll
      for (int e = 0; e < 4; ++e) {
#pragma unroll
        for (int view = 0; view < kViews; ++view) excess[view][n][e] = ptx::max_nan(excess[view][n][e], 0.0f);
        largest[e] = kViews == 2 ? ptx::max_nan(excess[0][n][e], excess[kViews - 1][n][e]) : excess[0][n][e];
      }
      top = ptx::max_nan(top, ptx::max_nan(ptx::max_nan(largest[0], largest[1]), ptx::max_nan(largest[2], largest[3])));
    }
    if (!__any_sync(0xffffffffu, !(top <= 0.0f))) return false;
    if (a.survivors[0].data != nullptr || a.survivors[1].data != nullptr || a.survivor_tiles.words.data != nullptr)
      record(excess, counts, found);
    const float lambda = kViews == 2 ? a.lambda.at(head) : 0.0f;
    if (a.power_kind == Power::kTwo)
      combine<Power::kTwo>(excess, rows, a.power, lambda, weights);
    else if (a.power_kind == Power::kOne)
      combine<Power::kOne>(excess, rows, a.power, lambda, weights);
    else if (a.power_kind == Power::kThree)
      combine<Power::kThree>(excess, rows, a.power, lambda, weights);
    else
      combine<Power::kGeneral>(excess, rows, a.power, lambda, weights);
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
  template <int kPieces>
  using Excess = float[kViews][2 * kPieces][4];

  // Pieces with survivors are few, so counts live in shared memory. Integer sums have no order.
  template <int kTiles>
  __device__ static void record(const float (&excess)[kViews][kTiles][4], int *counts, uint32_t &found) {
#pragma unroll
    for (int view = 0; view < kViews; ++view) {
      bool any = false;
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        int count = 0;
#pragma unroll
        for (int i = 0; i < 2 * kTiles; ++i) {
          const float e = excess[view][i / 2][2 * half + i % 2];
          count += e > 0.0f;
          any |= !(e <= 0.0f);
        }
        if (count > 0) atomicAdd(&counts[view * Shape::kRows + 8 * half], count);
      }
      found |= static_cast<uint32_t>(__any_sync(0xffffffffu, any)) << view;
    }
  }

  template <Power kPower, int kPieces>
  __device__ static void combine(const float (&excess)[kViews][2 * kPieces][4], const Rows &rows, float power,
                                 float lambda, uint32_t (&weights)[kPieces][4]) {
#pragma unroll
    for (int i = 0; i < 4 * kPieces; ++i) {
      float weight[2];
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        const int n = i / 2, e = 2 * (i % 2) + j;
        weight[j] = exceedance_power<kPower>(excess[0][n][e], power);
        if constexpr (kViews == 2)
          weight[j] = fmaf(-lambda, exceedance_power<kPower>(excess[1][n][e], power), weight[j]);
        if constexpr (kScaled) weight[j] *= rows.at(kWeightScale, 0, e / 2);
      }
      weights[i / 4][i % 4] = ptx::cvt_x2<typename Shape::Element>(weight[0], weight[1]);
    }
  }
};

}  // namespace sieve::threshold_differential
