// Threshold differential attention as a policy of the forward pipelines: scores -> weights, no state carried over keys.
//
//   x_t = (q_t . k_t) rk_t[j]             raw product times the key's inverse norm
//   e_t = x_t rq_t[i] - tau_i             exceedance of the cosine, one fused multiply-add
//   w   = (e_1)_+^p - lambda (e_2)_+^p
//
// The test for survivors takes the row's largest x_t through the same multiply-add: rounding is monotone, so it finds a
// survivor exactly when one of the elements is one. NaN scores count as survivors of the test and make the row NaN.
#pragma once

#include "device/element.h"
#include "device/rows.h"
#include "device/warp_product.h"
#include "operators/threshold_differential/survivors.h"
#include "operators/threshold_differential/threshold.h"

namespace sieve::threshold_differential {

// Powers that need no logarithm.
enum class Power : int32_t { kOne = 1, kTwo = 2, kThree = 3, kGeneral = 0 };

struct WeightArguments {
  ScalarView beta;
  ScalarView lambda;
  float kappa;
  float power;
  Power power_kind;
  int32_t head_dim;
  const float *query_inverse_norms[2];  // [batch, query heads, rows]
  const float *key_inverse_norms[2];    // [batch, key heads, rows]
  int64_t query_rows;                   // of the query tensor
  int64_t key_rows;
  TensorView survivors[2];  // int32, data = nullptr: not wanted
  SurvivorTiles survivor_tiles;
};

template <Power kPower>
__device__ inline float exceedance_power(float e, float power) {
  if constexpr (kPower == Power::kOne) return e;
  if constexpr (kPower == Power::kTwo) return e * e;
  if constexpr (kPower == Power::kThree) return e * e * e;
  return e > 0.0f ? ptx::ex2_approx(power * ptx::lg2_approx(e)) : e;  // 0 and NaN stay what they are
}

// Rounding a weight to fp16 would lose small exceedances, so the row is scaled by a power of two that keeps its largest
// possible weight, (1 - tau)^p (1 + |lambda|), below 2^14. bf16 has the exponents of fp32 and needs none.
__device__ inline float weight_scale(const WeightArguments &a, float threshold, float lambda) {
  const float top = 1.0001f - threshold;
  if (!(top > 0.0f)) return 1.0f;
  const float bound = a.power * log2f(top) + log2f(1.0f + fabsf(lambda));
  return exp2f(fminf(fmaxf(floorf(14.0f - bound), -100.0f), 100.0f));
}

// Adds what the four lanes of a row have counted.
__device__ inline void add_survivors(const WeightArguments &a, int view, const Sequence &sequence, int head, int row,
                                     int count) {
  if (a.survivors[view].data == nullptr) return;
  count = row_sum(count);
  if (count > 0 && (lane_index() & 3) == 0)
    atomicAdd(static_cast<int32_t *>(
                  a.survivors[view].row(sequence.batch, head, sequence.query_start + row, sizeof(int32_t))),
              count);
}

// What both forward paths keep of a row, and where keys have their floats.
template <class Shape>
struct RowNumbers {
  static constexpr bool kScaled = kNarrowExponent<typename Shape::Element>;
  enum RowScalar { kThreshold = 0, kInverseNorm = 1, kWeightScale = 1 + Shape::kViews };

  __device__ static const float *key_scalars(const WeightArguments &a, const ProblemView &problem, int view, int batch,
                                             int key_head) {
    return a.key_inverse_norms[view] +
           (static_cast<int64_t>(batch) * (problem.query_heads / problem.group) + key_head) * a.key_rows;
  }
  __device__ static int64_t query_index(const WeightArguments &a, const ProblemView &problem, const Sequence &sequence,
                                        int head, int row) {
    return (static_cast<int64_t>(sequence.batch) * problem.query_heads + head) * a.query_rows + sequence.query_start +
           row;
  }

  // Runs on one thread for every row of the block, and clears the results that survivors are counted in.
  __device__ static void begin_row(const WeightArguments &a, const ProblemView &problem, const Sequence &sequence,
                                   int head, int row, float (&scalars)[Shape::kRowScalars]) {
    const bool inside = row < sequence.queries;
    const KeyRange range = sequence.visible(problem, row);
    // Rows outside have no survivor whatever their (zero) scores are compared with.
    scalars[kThreshold] =
        inside ? threshold(a.beta.at(head), a.kappa, range.end - range.first, a.head_dim) : __int_as_float(0x7f800000);
    if constexpr (kScaled) scalars[kWeightScale] = weight_scale(a, scalars[kThreshold], a.lambda.at(head));
    const int64_t index = query_index(a, problem, sequence, head, row);
    if (inside && row % kSurvivorTile == 0 && a.survivor_tiles.words.data != nullptr)
      a.survivor_tiles.clear(problem, sequence, head, row / kSurvivorTile);
#pragma unroll
    for (int view = 0; view < Shape::kViews; ++view) {
      scalars[kInverseNorm + view] = inside ? a.query_inverse_norms[view][index] : 1.0f;
      if (inside && a.survivors[view].data != nullptr)
        *static_cast<int32_t *>(
            a.survivors[view].row(sequence.batch, head, sequence.query_start + row, sizeof(int32_t))) = 0;
    }
  }
};

template <class ShapeType>
struct Weights : RowNumbers<ShapeType> {
  using Shape = ShapeType;
  using Arguments = WeightArguments;
  using Scores = Accumulators<Shape::kRowTiles, Shape::kKeyChunk>;
  using Numbers = RowNumbers<Shape>;
  using Numbers::kInverseNorm;
  using Numbers::kScaled;
  using Numbers::kThreshold;
  using Numbers::kWeightScale;

  struct State {};  // nothing is carried from key to key
  using Rows = RowScalars<Shape::kRows>;

  __device__ static bool uses_row_scalars(const Arguments &) { return true; }

  __device__ static State begin(const Arguments &, int) { return {}; }

  template <class Place>
  __device__ static bool weigh(State &, Scores (&scores)[Shape::kViews], const Rows &rows,
                               const ThreadRows &thread_rows, const float *key_scalars, const ChunkMask &mask,
                               const Arguments &a, const Place &place) {
    constexpr float kMasked = -__builtin_huge_valf();
#pragma unroll
    for (int view = 0; view < Shape::kViews; ++view) {
#pragma unroll
      for (int n = 0; n < Shape::kKeyChunk / 8; ++n) {
        const float2 inverse = *reinterpret_cast<const float2 *>(key_scalars + view * Shape::kKeyBlock + n * 8);
#pragma unroll
        for (int m = 0; m < Shape::kRowTiles; ++m) {
          scores[view][m][n][0] *= inverse.x;
          scores[view][m][n][1] *= inverse.y;
          scores[view][m][n][2] *= inverse.x;
          scores[view][m][n][3] *= inverse.y;
        }
      }
    }
    mask.apply(scores);

    bool any = false;
#pragma unroll
    for (int view = 0; view < Shape::kViews; ++view) {
#pragma unroll
      for (int m = 0; m < Shape::kRowTiles; ++m) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          float top = kMasked;
#pragma unroll
          for (int n = 0; n < Shape::kKeyChunk / 8; ++n)
            top = ptx::max_nan(top, ptx::max_nan(scores[view][m][n][2 * half], scores[view][m][n][2 * half + 1]));
          any |= !(fmaf(top, rows.at(kInverseNorm + view, m, half), -rows.at(kThreshold, m, half)) <= 0.0f);
        }
      }
    }
    if (!__any_sync(0xffffffffu, any)) return false;

    if (a.survivors[0].data != nullptr || a.survivors[1].data != nullptr || a.survivor_tiles.words.data != nullptr)
      count_survivors(scores, rows, thread_rows, mask.key, mask.problem, a, place.get());
    const float lambda = a.lambda.at(place.get().head);
    switch (a.power_kind) {
      case Power::kOne:
        weigh_survivors<Power::kOne>(scores, rows, a, lambda);
        break;
      case Power::kTwo:
        weigh_survivors<Power::kTwo>(scores, rows, a, lambda);
        break;
      case Power::kThree:
        weigh_survivors<Power::kThree>(scores, rows, a, lambda);
        break;
      case Power::kGeneral:
        weigh_survivors<Power::kGeneral>(scores, rows, a, lambda);
        break;
    }
    return true;
  }

  // Undoes weight_scale.
  __device__ static float finish(const State &, const Rows &rows, const Arguments &, const BlockPlace &,
                                 const Sequence &, int, int m, int half) {
    return kScaled ? 1.0f / rows.at(kWeightScale, m, half) : 1.0f;
  }

  // Weights are final at once.
  template <typename Output>
  __device__ static void rescale(const State &, Output &) {}

 private:
  __device__ static float exceedance(const Rows &rows, const Scores (&scores)[Shape::kViews], int view, int m, int n,
                                     int element) {
    return fmaf(scores[view][m][n][element], rows.at(kInverseNorm + view, m, element / 2),
                -rows.at(kThreshold, m, element / 2));
  }

  // Chunks with survivors are few, so the counts live in the output tensor, not in registers. Integer sums have no
  // order.
  __device__ static void count_survivors(const Scores (&scores)[Shape::kViews], const Rows &rows,
                                         const ThreadRows &thread_rows, int key, const ProblemView &problem,
                                         const Arguments &a, const BlockPlace &place) {
    const Sequence sequence = Sequence::at(problem, place.sequence);
#pragma unroll
    for (int view = 0; view < Shape::kViews; ++view) {
      bool any = false;
#pragma unroll
      for (int m = 0; m < Shape::kRowTiles; ++m) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          int count = 0;
#pragma unroll
          for (int n = 0; n < Shape::kKeyChunk / 8; ++n)
#pragma unroll
            for (int e = 0; e < 2; ++e) {
              const float excess = exceedance(rows, scores, view, m, n, 2 * half + e);
              count += excess > 0.0f;
              any |= !(excess <= 0.0f);
            }
          add_survivors(a, view, sequence, place.head, thread_rows.row(m, half), count);
        }
      }
      if (a.survivor_tiles.words.data != nullptr && __any_sync(0xffffffffu, any) && lane_index() == 0)
        a.survivor_tiles.add(problem, sequence, place.head, thread_rows.first / kSurvivorTile, key / kSurvivorTile,
                             1 << view);
    }
  }

  // Replaces the scores of view 0 by the weights of both views.
  template <Power kPower>
  __device__ static void weigh_survivors(Scores (&scores)[Shape::kViews], const Rows &rows, const Arguments &a,
                                         float lambda) {
#pragma unroll
    for (int m = 0; m < Shape::kRowTiles; ++m) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const float scale = kScaled ? rows.at(kWeightScale, m, half) : 1.0f;
#pragma unroll
        for (int n = 0; n < Shape::kKeyChunk / 8; ++n) {
#pragma unroll
          for (int e = 0; e < 2; ++e) {
            const int element = 2 * half + e;
            float weight =
                exceedance_power<kPower>(ptx::max_nan(exceedance(rows, scores, 0, m, n, element), 0.0f), a.power);
            if constexpr (Shape::kViews == 2)
              weight = fmaf(
                  -lambda,
                  exceedance_power<kPower>(ptx::max_nan(exceedance(rows, scores, 1, m, n, element), 0.0f), a.power),
                  weight);
            scores[0][m][n][element] = kScaled ? weight * scale : weight;
          }
        }
      }
    }
  }
};

}  // namespace sieve::threshold_differential
