// Entry points of threshold differential attention: validate -> plan -> launch.
#include "abi/call.h"
#include "abi/runtime.h"
#include "operators/threshold_differential/problem.h"

namespace sieve {

namespace tda = threshold_differential;

namespace {

struct ForwardCall {
  tda::ForwardPlan plan;
  const tda::ForwardKernel *kernel;
  uint64_t workspace_bytes;
};

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

Dimensions require_inputs(const sieve_tda_forward_arguments &a) {
  Dimensions d = require_query_and_key({"query1", &a.query1}, {"key1", &a.key1});
  if (a.query2.data != nullptr || a.key2.data != nullptr) {
    const auto dtype = static_cast<sieve_dtype>(a.query1.dtype);
    require_tensor("query2", a.query2, {d.batch, d.query_heads, d.queries, d.head_dim});
    require_tensor("key2", a.key2, {d.batch, d.key_heads, d.keys, d.head_dim});
    require_dtype("query2", a.query2, dtype);
    require_dtype("key2", a.key2, dtype);
    require_vector_access("query2", a.query2, 16);
    require_vector_access("key2", a.key2, 16);
  }
  require_value({"value", &a.value}, {"key1", &a.key1}, d);
  return d;
}

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

void require_survivor_tiles(const sieve_tda_forward_arguments &a, const sieve_attention_problem &p,
                            const Dimensions &d) {
  if (a.survivor_tiles.data == nullptr) return;
  const int64_t tiles = p.query_starts != nullptr ? d.queries / tda::kSurvivorTile + p.sequence_count
                                                  : (d.queries + tda::kSurvivorTile - 1) / tda::kSurvivorTile;
  constexpr int64_t kKeysOfWord = tda::kSurvivorTile * tda::kSurvivorWordTiles;
  require_tensor("survivor_tiles", a.survivor_tiles,
                 {d.batch, d.query_heads, tiles, (d.keys + kKeysOfWord - 1) / kKeysOfWord});
  require_dtype("survivor_tiles", a.survivor_tiles, SIEVE_DTYPE_INT32);
  require_positive_strides({"survivor_tiles", &a.survivor_tiles}, "it is written");
  if (a.survivor_tiles.strides[3] != 1)
    throw Failure(SIEVE_STATUS_INVALID_ARGUMENT,
                  format("survivor_tiles.strides[3] is %lld; allowed: 1, words are contiguous",
                         static_cast<long long>(a.survivor_tiles.strides[3])));
}

// Everything that can be wrong is found here; `workspace` may be null when only the size is asked for.
ForwardCall plan_forward(const sieve_context *context, const sieve_attention_problem *problem,
                         const sieve_tda_forward_arguments *arguments, void *workspace) {
  const sieve_context &c = checked_context(context);
  const sieve_attention_problem p = versioned_copy("problem", problem);
  const sieve_tda_forward_arguments a = versioned_copy("arguments", arguments);
  require_zero("arguments.reserved", a.reserved);
  const Dimensions d = require_inputs(a);
  ForwardCall call{};
  tda::ForwardPlan &plan = call.plan;
  plan.problem = require_problem(p, d, d.query_heads);
  require_no_foreign_fields(p);
  require_output({"output", &a.output}, a.query1.dtype, d);
  require_survivors(a, d);
  require_survivor_tiles(a, p, d);
  plan.beta = require_scalar("beta", a.beta);
  plan.lambda = require_scalar("lambda", a.lambda);
  const bool lambda_is_zero = a.lambda.device == nullptr && a.lambda.value == 0;
  if (a.query2.data == nullptr && !lambda_is_zero)
    throw Failure(SIEVE_STATUS_INVALID_ARGUMENT,
                  "query2.data is NULL; allowed: a second view, unless lambda is the value 0");
  require_finite("kappa", a.kappa);
  if (!(a.kappa > 0))
    throw Failure(SIEVE_STATUS_INVALID_ARGUMENT,
                  format("kappa is %g; allowed: larger than 0", static_cast<double>(a.kappa)));
  require_finite("power", a.power);
  if (!(a.power >= 1))
    throw Failure(SIEVE_STATUS_INVALID_ARGUMENT,
                  format("power is %g; allowed: 1 and larger", static_cast<double>(a.power)));

  const int32_t path = path_of(
      p, {{"query1", &a.query1}, {"key1", &a.key1}, {"query2", &a.query2}, {"key2", &a.key2}, {"value", &a.value}});
  call.kernel =
      choose_kernel(tda::forward_kernels(), c, SIEVE_OPERATION_TDA, SIEVE_DIRECTION_FORWARD, path, a.query1.dtype, d);

  // A second view that neither weighs nor is counted is not computed.
  plan.views = a.query2.data != nullptr && (!lambda_is_zero || a.survivors2.data != nullptr) ? 2 : 1;
  plan.tensor_batch = static_cast<int32_t>(d.batch);
  plan.query_rows = d.queries;
  plan.key_rows = d.keys;
  plan.query[0] = view_of(a.query1);
  plan.query[1] = view_of(a.query2);
  plan.key[0] = view_of(a.key1);
  plan.key[1] = view_of(a.key2);
  plan.value = view_of(a.value);
  plan.output = view_of(a.output);
  plan.output_type = output_type_of(a.output);
  plan.survivors[0] = view_of(a.survivors1);
  plan.survivors[1] = view_of(a.survivors2);
  plan.survivor_tiles.words = view_of(a.survivor_tiles);
  plan.survivor_tiles.width = static_cast<int32_t>(a.survivor_tiles.sizes[3]);
  plan.head_dim = static_cast<int32_t>(d.head_dim);
  plan.value_dim = static_cast<int32_t>(d.value_dim);
  plan.kappa = a.kappa;
  plan.power = a.power;

  require_block_count(plan.problem);
  Workspace carved(workspace);
  for (int view = 0; view < plan.views; ++view) {
    plan.query_inverse_norms[view] = carved.take<float>(d.batch * d.query_heads * d.queries);
    plan.key_inverse_norms[view] = carved.take<float>(d.batch * d.key_heads * d.keys);
  }
  if (call.kernel->description.path == SIEVE_PATH_HOPPER) {
    plan.next_tile = carved.take<int32_t>(1);
    plan.multiprocessors = c.multiprocessors;
  }
  call.workspace_bytes = carved.bytes();
  return call;
}

}  // namespace
}  // namespace sieve

extern "C" {

int32_t sieve_tda_forward_workspace(const sieve_context *context, const sieve_attention_problem *problem,
                                    const sieve_tda_forward_arguments *arguments, uint64_t *bytes) {
  return sieve::guarded(__func__, [&] {
    const sieve::ForwardCall call = sieve::plan_forward(context, problem, arguments, nullptr);
    sieve::require_pointer("bytes", bytes);
    *bytes = call.workspace_bytes;
  });
}

int32_t sieve_tda_forward(const sieve_context *context, const sieve_attention_problem *problem,
                          const sieve_tda_forward_arguments *arguments, void *workspace, uint64_t workspace_bytes,
                          void *stream) {
  return sieve::guarded(__func__, [&] {
    const sieve::ForwardCall call = sieve::plan_forward(context, problem, arguments, workspace);
    sieve::require_workspace(workspace, workspace_bytes, call.workspace_bytes);
    const sieve::runtime::DeviceScope scope(context->device);
    sieve::runtime::check_launch(call.kernel->launch[call.plan.views - 1](call.plan, stream), "launching tda forward");
    sieve::log_launch(*context, call.plan.views == 2 ? "tda forward, two views" : "tda forward, one view",
                      call.plan.problem, call.kernel->description);
  });
}

}  // extern "C"
