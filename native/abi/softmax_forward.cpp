// Entry points of softmax attention, forward: validate -> plan -> launch.
#include "abi/runtime.h"
#include "abi/softmax.h"

namespace sieve::softmax {

namespace {

struct ForwardCall {
  ForwardPlan plan;
  const Kernel<ForwardPlan> *kernel;
  uint64_t workspace_bytes;
};

// Everything that can be wrong is found here; `workspace` may be null when only the size is asked for.
ForwardCall plan_forward(const sieve_context *context, const sieve_attention_problem *problem,
                         const sieve_softmax_forward_arguments *arguments, void *workspace) {
  const sieve_context &c = checked_context(context);
  const sieve_attention_problem p = versioned_copy("problem", problem);
  const sieve_softmax_forward_arguments a = versioned_copy("arguments", arguments);
  require_zero("arguments.reserved", a.reserved);
  Dimensions d = require_query_and_key({"query", &a.query}, {"key", &a.key});
  require_value({"value", &a.value}, {"key", &a.key}, d);
  ForwardCall call{};
  call.plan.problem = require_problem(p, d, d.query_heads);
  plan_scores(p, d, call.plan);
  plan_tensors(c, a.query, a.key, a.value, d, call.plan);
  plan_outputs(a.output, a.lse, a.query.dtype, d, call.plan);
  require_block_count(call.plan.problem);
  const int32_t path = path_of(p, {{"query", &a.query}, {"key", &a.key}, {"value", &a.value}});
  call.kernel =
      choose_kernel(forward_kernels(), c, SIEVE_OPERATION_SOFTMAX, SIEVE_DIRECTION_FORWARD, path, a.query.dtype, d);
  Workspace carved(workspace);
  if (call.kernel->description.path == SIEVE_PATH_HOPPER) call.plan.next_tile = carved.take<int32_t>(1);
  call.workspace_bytes = carved.bytes();
  return call;
}

}  // namespace
}  // namespace sieve::softmax

extern "C" {

int32_t sieve_softmax_forward_workspace(const sieve_context *context, const sieve_attention_problem *problem,
                                        const sieve_softmax_forward_arguments *arguments, uint64_t *bytes) {
  return sieve::guarded(__func__, [&] {
    const auto call = sieve::softmax::plan_forward(context, problem, arguments, nullptr);
    sieve::require_pointer("bytes", bytes);
    *bytes = call.workspace_bytes;
  });
}

int32_t sieve_softmax_forward(const sieve_context *context, const sieve_attention_problem *problem,
                              const sieve_softmax_forward_arguments *arguments, void *workspace,
                              uint64_t workspace_bytes, void *stream) {
  return sieve::guarded(__func__, [&] {
    const auto call = sieve::softmax::plan_forward(context, problem, arguments, workspace);
    sieve::require_workspace(workspace, workspace_bytes, call.workspace_bytes);
    const sieve::runtime::DeviceScope scope(context->device);
    sieve::runtime::check_launch(call.kernel->launch(call.plan, stream), "launching softmax forward");
    sieve::log_launch(*context, "softmax forward", call.plan.problem, call.kernel->description);
  });
}

}  // extern "C"
