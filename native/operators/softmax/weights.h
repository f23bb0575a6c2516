// Softmax attention as a policy of the forward pipelines: a running maximum and sum for each row.
//
//   m' = max(m, max_j s_j),   w_j = exp2(c (s_j - m')),   l' = l exp2(c (m - m')) + sum_j w_j,   c = scale / ln 2
//
// The output so far is multiplied by exp2(c (m - m')) before the next products are added. m' stays m while the maximum
// is less than kSlack / c above it: weights are at most 2^kSlack then, which fp16 holds as well, and after a few blocks
// the output is hardly ever rescaled. A row factor, which may be negative, multiplies the scores first.
#pragma once

#include "device/row_factor.h"
#include "device/rows.h"
#include "device/warp_product.h"

namespace sieve::softmax {

struct WeightArguments {
  float scale_log2;  // scale of the scores / ln 2, > 0
  TensorView lse;    // float; data = nullptr: not wanted
  bool row_factor;   // the problem has one
};

template <class ShapeType>
struct Weights {
  using Shape = ShapeType;
  using Arguments = WeightArguments;
  static constexpr float kSlack = 8.0f;
  using Scores = Accumulators<Shape::kRowTiles, Shape::kKeyChunk>;
  using Rows = RowScalars<Shape::kRows>;

  struct State {
    float top[Shape::kRowTiles][2];
    float total[Shape::kRowTiles][2];  // of this thread's columns
    float factor[Shape::kRowTiles][2];
    bool rescales;  // some row of the warp has a factor other than 1
  };

  __device__ static const float *key_scalars(const Arguments &, const ProblemView &, int, int, int) { return nullptr; }

  __device__ static bool uses_row_scalars(const Arguments &a) { return a.row_factor; }

  __device__ static void begin_row(const Arguments &, const ProblemView &problem, const Sequence &sequence, int head,
                                   int row, float (&scalars)[1]) {
    scalars[0] = row < sequence.queries ? row_factor(problem, sequence, head, row) : 0.0f;
  }

  __device__ static State begin(const Arguments &, int) {
    State state;
    state.rescales = false;
#pragma unroll
    for (int m = 0; m < Shape::kRowTiles; ++m)
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        state.top[m][half] = -__builtin_huge_valf();
        state.total[m][half] = 0.0f;
        state.factor[m][half] = 1.0f;
      }
    return state;
  }

  template <class Place>
  __device__ static bool weigh(State &state, Scores (&scores)[Shape::kViews], const Rows &rows, const ThreadRows &,
                               const float *, const ChunkMask &mask, const Arguments &a, const Place &) {
    if (a.row_factor) {
#pragma unroll
      for (int m = 0; m < Shape::kRowTiles; ++m)
#pragma unroll
        for (int n = 0; n < Shape::kKeyChunk / 8; ++n)
#pragma unroll
          for (int e = 0; e < 4; ++e) scores[0][m][n][e] *= rows.at(0, m, e / 2);
    }
    mask.apply(scores);
    bool changed = false;
#pragma unroll
    for (int m = 0; m < Shape::kRowTiles; ++m) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        float top = -__builtin_huge_valf();
#pragma unroll
        for (int n = 0; n < Shape::kKeyChunk / 8; ++n)
          top = fmaxf(top, fmaxf(scores[0][m][n][2 * half], scores[0][m][n][2 * half + 1]));
        top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 1));
        top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 2));
        const bool moves = fmaf(top - state.top[m][half], a.scale_log2, -kSlack) > 0.0f;
        if (!moves) top = state.top[m][half];
        // Before the first visible key the maximum is -infinity; 0 in its place keeps the weights 0 instead of NaN.
        const float shift = top == -__builtin_huge_valf() ? 0.0f : top * a.scale_log2;
        state.factor[m][half] = moves ? ptx::ex2_approx(fmaf(state.top[m][half], a.scale_log2, -shift)) : 1.0f;
        state.top[m][half] = top;
        float sum = 0.0f;
#pragma unroll
        for (int n = 0; n < Shape::kKeyChunk / 8; ++n)
#pragma unroll
          for (int e = 0; e < 2; ++e) {
            float &s = scores[0][m][n][2 * half + e];
            s = ptx::ex2_approx(fmaf(s, a.scale_log2, -shift));
            sum += s;
          }
        state.total[m][half] = fmaf(state.total[m][half], state.factor[m][half], sum);
        // The sum is asked for a NaN only to have all weights computed before the vote, which the compiler does not
        // move: else it leaves a part of them for the time after the product that they should run beside.
        changed |= moves || !(state.total[m][half] == state.total[m][half]);
      }
    }
    state.rescales = __any_sync(0xffffffffu, changed);
    return true;
  }

  template <int kTiles>
  __device__ static void rescale(const State &state, float (&output)[Shape::kRowTiles][kTiles][4]) {
    if (!state.rescales) return;
#pragma unroll
    for (int m = 0; m < Shape::kRowTiles; ++m)
#pragma unroll
      for (int n = 0; n < kTiles; ++n)
#pragma unroll
        for (int e = 0; e < 4; ++e) output[m][n][e] *= state.factor[m][e / 2];
  }

  // 1 / sum of the row's weights, 0 for a row without a visible key; writes the log-sum-exp.
  __device__ static float finish(const State &state, const Rows &, const Arguments &a, const BlockPlace &place,
                                 const Sequence &sequence, int row, int m, int half) {
    const float sum = row_sum(state.total[m][half]);
    if (a.lse.data != nullptr && row < sequence.queries && (lane_index() & 3) == 0) {
      constexpr float kLn2 = 0.693147181f;
      *static_cast<float *>(
          a.lse.row(sequence.batch, place.head, static_cast<int64_t>(sequence.query_start) + row, 4)) =
          sum == 0.0f ? -__builtin_huge_valf() : fmaf(state.top[m][half] * a.scale_log2, kLn2, logf(sum));
    }
    return sum == 0.0f ? 0.0f : 1.0f / sum;
  }
};

}  // namespace sieve::softmax
