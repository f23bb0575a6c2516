// Differential attention as a policy of the Hopper forward: two softmax maps over the same values, one consumer each.
//
//   stream 0: O_1 = softmax(scale q_1 k_1^T) v        stream 1: O_2 = softmax(scale q_2 k_2^T) v
//   output = epilogue(O_1 - subtracted * O_2)
//
// V1: two query and two key tensors of the same heads, subtracted = lambda of the head. V2 and grouped: the streams are
// heads of one query tensor, in groups of `signals` signals and one noise head, over the same keys; subtracted =
// sigmoid(lambda_logit) of the row. A noise head is computed beside each of its signals.
#pragma once

#include "device/epilogue.h"
#include "operators/differential/problem.h"
#include "operators/softmax/weights.h"

namespace sieve::differential {

struct StreamArguments {
  float scale_log2;  // scale of the scores / ln 2, > 0
  Subtraction subtraction;
  TensorView lse[2];      // float; data = nullptr: not wanted. V2: twice that of all query heads
  TensorView outputs[2];  // O_1, O_2; data = nullptr: not wanted. V2: twice that of all query heads
  OutputType outputs_type;
};

template <class ShapeType>
struct StreamWeights : softmax::Weights<ShapeType> {
  using Base = softmax::Weights<ShapeType>;
  using Shape = ShapeType;
  using Arguments = StreamArguments;
  using State = typename Base::State;
  using Scores = typename Base::Scores;
  using Rows = typename Base::Rows;

  __device__ static bool uses_row_scalars(const Arguments &) { return false; }
  __device__ static void begin_row(const Arguments &, const ProblemView &, const Sequence &, int, int, float (&)[1]) {}
  __device__ static State begin(const Arguments &, int) { return Base::begin({}, 0); }

  template <class Place>
  __device__ static bool weigh(State &state, Scores (&scores)[Shape::kViews], const Rows &rows,
                               const ThreadRows &thread_rows, const float *key_scalars, const ChunkMask &mask,
                               const Arguments &a, const Place &place) {
    return Base::weigh(state, scores, rows, thread_rows, key_scalars, mask,
                       softmax::WeightArguments{a.scale_log2, {}, false}, place);
  }

  // Head of the query tensor in which a stream of an output head lies.
  __device__ static int query_head(const Arguments &a, int head, int stream) {
    const int signals = a.subtraction.signals;
    if (signals == 0) return head;
    const int group = head / signals;
    return group * (signals + 1) + (stream == 0 ? head - group * signals : signals);
  }

  // Of a noise head, only the tile beside its first signal writes results.
  __device__ static bool writes(const Arguments &a, int head, int stream) {
    return a.subtraction.signals <= 1 || stream == 0 || head % a.subtraction.signals == 0;
  }

  // 1 / sum of the row's weights, 0 for a row without a visible key; writes the log-sum-exp.
  __device__ static float finish_stream(const State &state, int stream, const Arguments &a, const BlockPlace &place,
                                        const Sequence &sequence, int row, int half) {
    const float sum = row_sum(state.total[0][half]);
    const TensorView &lse = a.lse[stream];
    if (lse.data != nullptr && row < sequence.queries && (lane_index() & 3) == 0 && writes(a, place.head, stream)) {
      constexpr float kLn2 = 0.693147181f;
      *static_cast<float *>(lse.row(sequence.batch, query_head(a, place.head, stream),
                                    static_cast<int64_t>(sequence.query_start) + row, 4)) =
          sum == 0.0f ? -__builtin_huge_valf() : fmaf(state.top[0][half] * a.scale_log2, kLn2, logf(sum));
    }
    return sum == 0.0f ? 0.0f : 1.0f / sum;
  }

  // The stream's own output, where backward will want it.
  template <typename Element, int kChannels>
  __device__ static void store_stream(const float (&output)[kChannels / 8][4], int half, float factor, int stream,
                                      const Arguments &a, const BlockPlace &place, const Sequence &sequence, int row,
                                      int channels) {
    if (a.outputs[stream].data == nullptr || !writes(a, place.head, stream)) return;
    store_scaled_row<Element, kChannels>(output, half, factor, EpilogueView{}, a.outputs[stream], a.outputs_type,
                                         channels, sequence.batch, query_head(a, place.head, stream),
                                         sequence.query_start + row, row < sequence.queries);
  }

  // Factor of the second stream.
  __device__ static float subtracted(const Arguments &a, const BlockPlace &place, const Sequence &sequence, int row) {
    if (a.subtraction.signals == 0) return a.subtraction.lambda.at(place.head);
    if (row >= sequence.queries) return 0.0f;
    const float logit = *static_cast<const float *>(
        a.subtraction.logits.row(sequence.batch, place.head, static_cast<int64_t>(sequence.query_start) + row, 4));
    return 1.0f / (1.0f + expf(-logit));
  }
};

}  // namespace sieve::differential
