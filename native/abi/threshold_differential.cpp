// Entry points of threshold differential attention, forward: validate -> plan -> launch.
#include "abi/threshold_differential.h"

#include "abi/runtime.h"

namespace sieve::threshold_differential {

void require_no_foreign_fields(const sieve_attention_problem &p) {
  if (p.scale != 0)
    throw Failure(SIEVE_STATUS_INVALID_ARGUMENT,
                  format("problem.scale is %g; allowed: 0, tda scores are cosines", static_cast<double>(p.scale)));
  require_range("problem.row_factor", p.row_factor, SIEVE_ROW_FACTOR_NONE, SIEVE_ROW_FACTOR_NONE);
  if (p.row_first.device != nullptr || p.row_first.value != 0 || p.row_second.device != nullptr ||
      p.row_second.value != 0)
    throw Failure(SIEVE_STATUS_INVALID_ARGUMENT,
                  "problem.row_first or row_second is given; allowed: zero, tda has no row factor");
  require_absent("problem.row_factors", p.row_factors, "tda has no row factor");
  if (p.alibi_slopes != nullptr)
    throw Failure(SIEVE_STATUS_INVALID_ARGUMENT,
                  "problem.alibi_slopes is given; allowed: NULL, tda has no distance bias");
}

Dimensions require_inputs(const Inputs &in, ForwardPlan &plan) {
  Dimensions d = require_query_and_key({"query1", &in.query1}, {"key1", &in.key1});
  if (in.query2.data != nullptr || in.key2.data != nullptr) {
    const auto dtype = static_cast<sieve_dtype>(in.query1.dtype);
    require_tensor("query2", in.query2, {d.batch, d.query_heads, d.queries, d.head_dim});
    require_tensor("key2", in.key2, {d.batch, d.key_heads, d.keys, d.head_dim});
    require_dtype("query2", in.query2, dtype);
    require_dtype("key2", in.key2, dtype);
    require_vector_access("query2", in.query2, 16);
    require_vector_access("key2", in.key2, 16);
  }
  require_value({"value", &in.value}, {"key1", &in.key1}, d);
  plan.tensor_batch = static_cast<int32_t>(d.batch);
  plan.query_rows = d.queries;
  plan.key_rows = d.keys;
  plan.query[0] = view_of(in.query1);
  plan.query[1] = view_of(in.query2);
  plan.key[0] = view_of(in.key1);
  plan.key[1] = view_of(in.key2);
  plan.value = view_of(in.value);
  plan.head_dim = static_cast<int32_t>(d.head_dim);
  plan.value_dim = static_cast<int32_t>(d.value_dim);
  return d;
}

int64_t survivor_tile_rows(const sieve_attention_problem &p, const Dimensions &d) {
  return p.query_starts != nullptr ? d.queries / kSurvivorTile + p.sequence_count
                                   : (d.queries + kSurvivorTile - 1) / kSurvivorTile;
}

int64_t survivor_words(const Dimensions &d) {
  constexpr int64_t kKeysOfWord = kSurvivorTile * kSurvivorWordTiles;
  return (d.keys + kKeysOfWord - 1) / kKeysOfWord;
}

SurvivorTiles require_survivor_tiles(const sieve_tensor &tiles, const sieve_attention_problem &p, const Dimensions &d) {
  if (tiles.data == nullptr) return {};
  require_tensor("survivor_tiles", tiles, {d.batch, d.query_heads, survivor_tile_rows(p, d), survivor_words(d)});
  require_dtype("survivor_tiles", tiles, SIEVE_DTYPE_INT32);
  require_positive_strides({"survivor_tiles", &tiles}, "it is written");
  if (tiles.strides[3] != 1)
    throw Failure(SIEVE_STATUS_INVALID_ARGUMENT,
                  format("survivor_tiles.strides[3] is %lld; allowed: 1, words are contiguous",
                         static_cast<long long>(tiles.strides[3])));
  return {view_of(tiles), static_cast<int32_t>(tiles.sizes[3])};
}

void require_parameters(const sieve_scalar &beta, const sieve_scalar &lambda, float kappa, float power,
                        ForwardPlan &plan) {
  plan.beta = require_scalar("beta", beta);
  plan.lambda = require_scalar("lambda", lambda);
  if (plan.query[1].data == nullptr && (lambda.device != nullptr || lambda.value != 0))
    throw Failure(SIEVE_STATUS_INVALID_ARGUMENT,
                  "query2.data is NULL; allowed: a second view, unless lambda is the value 0");
  require_finite("kappa", kappa);
  if (!(kappa > 0))
    throw Failure(SIEVE_STATUS_INVALID_ARGUMENT,
                  format("kappa is %g; allowed: larger than 0", static_cast<double>(kappa)));
  require_finite("power", power);
  if (!(power >= 1))
    throw Failure(SIEVE_STATUS_INVALID_ARGUMENT,
                  format("power is %g; allowed: 1 and larger", static_cast<double>(power)));
  plan.kappa = kappa;
  plan.power = power;
}

ForwardLaunch plan_launch(const ForwardKernel &kernel, int32_t screen, const sieve_context &context,
                          const Dimensions &d, Workspace &carved, ForwardPlan &plan) {
  for (int view = 0; view < plan.views; ++view) {
    plan.query_inverse_norms[view] = carved.take<float>(d.batch * d.query_heads * d.queries);
    plan.key_inverse_norms[view] = carved.take<float>(d.batch * d.key_heads * d.keys);
  }
  if (kernel.description.path == SIEVE_PATH_HOPPER) {
    plan.next_tile = carved.take<int32_t>(1);
    plan.multiprocessors = context.multiprocessors;
  }
  const ForwardLaunch screened = kernel.launch_screened[plan.views - 1];
  if (screen != SIEVE_TDA_SCREEN_INT8 || screened == nullptr) return kernel.launch[plan.views - 1];
  for (int view = 0; view < plan.views; ++view) {
    const int64_t queries = d.batch * d.query_heads * d.queries, keys = d.batch * d.key_heads * d.keys,
                  channels = image_dim(plan.head_dim);
    plan.query_images[view] = {carved.take<int8_t>(queries * channels), carved.take<float>(queries),
                               carved.take<float>(queries)};
    plan.key_images[view] = {carved.take<int8_t>(keys * channels), nullptr,
                             carved.take<float>(d.batch * d.key_heads * image_groups(d.keys))};
  }
  return screened;
}

namespace {

struct ForwardCall {
  ForwardPlan plan;
  const ForwardKernel *kernel;
  ForwardLaunch launch;
  uint64_t workspace_bytes;
};

void require_survivors(const sieve_tda_forward_arguments &a, const Dimensions &d) {
  const sieve_tensor *survivors[] = {&a.survivors1, &a.survivors2};
  const char *names[] = {"survivors1", "survivors2"};
  for (int view = 0; view < 2; ++view) {
    if (survivors[view]->data == nullptr) continue;
    if (view == 1 && a.query2.data == nullptr)
      require_absent("survivors2", a.survivors2, "a single-view call has no second view");
    require_tensor(names[view], *survivors[view], {d.batch, d.query_heads, d.queries, 1});
    require_dtype(names[view], *survivors[view], SIEVE_DTYPE_INT32);
    require_positive_strides({names[view], survivors[view]}, "it is written");
  }
}

// Everything that can be wrong is found here; `workspace` may be null when only the size is asked for.
ForwardCall plan_forward(const sieve_context *context, const sieve_attention_problem *problem,
                         const sieve_tda_forward_arguments *arguments, void *workspace) {
  const sieve_context &c = checked_context(context);
  const sieve_attention_problem p = versioned_copy("problem", problem);
  const sieve_tda_forward_arguments a = versioned_copy("arguments", arguments);
  require_range("arguments.screen", a.screen, SIEVE_TDA_SCREEN_NONE, SIEVE_TDA_SCREEN_INT8);
  ForwardCall call{};
  ForwardPlan &plan = call.plan;
  const Dimensions d = require_inputs({a.query1, a.key1, a.query2, a.key2, a.value}, plan);
  plan.problem = require_problem(p, d, d.query_heads);
  require_no_foreign_fields(p);
  require_output({"output", &a.output}, a.query1.dtype, d);
  require_survivors(a, d);
  plan.survivor_tiles = require_survivor_tiles(a.survivor_tiles, p, d);
  require_parameters(a.beta, a.lambda, a.kappa, a.power, plan);

  const int32_t path = path_of(
      p, {{"query1", &a.query1}, {"key1", &a.key1}, {"query2", &a.query2}, {"key2", &a.key2}, {"value", &a.value}});
  call.kernel =
      choose_kernel(forward_kernels(), c, SIEVE_OPERATION_TDA, SIEVE_DIRECTION_FORWARD, path, a.query1.dtype, d);

  // A second view that neither weighs nor is counted is not computed.
  const bool lambda_is_zero = a.lambda.device == nullptr && a.lambda.value == 0;
  plan.views = a.query2.data != nullptr && (!lambda_is_zero || a.survivors2.data != nullptr) ? 2 : 1;
  plan.output = view_of(a.output);
  plan.output_type = output_type_of(a.output);
  plan.survivors[0] = view_of(a.survivors1);
  plan.survivors[1] = view_of(a.survivors2);

  require_block_count(plan.problem);
  Workspace carved(workspace);
  call.launch = plan_launch(*call.kernel, a.screen, c, d, carved, plan);
  call.workspace_bytes = carved.bytes();
  return call;
}

}  // namespace
}  // namespace sieve::threshold_differential

extern "C" {

int32_t sieve_tda_forward_workspace(const sieve_context *context, const sieve_attention_problem *problem,
                                    const sieve_tda_forward_arguments *arguments, uint64_t *bytes) {
  return sieve::guarded(__func__, [&] {
    const sieve::threshold_differential::ForwardCall call =
        sieve::threshold_differential::plan_forward(context, problem, arguments, nullptr);
    sieve::require_pointer("bytes", bytes);
    *bytes = call.workspace_bytes;
  });
}

int32_t sieve_tda_forward(const sieve_context *context, const sieve_attention_problem *problem,
                          const sieve_tda_forward_arguments *arguments, void *workspace, uint64_t workspace_bytes,
                          void *stream) {
  return sieve::guarded(__func__, [&] {
    const sieve::threshold_differential::ForwardCall call =
        sieve::threshold_differential::plan_forward(context, problem, arguments, workspace);
    sieve::require_workspace(workspace, workspace_bytes, call.workspace_bytes);
    const sieve::runtime::DeviceScope scope(context->device);
    sieve::runtime::check_launch(call.launch(call.plan, stream), "launching tda forward");
    sieve::log_launch(*context, call.plan.views == 2 ? "tda forward, two views" : "tda forward, one view",
                      call.plan.problem, call.kernel->description);
  });
}

}  // extern "C"
