// What forward, backward and decode of differential attention check and plan alike, in both versions.
#pragma once

#include "abi/call.h"
#include "operators/differential/problem.h"

namespace sieve::differential {

// The inputs of any call: two streams over one value (first version), or one whose heads lie in groups.
struct Inputs {
  int32_t operation;
  const char *name;
  int32_t streams;
  NamedTensor query[2], key[2];
  NamedTensor value;
  const sieve_scalar *lambda;  // first version
  const sieve_tensor *logits;  // second version
  int32_t signals;             // 0: first version

  int32_t dtype() const { return query[0].tensor->dtype; }
};

template <class Arguments>
Inputs inputs_of(const Arguments &a) {
  if constexpr (requires { a.query1; })
    return {SIEVE_OPERATION_DIFF,
            "diff",
            2,
            {{"query1", &a.query1}, {"query2", &a.query2}},
            {{"key1", &a.key1}, {"key2", &a.key2}},
            {"value", &a.value},
            &a.lambda,
            nullptr,
            0};
  else
    return {
        SIEVE_OPERATION_DIFF_V2, "diff_v2", 1, {{"query", &a.query}}, {{"key", &a.key}}, {"value", &a.value}, nullptr,
        &a.lambda_logit,         a.signals};
}

// What a call is about: the streams' dimensions, those of the output, and the problem with its epilogue taken out.
struct Call {
  Dimensions streams, output;
  ProblemView problem;
  EpilogueView epilogue;
  Subtraction subtraction;
  float scale;
};

// The second stream, like the first.
void require_second_stream(const Inputs &inputs);

// The problem and the subtraction, for streams of these dimensions.
Call require_call(const sieve_attention_problem &problem, const Inputs &inputs, const Dimensions &streams);

// Tensors, masks and scale of stream `index`.
void plan_stream(const sieve_context &context, const Inputs &inputs, const Call &call, int index, softmax::Plan &plan);

int32_t path_of(const sieve_attention_problem &problem, const Inputs &inputs);

// [batch, heads, rows, channels] in workspace.
template <typename T>
TensorView carve(Workspace &carved, int64_t batch, int64_t heads, int64_t rows, int64_t channels) {
  return {carved.take<T>(batch * heads * rows * channels), heads * rows * channels, rows * channels, channels};
}

// A tensor with a value for every row and channel of the streams' outputs.
void require_stream_output(const NamedTensor &output, const Inputs &inputs, const Dimensions &streams);

}  // namespace sieve::differential
