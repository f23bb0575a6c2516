// Entry points of softmax attention, backward: validate -> plan -> launch.
#include "abi/runtime.h"
#include "abi/softmax.h"

namespace sieve::softmax {

void plan_gradient(const NamedTensor &named, const sieve_tensor &input, TensorView &view, OutputType &type) {
  const sieve_tensor &gradient = *named.tensor;
  const char *name = named.name;
  if (gradient.data == nullptr) return;
  require_tensor(name, gradient, input.sizes);
  if (gradient.dtype != SIEVE_DTYPE_FLOAT32) require_dtype(name, gradient, static_cast<sieve_dtype>(input.dtype));
  require_vector_access(name, gradient, 16);
  require_positive_strides(named, "it is written");
  view = view_of(gradient);
  type = output_type_of(gradient);
}

void plan_row_gradient(const NamedTensor &named, bool has_input, const char *why, const Dimensions &d,
                       TensorView &view) {
  const sieve_tensor &gradient = *named.tensor;
  const char *name = named.name;
  if (gradient.data == nullptr) return;
  if (!has_input) require_absent(name, gradient, why);
  require_row_values(named, d);
  require_positive_strides(named, "it is written");
  view = view_of(gradient);
}

void plan_backward_rows(const Kernel<BackwardPlan> &kernel, const Dimensions &d, Workspace &carved,
                        BackwardPlan &plan) {
  const ProblemView &problem = plan.problem;
  plan.padded_rows = problem.query_starts != nullptr
                         ? (d.queries / kPaddedRows + problem.batch) * kPaddedRows
                         : (d.queries + kPaddedRows - 1) / kPaddedRows * kPaddedRows * problem.batch;
  const int64_t rows = plan.padded_rows * problem.query_heads;
  plan.shifts = carved.take<float>(rows);
  plan.deltas = carved.take<float>(rows);
  if (problem.row_factor.kind != RowFactorKind::kNone) plan.factors = carved.take<float>(rows);
  if (plan.query_gradient.data != nullptr || plan.row_factor_gradient.data != nullptr ||
      plan.row_first_gradient != nullptr || plan.row_second_gradient != nullptr)
    plan.query_sums = carved.take<float>(rows * kernel.compiled_head_dim);
  plan.turns = carved.take<int32_t>(rows / 64 * 2);
}

namespace {

struct BackwardCall {
  BackwardPlan plan;
  const Kernel<BackwardPlan> *kernel;
  uint64_t workspace_bytes;
};

[[noreturn]] void invalid(const std::string &message) {
  throw Failure(SIEVE_STATUS_INVALID_ARGUMENT, message);
}

void require_epilogue(const sieve_attention_problem &p) {
  if (p.norm != SIEVE_NORM_NONE)
    throw Failure(SIEVE_STATUS_UNSUPPORTED,
                  format("problem.norm is %d; allowed: 0, the backward pass of softmax attention has no norm", p.norm));
}

// What the forward call gave, and the upstream gradient.
void plan_results(const sieve_softmax_backward_arguments &a, const Dimensions &d, BackwardPlan &plan) {
  const auto type = static_cast<sieve_dtype>(a.query.dtype);
  require_tensor("output", a.output, {d.batch, d.query_heads, d.queries, d.value_dim});
  if (a.output.dtype != SIEVE_DTYPE_FLOAT32) require_dtype("output", a.output, type);
  require_vector_access("output", a.output, 16);
  require_row_values({"lse", &a.lse}, d);
  require_tensor("output_gradient", a.output_gradient, {d.batch, d.query_heads, d.queries, d.value_dim});
  require_dtype("output_gradient", a.output_gradient, type);
  require_vector_access("output_gradient", a.output_gradient, 16);
  plan.output = view_of(a.output);
  plan.output_type = output_type_of(a.output);
  plan.lse = view_of(a.lse);
  plan.output_gradient = view_of(a.output_gradient);
}

void plan_gradients(const sieve_attention_problem &p, const sieve_softmax_backward_arguments &a, const Dimensions &d,
                    BackwardPlan &plan) {
  plan_gradient({"query_gradient", &a.query_gradient}, a.query, plan.query_gradient, plan.query_gradient_type);
  plan_gradient({"key_gradient", &a.key_gradient}, a.key, plan.key_gradient, plan.key_gradient_type);
  plan_gradient({"value_gradient", &a.value_gradient}, a.value, plan.value_gradient, plan.value_gradient_type);
  plan_row_gradient({"row_factor_gradient", &a.row_factor_gradient}, p.row_factor != SIEVE_ROW_FACTOR_NONE,
                    "the problem has no row factor", d, plan.row_factor_gradient);
  plan_row_gradient({"gate_gradient", &a.gate_gradient}, p.gate.data != nullptr, "the problem has no gate", d,
                    plan.gate_gradient);
  if (a.row_first_gradient != nullptr && p.row_factor != SIEVE_ROW_FACTOR_SSMAX &&
      p.row_factor != SIEVE_ROW_FACTOR_ASENTMAX)
    invalid("row_first_gradient is given; allowed: NULL, only the row factors ssmax and asentmax have row_first");
  if (a.row_second_gradient != nullptr && p.row_factor != SIEVE_ROW_FACTOR_ASENTMAX)
    invalid("row_second_gradient is given; allowed: NULL, only the row factor asentmax has row_second");
  plan.row_first_gradient = a.row_first_gradient;
  plan.row_second_gradient = a.row_second_gradient;
  if (a.query_gradient.data == nullptr && a.key_gradient.data == nullptr && a.value_gradient.data == nullptr &&
      a.row_factor_gradient.data == nullptr && a.gate_gradient.data == nullptr && a.row_first_gradient == nullptr &&
      a.row_second_gradient == nullptr)
    invalid("query_gradient and all other gradients are absent; allowed: at least one that is wanted");
}

// Everything that can be wrong is found here; `workspace` may be null when only the size is asked for.
BackwardCall plan_backward(const sieve_context *context, const sieve_attention_problem *problem,
                           const sieve_softmax_backward_arguments *arguments, void *workspace) {
  const sieve_context &c = checked_context(context);
  const sieve_attention_problem p = versioned_copy("problem", problem);
  const sieve_softmax_backward_arguments a = versioned_copy("arguments", arguments);
  require_zero("arguments.reserved", a.reserved);
  Dimensions d = require_query_and_key({"query", &a.query}, {"key", &a.key});
  require_value({"value", &a.value}, {"key", &a.key}, d);
  BackwardCall call{};
  BackwardPlan &plan = call.plan;
  plan.problem = require_problem(p, d, d.query_heads);
  plan_scores(p, d, plan);
  require_epilogue(p);
  plan_tensors(c, a.query, a.key, a.value, d, plan);
  plan_results(a, d, plan);
  plan_gradients(p, a, d, plan);
  plan.bitwise = p.repeatability == SIEVE_REPEATABILITY_BITWISE;
  require_block_count(plan.problem);
  const int32_t path =
      path_of(p, {{"query", &a.query}, {"key", &a.key}, {"value", &a.value}, {"output_gradient", &a.output_gradient}});
  call.kernel =
      choose_kernel(backward_kernels(), c, SIEVE_OPERATION_SOFTMAX, SIEVE_DIRECTION_BACKWARD, path, a.query.dtype, d);
  Workspace carved(workspace);
  plan_backward_rows(*call.kernel, d, carved, plan);
  call.workspace_bytes = carved.bytes();
  return call;
}

}  // namespace
}  // namespace sieve::softmax

extern "C" {

int32_t sieve_softmax_backward_workspace(const sieve_context *context, const sieve_attention_problem *problem,
                                         const sieve_softmax_backward_arguments *arguments, uint64_t *bytes) {
  return sieve::guarded(__func__, [&] {
    const auto call = sieve::softmax::plan_backward(context, problem, arguments, nullptr);
    sieve::require_pointer("bytes", bytes);
    *bytes = call.workspace_bytes;
  });
}

int32_t sieve_softmax_backward(const sieve_context *context, const sieve_attention_problem *problem,
                               const sieve_softmax_backward_arguments *arguments, void *workspace,
                               uint64_t workspace_bytes, void *stream) {
  return sieve::guarded(__func__, [&] {
    const auto call = sieve::softmax::plan_backward(context, problem, arguments, workspace);
    sieve::require_workspace(workspace, workspace_bytes, call.workspace_bytes);
    const sieve::runtime::DeviceScope scope(context->device);
    sieve::runtime::check_launch(call.kernel->launch(call.plan, stream), "launching softmax backward");
    sieve::log_launch(*context, "softmax backward", call.plan.problem, call.kernel->description);
  });
}

}  // extern "C"
