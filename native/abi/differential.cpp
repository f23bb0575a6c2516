#include "abi/differential.h"

#include "abi/softmax.h"

namespace sieve::differential {

namespace {

[[noreturn]] void invalid(const std::string &message) {
  throw Failure(SIEVE_STATUS_INVALID_ARGUMENT, message);
}

void require_like(const NamedTensor &tensor, const NamedTensor &first) {
  require_tensor(tensor.name, *tensor.tensor, first.tensor->sizes);
  require_dtype(tensor.name, *tensor.tensor, static_cast<sieve_dtype>(first.tensor->dtype));
  require_vector_access(tensor.name, *tensor.tensor, 16);
}

void require_no_row_factor(const sieve_attention_problem &p, const char *name) {
  require_range("problem.row_factor", p.row_factor, SIEVE_ROW_FACTOR_NONE, SIEVE_ROW_FACTOR_NONE);
  const auto given = [](const sieve_scalar &s) { return s.device != nullptr || s.value != 0 || s.head_stride != 0; };
  if (given(p.row_first) || given(p.row_second))
    invalid(format("problem.row_first or row_second is given; allowed: zero, %s has no row factor", name));
  require_absent("problem.row_factors", p.row_factors, format("%s has no row factor", name).c_str());
  if (p.alibi_slopes != nullptr)
    throw Failure(
        SIEVE_STATUS_UNSUPPORTED,
        format("problem.alibi_slopes is given; allowed: NULL, no CUDA kernel of %s has a distance bias", name));
}

Subtraction require_subtraction(const Inputs &inputs, const Dimensions &output) {
  Subtraction subtraction;
  subtraction.signals = inputs.signals;
  if (inputs.streams == 2) {
    subtraction.lambda = require_scalar("lambda", *inputs.lambda);
  } else {
    require_row_values({"lambda_logit", inputs.logits}, output);
    subtraction.logits = view_of(*inputs.logits);
  }
  return subtraction;
}

}  // namespace

void require_second_stream(const Inputs &inputs) {
  if (inputs.streams == 1) return;
  require_like(inputs.query[1], inputs.query[0]);
  require_like(inputs.key[1], inputs.key[0]);
}

Call require_call(const sieve_attention_problem &p, const Inputs &inputs, const Dimensions &streams) {
  Call call{};
  call.streams = call.output = streams;
  if (inputs.streams == 1) {
    require_range("signals", inputs.signals, 1, 2147483646);
    const int64_t group = static_cast<int64_t>(inputs.signals) + 1;
    if (streams.query_heads % group != 0)
      invalid(
          format("%s has %lld heads; allowed: a multiple of signals + 1 = %lld, groups of signal heads and a noise "
                 "head",
                 inputs.query[0].name, static_cast<long long>(streams.query_heads), static_cast<long long>(group)));
    call.output.query_heads = streams.query_heads / group * inputs.signals;
  }
  call.problem = require_problem(p, streams, call.output.query_heads);
  call.epilogue = call.problem.epilogue;
  call.problem.epilogue = {};
  require_no_row_factor(p, inputs.name);
  call.scale = softmax::require_scale(p, streams);
  call.subtraction = require_subtraction(inputs, call.output);
  require_block_count(call.problem);
  return call;
}

void plan_stream(const sieve_context &context, const Inputs &inputs, const Call &call, int index, softmax::Plan &plan) {
  plan.problem = call.problem;
  plan.scale = call.scale;
  softmax::plan_tensors(context, *inputs.query[index].tensor, *inputs.key[index].tensor, *inputs.value.tensor,
                        call.streams, plan);
}

int32_t path_of(const sieve_attention_problem &p, const Inputs &inputs) {
  const int last = inputs.streams - 1;
  return sieve::path_of(p, {inputs.query[0], inputs.key[0], inputs.query[last], inputs.key[last], inputs.value});
}

void require_stream_output(const NamedTensor &output, const Inputs &inputs, const Dimensions &streams) {
  require_tensor(output.name, *output.tensor, {streams.batch, streams.query_heads, streams.queries, streams.value_dim});
  if (output.tensor->dtype != SIEVE_DTYPE_FLOAT32)
    require_dtype(output.name, *output.tensor, static_cast<sieve_dtype>(inputs.dtype()));
  require_vector_access(output.name, *output.tensor, 16);
}

}  // namespace sieve::differential
