// Entry points of threshold differential attention, backward: validate -> plan -> launch.
#include "abi/runtime.h"
#include "abi/threshold_differential.h"
#include "operators/threshold_differential/backward_problem.h"

namespace sieve::threshold_differential {

namespace {

struct BackwardCall {
  BackwardPlan plan;
  const BackwardKernel *kernel;
  uint64_t workspace_bytes;
};

[[noreturn]] void invalid(const std::string &message) {
  throw Failure(SIEVE_STATUS_INVALID_ARGUMENT, message);
}

// A gradient like an input; absent = not wanted.
bool plan_gradient(const char *name, const sieve_tensor &gradient, const sieve_tensor &input, int32_t dtype,
                   TensorView &view, OutputType &type) {
  if (gradient.data == nullptr) return false;
  if (input.data == nullptr) require_absent(name, gradient, "a single-view call has no second view");
  require_tensor(name, gradient, input.sizes);
  if (gradient.dtype != SIEVE_DTYPE_FLOAT32) require_dtype(name, gradient, static_cast<sieve_dtype>(dtype));
  require_vector_access(name, gradient, 16);
  require_positive_strides({name, &gradient}, "it is written");
  view = view_of(gradient);
  type = output_type_of(gradient);
  return true;
}

void plan_gradients(const sieve_attention_problem &p, const sieve_tda_backward_arguments &a, const Dimensions &d,
                    BackwardPlan &plan) {
  const int32_t dtype = a.query1.dtype;
  bool any = plan_gradient("query1_gradient", a.query1_gradient, a.query1, dtype, plan.query_gradient[0],
                           plan.query_gradient_type[0]);
  any |=
      plan_gradient("key1_gradient", a.key1_gradient, a.key1, dtype, plan.key_gradient[0], plan.key_gradient_type[0]);
  any |= plan_gradient("query2_gradient", a.query2_gradient, a.query2, dtype, plan.query_gradient[1],
                       plan.query_gradient_type[1]);
  any |=
      plan_gradient("key2_gradient", a.key2_gradient, a.key2, dtype, plan.key_gradient[1], plan.key_gradient_type[1]);
  any |=
      plan_gradient("value_gradient", a.value_gradient, a.value, dtype, plan.value_gradient, plan.value_gradient_type);
  if (a.gate_gradient.data != nullptr) {
    if (p.gate.data == nullptr) require_absent("gate_gradient", a.gate_gradient, "the problem has no gate");
    require_row_values({"gate_gradient", &a.gate_gradient}, d);
    require_positive_strides({"gate_gradient", &a.gate_gradient}, "it is written");
    plan.gate_gradient = view_of(a.gate_gradient);
    any = true;
  }
  if (a.norm_gain_gradient != nullptr && p.norm != SIEVE_NORM_RMS)
    invalid("norm_gain_gradient is given; allowed: NULL, the problem has no norm");
  if (a.lambda_gradient != nullptr && a.query2.data == nullptr)
    invalid("lambda_gradient is given; allowed: NULL, a single-view call has no second view");
  plan.norm_gain_gradient = a.norm_gain_gradient;
  plan.beta_gradient = a.beta_gradient;
  plan.kappa_gradient = a.kappa_gradient;
  plan.lambda_gradient = a.lambda_gradient;
  if (!any && a.norm_gain_gradient == nullptr && a.beta_gradient == nullptr && a.kappa_gradient == nullptr &&
      a.lambda_gradient == nullptr)
    invalid("query1_gradient and all other gradients are absent; allowed: at least one that is wanted");
}

// A contiguous array of rows in the workspace.
TensorView rows_of(void *data, const Dimensions &d, int64_t rows, int64_t channels) {
  return {data, d.query_heads * rows * channels, rows * channels, channels};
}

// Forward runs where the bitmap or the sums before a norm are missing; arrays of backward_problem.h.
void plan_workspace(const sieve_context &context, const sieve_attention_problem &p,
                    const sieve_tda_backward_arguments &a, const ForwardKernel &forward, const Dimensions &d,
                    Workspace &carved, BackwardPlan &plan) {
  const bool norm = plan.problem.epilogue.rms_norm;
  const bool lambda_is_zero = a.lambda.device == nullptr && a.lambda.value == 0;
  const bool runs =
      norm || plan.survivor_tiles.words.data == nullptr || (lambda_is_zero && a.lambda_gradient != nullptr);
  const ForwardLaunch launch =
      plan_launch(forward, runs ? a.screen : SIEVE_TDA_SCREEN_NONE, context, d, carved, plan.forward);
  const int64_t rows = d.batch * d.query_heads * d.queries;
  plan.forward.problem.epilogue = {};
  plan.forward.output_type = OutputType::kFloat32;
  if (runs) {
    const int64_t tile_rows = survivor_tile_rows(p, d), words = survivor_words(d);
    plan.survivor_tiles.words =
        rows_of(carved.take<int32_t>(d.batch * d.query_heads * tile_rows * words), d, tile_rows, words);
    plan.survivor_tiles.width = static_cast<int32_t>(words);
    plan.forward.survivor_tiles = plan.survivor_tiles;
    plan.run_forward = launch;
  }
  if (norm) {
    plan.forward.output = rows_of(carved.take<float>(rows * d.value_dim), d, d.queries, d.value_dim);
    plan.upstream = rows_of(carved.take<uint16_t>(rows * d.value_dim), d, d.queries, d.value_dim);
  }
  plan.thresholds = carved.take<float>(rows);
  plan.upstream_factors = carved.take<float>(rows);
  const int64_t tiles = (plan.problem.queries + kSurvivorTile - 1) / kSurvivorTile;
  const int64_t blocks = tiles * plan.problem.query_heads * plan.problem.batch;
  if (plan.norm_gain_gradient != nullptr) plan.gain_sums = carved.take<float>(blocks * kGainChannels);
  if (plan.beta_gradient != nullptr || plan.kappa_gradient != nullptr || plan.lambda_gradient != nullptr)
    plan.row_sums = carved.take<float>(blocks * kRowSums);
}

// Everything that can be wrong is found here; `workspace` may be null when only the size is asked for.
BackwardCall plan_backward(const sieve_context *context, const sieve_attention_problem *problem,
                           const sieve_tda_backward_arguments *arguments, void *workspace) {
  const sieve_context &c = checked_context(context);
  const sieve_attention_problem p = versioned_copy("problem", problem);
  const sieve_tda_backward_arguments a = versioned_copy("arguments", arguments);
  require_range("arguments.screen", a.screen, SIEVE_TDA_SCREEN_NONE, SIEVE_TDA_SCREEN_INT8);
  BackwardCall call{};
  BackwardPlan &plan = call.plan;
  const Dimensions d = require_inputs({a.query1, a.key1, a.query2, a.key2, a.value}, plan.forward);
  plan.problem = require_problem(p, d, d.query_heads);
  require_no_foreign_fields(p);
  require_tensor("output_gradient", a.output_gradient, {d.batch, d.query_heads, d.queries, d.value_dim});
  require_dtype("output_gradient", a.output_gradient, static_cast<sieve_dtype>(a.query1.dtype));
  require_vector_access("output_gradient", a.output_gradient, 16);
  plan.output_gradient = view_of(a.output_gradient);
  plan.survivor_tiles = require_survivor_tiles(a.survivor_tiles, p, d);
  plan_gradients(p, a, d, plan);
  require_parameters(a.beta, a.lambda, a.kappa, a.power, plan.forward);
  require_block_count(plan.problem);

  call.kernel =
      choose_kernel(backward_kernels(), c, SIEVE_OPERATION_TDA, SIEVE_DIRECTION_BACKWARD, p.path, a.query1.dtype, d);
  const int32_t path = path_of(
      p, {{"query1", &a.query1}, {"key1", &a.key1}, {"query2", &a.query2}, {"key2", &a.key2}, {"value", &a.value}});
  const ForwardKernel *forward =
      choose_kernel(forward_kernels(), c, SIEVE_OPERATION_TDA, SIEVE_DIRECTION_FORWARD, path, a.query1.dtype, d);
  plan.forward.problem = plan.problem;
  plan.forward.views = a.query2.data != nullptr ? 2 : 1;
  Workspace carved(workspace);
  plan_workspace(c, p, a, *forward, d, carved, plan);
  call.workspace_bytes = carved.bytes();
  return call;
}

}  // namespace
}  // namespace sieve::threshold_differential

extern "C" {

int32_t sieve_tda_backward_workspace(const sieve_context *context, const sieve_attention_problem *problem,
                                     const sieve_tda_backward_arguments *arguments, uint64_t *bytes) {
  return sieve::guarded(__func__, [&] {
    const auto call = sieve::threshold_differential::plan_backward(context, problem, arguments, nullptr);
    sieve::require_pointer("bytes", bytes);
    *bytes = call.workspace_bytes;
  });
}

int32_t sieve_tda_backward(const sieve_context *context, const sieve_attention_problem *problem,
                           const sieve_tda_backward_arguments *arguments, void *workspace, uint64_t workspace_bytes,
                           void *stream) {
  return sieve::guarded(__func__, [&] {
    const auto call = sieve::threshold_differential::plan_backward(context, problem, arguments, workspace);
    sieve::require_workspace(workspace, workspace_bytes, call.workspace_bytes);
    const sieve::runtime::DeviceScope scope(context->device);
    const int views = call.plan.forward.views;
    sieve::runtime::check_launch(call.kernel->launch[views - 1](call.plan, stream), "launching tda backward");
    sieve::log_launch(*context, views == 2 ? "tda backward, two views" : "tda backward, one view", call.plan.problem,
                      call.kernel->description);
  });
}

}  // extern "C"
