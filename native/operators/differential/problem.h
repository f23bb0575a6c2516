// Differential attention, both versions, between abi/ and its kernels: the plans of its calls, and the lists of
// kernels.
//
// Both versions are softmax attention and a subtraction of its rows. The first version has two streams, queries and
// keys of their own over one value tensor; the second has one, whose heads lie in groups of signals and a noise head. A
// composed kernel computes the streams by kernels of softmax attention; one that computes everything itself stands in
// the same lists.
#pragma once

#include "operators/softmax/problem.h"

namespace sieve::differential {

// What is subtracted from what. An output head of the first version is a head of either stream. The second version's
// output head h = g signals + s is head g (signals + 1) + s of its one stream, and the noise head g (signals + 1) +
// signals is subtracted.
struct Subtraction {
  int32_t signals = 0;  // of a noise head; 0: first version
  ScalarView lambda;    // first version: the weight of the second stream
  TensorView logits;    // second version: float [batch, output heads, rows], sigmoid(logit) is the noise's weight

  int32_t streams() const { return signals == 0 ? 2 : 1; }
  int32_t output_heads(int32_t query_heads) const {
    return signals == 0 ? query_heads : query_heads / (signals + 1) * signals;
  }
};

// What forward and decode have beside their streams. Made by abi/ from validated arguments; nothing is decided after
// it.
struct Result {
  Subtraction subtraction;
  EpilogueView epilogue;  // the streams have none
  TensorView output;      // [batch, output heads, rows, value_dim]
  OutputType output_type = OutputType::kElement;
};

// The outputs of the streams, before the subtraction, have one type. They are in the caller's tensors, or in workspace
// where the kernel is composed; else data = nullptr: not wanted.
struct ForwardPlan : Result {
  softmax::ForwardPlan stream[2];
};

// Where the two keys of a place lie side by side, k = [k_1, k_2], the first version's streams are the heads 2 h and 2 h +
// 1 of one attention with queries [q_1, 0] and [0, q_2]: `joined`, whose queries and outputs are workspace and whose
// kernel reads keys and values once for both. Then stream[i].output are views of its output.
struct DecodePlan : Result {
  softmax::DecodePlan stream[2];
  softmax::DecodePlan joined;
  const softmax::Kernel<softmax::DecodePlan> *joined_kernel = nullptr;  // null: one stream after the other
};

// With x = O_1 - w O_2 (w = lambda or sigmoid(logit)), y = epilogue(x) and dx from the epilogue's derivative:
//   dO_1 = dx,   dO_2 = -w dx, summed over the signals of a noise head,   dw = -dx . O_2
// A row without a visible key has dO_t = 0. In a composed kernel every stream's output_gradient is workspace, in the
// element type; with two streams their value gradients are workspace too, float32, and value_gradient is the sum.
struct BackwardPlan {
  Subtraction subtraction;
  EpilogueView epilogue;
  softmax::BackwardPlan stream[2];
  TensorView output_gradient;
  TensorView value_gradient;  // data = nullptr: not wanted. Like all that follows
  OutputType value_gradient_type = OutputType::kElement;
  TensorView gate_gradient;
  TensorView logit_gradient;
  float *lambda_gradient = nullptr;
  bool lambda_per_head = false;
  float *gain_gradient = nullptr;
  float *partial_lambda = nullptr;  // [batch][query heads][row tiles]
  float *partial_gain = nullptr;    // [batch][noise or query heads][row tiles][value_dim]
};

// Rows of a tile of the kernels that prepare gradients, of the tensors' rows, also with packed sequences.
constexpr int kRowTile = 128;

inline int64_t row_tiles(int64_t rows) {
  return (rows + kRowTile - 1) / kRowTile;
}

// A kernel for tensors of the described dims: the kernel of its streams, and the launch of the composition, which returns
// a cudaError_t. `whole`, where there is one, computes everything in one launch and serves what serves_whole says.
template <class PlanType, class StreamPlanType>
struct Kernel {
  KernelDescription description;
  const softmax::Kernel<StreamPlanType> *streams;
  int (*launch)(const Kernel &kernel, const PlanType &plan, void *stream);
  int (*whole)(const PlanType &plan, void *stream) = nullptr;
};

// A tile holds rows of one signal and its noise: with several signals the noise would be computed beside each of them,
// which costs more than the composition. A pair that does not share its key head has no tile.
inline bool serves_whole(const Subtraction &subtraction, int32_t group) {
  return subtraction.signals == 0 || (subtraction.signals == 1 && group % 2 == 0);
}

// The only lists of supported shapes; empty in a build without kernels.
template <class PlanType, class StreamPlanType>
struct Kernels {
  const Kernel<PlanType, StreamPlanType> *first;
  int count;
};
Kernels<ForwardPlan, softmax::ForwardPlan> forward_kernels();
Kernels<BackwardPlan, softmax::BackwardPlan> backward_kernels();
Kernels<DecodePlan, softmax::DecodePlan> decode_kernels();

}  // namespace sieve::differential
