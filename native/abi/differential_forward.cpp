// Entry points of differential attention, forward, both versions: validate -> plan -> launch.
#include "abi/differential.h"
#include "abi/runtime.h"
#include "abi/softmax.h"

namespace sieve::differential {

namespace {

struct ForwardCall {
  ForwardPlan plan;
  const Kernel<ForwardPlan, softmax::ForwardPlan> *kernel;
  bool whole;  // in one launch
  uint64_t workspace_bytes;
};

// The results of the streams: their tensors may be absent.
struct StreamResults {
  NamedTensor lse[2], output[2];
};

StreamResults results_of(const sieve_diff_forward_arguments &a) {
  return {{{"lse1", &a.lse1}, {"lse2", &a.lse2}}, {{"output1", &a.output1}, {"output2", &a.output2}}};
}

StreamResults results_of(const sieve_diff_v2_forward_arguments &a) {
  return {{{"lse", &a.lse}}, {{"outputs", &a.outputs}}};
}

void plan_results(const StreamResults &results, const Inputs &inputs, const Call &call, ForwardPlan &plan) {
  for (int i = 0; i < inputs.streams; ++i) {
    const sieve_tensor &lse = *results.lse[i].tensor, &output = *results.output[i].tensor;
    if (lse.data != nullptr) {
      require_row_values(results.lse[i], call.streams);
      require_positive_strides(results.lse[i], "it is written");
      plan.stream[i].lse = view_of(lse);
    }
    if (i == 1 && (output.data == nullptr) != (plan.stream[0].output.data == nullptr))
      throw Failure(SIEVE_STATUS_INVALID_ARGUMENT,
                    format("%s.data is %s; allowed: absent exactly where %s is", results.output[1].name,
                           output.data == nullptr ? "NULL" : "given", results.output[0].name));
    plan.stream[i].output_type = OutputType::kFloat32;
    if (output.data == nullptr) continue;
    require_stream_output(results.output[i], inputs, call.streams);
    require_positive_strides(results.output[i], "it is written");
    if (i == 1)
      require_dtype(results.output[1].name, output, static_cast<sieve_dtype>(results.output[0].tensor->dtype));
    plan.stream[i].output = view_of(output);
    plan.stream[i].output_type = output_type_of(output);
  }
}

// Everything that can be wrong is found here; `workspace` may be null when only the size is asked for.
template <class Arguments>
ForwardCall plan_forward(const sieve_context *context, const sieve_attention_problem *problem,
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
  require_output({"output", &a.output}, inputs.dtype(), call.output);
  ForwardCall result{};
  ForwardPlan &plan = result.plan;
  plan.subtraction = call.subtraction;
  plan.epilogue = call.epilogue;
  plan.output = view_of(a.output);
  plan.output_type = output_type_of(a.output);
  for (int i = 0; i < inputs.streams; ++i) plan_stream(c, inputs, call, i, plan.stream[i]);
  plan_results(results_of(a), inputs, call, plan);
  result.kernel = choose_kernel(forward_kernels(), c, inputs.operation, SIEVE_DIRECTION_FORWARD, path_of(p, inputs),
                                inputs.dtype(), d);
  result.whole = result.kernel->whole != nullptr && serves_whole(plan.subtraction, plan.stream[0].problem.group);
  Workspace carved(workspace);
  int32_t *next_tile = result.kernel->description.path == SIEVE_PATH_HOPPER ? carved.take<int32_t>(1) : nullptr;
  for (int i = 0; i < inputs.streams; ++i) {
    plan.stream[i].next_tile = next_tile;  // one launch after the other
    if (!result.whole && plan.stream[i].output.data == nullptr)
      plan.stream[i].output = carve<float>(carved, d.batch, d.query_heads, d.queries, d.value_dim);
  }
  result.workspace_bytes = carved.bytes();
  return result;
}

template <class Arguments>
int32_t forward_workspace(const char *function, const sieve_context *context, const sieve_attention_problem *problem,
                          const Arguments *arguments, uint64_t *bytes) {
  return guarded(function, [&] {
    const ForwardCall call = plan_forward(context, problem, arguments, nullptr);
    require_pointer("bytes", bytes);
    *bytes = call.workspace_bytes;
  });
}

template <class Arguments>
int32_t forward(const char *function, const char *what, const sieve_context *context,
                const sieve_attention_problem *problem, const Arguments *arguments, void *workspace,
                uint64_t workspace_bytes, void *stream) {
  return guarded(function, [&] {
    const ForwardCall call = plan_forward(context, problem, arguments, workspace);
    require_workspace(workspace, workspace_bytes, call.workspace_bytes);
    const runtime::DeviceScope scope(context->device);
    const int error =
        call.whole ? call.kernel->whole(call.plan, stream) : call.kernel->launch(*call.kernel, call.plan, stream);
    runtime::check_launch(error, format("launching %s", what).c_str());
    log_launch(*context, what, call.plan.stream[0].problem, call.kernel->description);
  });
}

}  // namespace
}  // namespace sieve::differential

extern "C" {

int32_t sieve_diff_forward_workspace(const sieve_context *context, const sieve_attention_problem *problem,
                                     const sieve_diff_forward_arguments *arguments, uint64_t *bytes) {
  return sieve::differential::forward_workspace(__func__, context, problem, arguments, bytes);
}

int32_t sieve_diff_forward(const sieve_context *context, const sieve_attention_problem *problem,
                           const sieve_diff_forward_arguments *arguments, void *workspace, uint64_t workspace_bytes,
                           void *stream) {
  return sieve::differential::forward(__func__, "diff forward", context, problem, arguments, workspace, workspace_bytes,
                                      stream);
}

int32_t sieve_diff_v2_forward_workspace(const sieve_context *context, const sieve_attention_problem *problem,
                                        const sieve_diff_v2_forward_arguments *arguments, uint64_t *bytes) {
  return sieve::differential::forward_workspace(__func__, context, problem, arguments, bytes);
}

int32_t sieve_diff_v2_forward(const sieve_context *context, const sieve_attention_problem *problem,
                              const sieve_diff_v2_forward_arguments *arguments, void *workspace,
                              uint64_t workspace_bytes, void *stream) {
  return sieve::differential::forward(__func__, "diff_v2 forward", context, problem, arguments, workspace,
                                      workspace_bytes, stream);
}

}  // extern "C"
