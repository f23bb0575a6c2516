// Entry points of differential attention, backward, both versions: validate -> plan -> launch.
#include "abi/differential.h"
#include "abi/runtime.h"
#include "abi/softmax.h"

namespace sieve::differential {

namespace {

struct BackwardCall {
  BackwardPlan plan;
  const Kernel<BackwardPlan, softmax::BackwardPlan> *kernel;
  uint64_t workspace_bytes;
};

[[noreturn]] void invalid(const std::string &message) {
  throw Failure(SIEVE_STATUS_INVALID_ARGUMENT, message);
}

// What forward gave and what is wanted, stream by stream.
struct StreamTensors {
  NamedTensor lse[2], output[2], query_gradient[2], key_gradient[2];
};

StreamTensors tensors_of(const sieve_diff_backward_arguments &a) {
  return {{{"lse1", &a.lse1}, {"lse2", &a.lse2}},
          {{"output1", &a.output1}, {"output2", &a.output2}},
          {{"query1_gradient", &a.query1_gradient}, {"query2_gradient", &a.query2_gradient}},
          {{"key1_gradient", &a.key1_gradient}, {"key2_gradient", &a.key2_gradient}}};
}

StreamTensors tensors_of(const sieve_diff_v2_backward_arguments &a) {
  return {{{"lse", &a.lse}},
          {{"outputs", &a.outputs}},
          {{"query_gradient", &a.query_gradient}},
          {{"key_gradient", &a.key_gradient}}};
}

void plan_stream_tensors(const StreamTensors &tensors, const Inputs &inputs, const Call &call, BackwardPlan &plan) {
  for (int i = 0; i < inputs.streams; ++i) {
    softmax::BackwardPlan &stream = plan.stream[i];
    require_row_values(tensors.lse[i], call.streams);
    require_stream_output(tensors.output[i], inputs, call.streams);
    const sieve_tensor &output = *tensors.output[i].tensor;
    if (i == 1)
      require_dtype(tensors.output[1].name, output, static_cast<sieve_dtype>(tensors.output[0].tensor->dtype));
    stream.lse = view_of(*tensors.lse[i].tensor);
    stream.output = view_of(output);
    stream.output_type = output_type_of(output);
    softmax::plan_gradient(tensors.query_gradient[i], *inputs.query[i].tensor, stream.query_gradient,
                           stream.query_gradient_type);
    softmax::plan_gradient(tensors.key_gradient[i], *inputs.key[i].tensor, stream.key_gradient,
                           stream.key_gradient_type);
  }
}

template <class Arguments>
void plan_gradients(const sieve_attention_problem &p, const Arguments &a, const Call &call, BackwardPlan &plan) {
  require_tensor("output_gradient", a.output_gradient,
                 {call.output.batch, call.output.query_heads, call.output.queries, call.output.value_dim});
  require_dtype("output_gradient", a.output_gradient, static_cast<sieve_dtype>(a.value.dtype));
  require_vector_access("output_gradient", a.output_gradient, 16);
  plan.output_gradient = view_of(a.output_gradient);
  softmax::plan_gradient({"value_gradient", &a.value_gradient}, a.value, plan.value_gradient, plan.value_gradient_type);
  softmax::plan_row_gradient({"gate_gradient", &a.gate_gradient}, p.gate.data != nullptr, "the problem has no gate",
                             call.output, plan.gate_gradient);
  if (a.gain_gradient != nullptr && p.norm != SIEVE_NORM_RMS)
    invalid("gain_gradient is given; allowed: NULL without a norm");
  plan.gain_gradient = a.gain_gradient;
  if constexpr (requires { a.lambda_gradient; }) {
    plan.lambda_gradient = a.lambda_gradient;
    plan.lambda_per_head = a.lambda.head_stride == 1;
  } else {
    softmax::plan_row_gradient({"lambda_logit_gradient", &a.lambda_logit_gradient}, true, "", call.output,
                               plan.logit_gradient);
  }
}

bool wants_pairs(const softmax::BackwardPlan &stream) {
  return stream.query_gradient.data != nullptr || stream.key_gradient.data != nullptr;
}

// What a kernel that is composed of the streams' needs, streams one after the other.
void plan_workspace(const Kernel<BackwardPlan, softmax::BackwardPlan> &kernel, const Call &call, Workspace &carved,
                    BackwardPlan &plan) {
  const Dimensions &d = call.streams;
  const int streams = plan.subtraction.streams();
  softmax::BackwardPlan rows = plan.stream[0];
  if (rows.query_gradient.data == nullptr) rows.query_gradient = plan.stream[1].query_gradient;
  softmax::plan_backward_rows(*kernel.streams, d, carved, rows);
  for (int i = 0; i < streams; ++i) {
    softmax::BackwardPlan &stream = plan.stream[i];
    stream.output_gradient = carve<uint16_t>(carved, d.batch, d.query_heads, d.queries, d.value_dim);
    stream.padded_rows = rows.padded_rows;
    stream.shifts = rows.shifts;
    stream.deltas = rows.deltas;
    stream.turns = rows.turns;
    stream.query_sums = stream.query_gradient.data != nullptr ? rows.query_sums : nullptr;
    if (plan.value_gradient.data == nullptr) continue;
    stream.value_gradient =
        streams == 1 ? plan.value_gradient : carve<float>(carved, d.batch, d.key_heads, d.keys, d.value_dim);
    stream.value_gradient_type = streams == 1 ? plan.value_gradient_type : OutputType::kFloat32;
  }
  const int64_t blocks = d.batch * d.query_heads * row_tiles(d.queries);
  if (plan.lambda_gradient != nullptr) plan.partial_lambda = carved.take<float>(blocks);
  if (plan.gain_gradient != nullptr) plan.partial_gain = carved.take<float>(blocks * d.value_dim);
}

// Everything that can be wrong is found here; `workspace` may be null when only the size is asked for.
template <class Arguments>
BackwardCall plan_backward(const sieve_context *context, const sieve_attention_problem *problem,
                           const Arguments *arguments, void *workspace) {
  const sieve_context &c = checked_context(context);
  const sieve_attention_problem p = versioned_copy("problem", problem);
  const Arguments a = versioned_copy("arguments", arguments);
  if constexpr (requires { a.reserved; }) require_zero("arguments.reserved", a.reserved);
  const Inputs inputs = inputs_of(a);
  Dimensions d = require_query_and_key(inputs.query[0], inputs.key[0]);
  require_second_stream(inputs);
  require_value(inputs.value, inputs.key[0], d);
  const Call call = require_call(p, inputs, d);
  BackwardCall result{};
  BackwardPlan &plan = result.plan;
  plan.subtraction = call.subtraction;
  plan.epilogue = call.epilogue;
  for (int i = 0; i < inputs.streams; ++i) {
    plan_stream(c, inputs, call, i, plan.stream[i]);
    plan.stream[i].bitwise = p.repeatability == SIEVE_REPEATABILITY_BITWISE;
  }
  plan_stream_tensors(tensors_of(a), inputs, call, plan);
  plan_gradients(p, a, call, plan);
  if (!wants_pairs(plan.stream[0]) && !wants_pairs(plan.stream[1]) && plan.value_gradient.data == nullptr &&
      plan.gate_gradient.data == nullptr && plan.logit_gradient.data == nullptr && plan.lambda_gradient == nullptr &&
      plan.gain_gradient == nullptr)
    invalid(format("%s and all other gradients are absent; allowed: at least one that is wanted",
                   tensors_of(a).query_gradient[0].name));
  result.kernel = choose_kernel(backward_kernels(), c, inputs.operation, SIEVE_DIRECTION_BACKWARD, path_of(p, inputs),
                                inputs.dtype(), d);
  Workspace carved(workspace);
  plan_workspace(*result.kernel, call, carved, plan);
  result.workspace_bytes = carved.bytes();
  return result;
}

template <class Arguments>
int32_t backward_workspace(const char *function, const sieve_context *context, const sieve_attention_problem *problem,
                           const Arguments *arguments, uint64_t *bytes) {
  return guarded(function, [&] {
    const BackwardCall call = plan_backward(context, problem, arguments, nullptr);
    require_pointer("bytes", bytes);
    *bytes = call.workspace_bytes;
  });
}

template <class Arguments>
int32_t backward(const char *function, const char *what, const sieve_context *context,
                 const sieve_attention_problem *problem, const Arguments *arguments, void *workspace,
                 uint64_t workspace_bytes, void *stream) {
  return guarded(function, [&] {
    const BackwardCall call = plan_backward(context, problem, arguments, workspace);
    require_workspace(workspace, workspace_bytes, call.workspace_bytes);
    const runtime::DeviceScope scope(context->device);
    runtime::check_launch(call.kernel->launch(*call.kernel, call.plan, stream), format("launching %s", what).c_str());
    log_launch(*context, what, call.plan.stream[0].problem, call.kernel->description);
  });
}

}  // namespace
}  // namespace sieve::differential

extern "C" {

int32_t sieve_diff_backward_workspace(const sieve_context *context, const sieve_attention_problem *problem,
                                      const sieve_diff_backward_arguments *arguments, uint64_t *bytes) {
  return sieve::differential::backward_workspace(__func__, context, problem, arguments, bytes);
}

int32_t sieve_diff_backward(const sieve_context *context, const sieve_attention_problem *problem,
                            const sieve_diff_backward_arguments *arguments, void *workspace, uint64_t workspace_bytes,
                            void *stream) {
  return sieve::differential::backward(__func__, "diff backward", context, problem, arguments, workspace,
                                       workspace_bytes, stream);
}

int32_t sieve_diff_v2_backward_workspace(const sieve_context *context, const sieve_attention_problem *problem,
                                         const sieve_diff_v2_backward_arguments *arguments, uint64_t *bytes) {
  return sieve::differential::backward_workspace(__func__, context, problem, arguments, bytes);
}

int32_t sieve_diff_v2_backward(const sieve_context *context, const sieve_attention_problem *problem,
                               const sieve_diff_v2_backward_arguments *arguments, void *workspace,
                               uint64_t workspace_bytes, void *stream) {
  return sieve::differential::backward(__func__, "diff_v2 backward", context, problem, arguments, workspace,
                                       workspace_bytes, stream);
}

}  // extern "C"
