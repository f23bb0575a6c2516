// Entry points of threshold differential attention over a cache: validate -> plan -> launch.
#include "abi/call.h"
#include "abi/runtime.h"
#include "operators/threshold_differential/decode_choice.h"

namespace sieve::threshold_differential {

namespace {

struct DecodeCallPlan {
  DecodePlan plan;
  const DecodeKernel *kernel;
  uint64_t workspace_bytes;
};

[[noreturn]] void invalid(const std::string &message) {
  throw Failure(SIEVE_STATUS_INVALID_ARGUMENT, message);
}

void require_like(const char *name, const sieve_tensor &tensor, const int64_t (&sizes)[4], int32_t dtype) {
  require_tensor(name, tensor, sizes);
  require_dtype(name, tensor, static_cast<sieve_dtype>(dtype));
  require_vector_access(name, tensor, 16);
}

// Sizes of a cache's entries, and its tensors in the plan. With pages d.keys becomes what a full page table holds.
Cache require_cache(const sieve_tda_cache &c, Dimensions &d) {
  Cache cache;
  require_range("cache.screen", c.screen, SIEVE_TDA_SCREEN_NONE, SIEVE_TDA_SCREEN_INT4);
  cache.screen = static_cast<Screen>(c.screen);
  const bool has_second = c.key2.data != nullptr, has_images = cache.screen != Screen::kNone;
  const int64_t entries = c.key1.sizes[0], heads = c.key1.sizes[1], rows = c.key1.sizes[2];
  if (has_second) require_like("cache.key2", c.key2, {entries, heads, rows, d.head_dim}, c.key1.dtype);
  require_value({"cache.value", &c.value}, {"cache.key1", &c.key1}, d);

  const bool paged = c.page_table != nullptr;
  require_range("cache.page_table_width", c.page_table_width, paged, paged ? kMostRows / rows : 0);
  if (paged && rows % kScreenedKeys != 0)
    throw Failure(SIEVE_STATUS_UNSUPPORTED, format("cache.key1 has pages of %lld keys; allowed: a multiple of %d",
                                                   static_cast<long long>(rows), kScreenedKeys));
  if (paged) {
    cache.page_table = c.page_table;
    cache.page_table_width = c.page_table_width;
    cache.page_size = static_cast<int32_t>(rows);
    d.keys = rows * c.page_table_width;
  }

  const sieve_tensor *keys[] = {&c.key1, &c.key2}, *norms[] = {&c.inverse_norms1, &c.inverse_norms2},
                     *images[] = {&c.images1, &c.images2};
  const char *norm_names[] = {"cache.inverse_norms1", "cache.inverse_norms2"},
             *image_names[] = {"cache.images1", "cache.images2"};
  for (int view = 0; view < 2; ++view) {
    if (view == 1 && !has_second) {
      require_absent(norm_names[view], *norms[view], "a single-view cache has no second view");
      require_absent(image_names[view], *images[view], "a single-view cache has no second view");
      continue;
    }
    require_tensor(norm_names[view], *norms[view], {entries, heads, rows, 1});
    require_dtype(norm_names[view], *norms[view], SIEVE_DTYPE_FLOAT32);
    if (has_images)
      require_like(image_names[view], *images[view],
                   {entries, heads, (rows + kScreenedKeys - 1) / kScreenedKeys,
                    screen_bytes(cache.screen, static_cast<int32_t>(d.head_dim)) / 4},
                   SIEVE_DTYPE_INT32);
    else
      require_absent(image_names[view], *images[view], "the cache has no screen");
    cache.key[view] = view_of(*keys[view]);
    cache.inverse_norms[view] = view_of(*norms[view]);
    if (has_images) cache.screens[view] = view_of(*images[view]);
  }
  cache.value = view_of(c.value);
  return cache;
}

void require_survivors(const char *name, const sieve_tensor &survivors, const Dimensions &d) {
  if (survivors.data == nullptr) return;
  require_tensor(name, survivors, {d.batch, d.query_heads, d.queries, 1});
  require_dtype(name, survivors, SIEVE_DTYPE_INT32);
  require_positive_strides({name, &survivors}, "it is written");
}

void require_parameters(const sieve_tda_decode_arguments &a, DecodePlan &plan) {
  plan.beta = require_scalar("beta", a.beta);
  plan.lambda = require_scalar("lambda", a.lambda);
  if (a.query2.data == nullptr && (a.lambda.device != nullptr || a.lambda.value != 0))
    invalid("query2.data is NULL; allowed: a second view, unless lambda is the value 0");
  require_finite("kappa", a.kappa);
  if (!(a.kappa > 0)) invalid(format("kappa is %g; allowed: larger than 0", static_cast<double>(a.kappa)));
  require_finite("power", a.power);
  if (!(a.power >= 1)) invalid(format("power is %g; allowed: 1 and larger", static_cast<double>(a.power)));
  plan.kappa = a.kappa;
  plan.power = a.power;
}

// Fields of the problem that have no meaning here.
void require_no_foreign_fields(const sieve_attention_problem &p) {
  if (p.query_starts != nullptr || p.key_starts != nullptr)
    invalid("problem.query_starts or key_starts is given; allowed: NULL, decode has no packed sequences");
  if (p.scale != 0)
    invalid(format("problem.scale is %g; allowed: 0, tda scores are cosines", static_cast<double>(p.scale)));
  require_range("problem.row_factor", p.row_factor, SIEVE_ROW_FACTOR_NONE, SIEVE_ROW_FACTOR_NONE);
  if (p.row_first.device != nullptr || p.row_first.value != 0 || p.row_second.device != nullptr ||
      p.row_second.value != 0)
    invalid("problem.row_first or row_second is given; allowed: zero, tda has no row factor");
  require_absent("problem.row_factors", p.row_factors, "tda has no row factor");
  if (p.alibi_slopes != nullptr) invalid("problem.alibi_slopes is given; allowed: NULL, tda has no distance bias");
}

void require_few_rows(const Dimensions &d) {
  const int64_t group = d.query_heads / d.key_heads;
  if (d.queries * group > kMostDecodeRows)
    invalid(
        format("query1 has %lld rows of %lld heads a key head; allowed: a product of at most %d, the forward call "
               "takes more",
               static_cast<long long>(d.queries), static_cast<long long>(group), kMostDecodeRows));
}

// Everything that can be wrong is found here; `workspace` may be null when only the size is asked for.
DecodeCallPlan plan_decode(const sieve_context *context, const sieve_attention_problem *problem,
                           const sieve_tda_decode_arguments *arguments, void *workspace) {
  const sieve_context &context_ = checked_context(context);
  const sieve_attention_problem p = versioned_copy("problem", problem);
  const sieve_tda_decode_arguments a = versioned_copy("arguments", arguments);
  const sieve_tda_cache c = versioned_copy("cache", a.cache);
  require_range("splits", a.splits, 0, kMostSplits);
  DecodeCallPlan call{};
  DecodePlan &plan = call.plan;
  const bool paged = c.page_table != nullptr;
  Dimensions d = require_query_and_key({"query1", &a.query1}, {"cache.key1", &c.key1},
                                       paged ? KeyLayout::kPages : KeyLayout::kBatch);
  const bool has_second = a.query2.data != nullptr;
  if (has_second != (c.key2.data != nullptr)) invalid("query2 or cache.key2 is absent; allowed: both or neither");
  if (has_second) require_like("query2", a.query2, {d.batch, d.query_heads, d.queries, d.head_dim}, a.query1.dtype);
  plan.cache = require_cache(c, d);
  require_few_rows(d);
  plan.problem = require_problem(p, d, d.query_heads);
  require_no_foreign_fields(p);
  require_output({"output", &a.output}, a.query1.dtype, d);
  require_survivors("survivors1", a.survivors1, d);
  if (!has_second) require_absent("survivors2", a.survivors2, "a single-view call has no second view");
  require_survivors("survivors2", a.survivors2, d);
  require_parameters(a, plan);
  call.kernel =
      choose_kernel(decode_kernels(), context_, SIEVE_OPERATION_TDA, SIEVE_DIRECTION_DECODE, p.path, a.query1.dtype, d);

  // A second view that neither weighs nor is counted is not read.
  const bool lambda_is_zero = a.lambda.device == nullptr && a.lambda.value == 0;
  plan.views = has_second && (!lambda_is_zero || a.survivors2.data != nullptr) ? 2 : 1;
  plan.head_dim = static_cast<int32_t>(d.head_dim);
  plan.value_dim = static_cast<int32_t>(d.value_dim);
  plan.is_bfloat16 = a.query1.dtype == SIEVE_DTYPE_BFLOAT16;
  plan.query[0] = view_of(a.query1);
  plan.query[1] = view_of(a.query2);
  plan.output = view_of(a.output);
  plan.output_type = output_type_of(a.output);
  plan.survivors[0] = view_of(a.survivors1);
  plan.survivors[1] = view_of(a.survivors2);
  const int64_t rows = d.queries * (d.query_heads / d.key_heads), heads = d.batch * d.key_heads;
  plan.cache.screen = screen_that_pays(plan.cache.screen, rows);
  const int64_t places = decode_places(plan.cache.screen, heads, context_.multiprocessors);
  plan.splits = a.splits != 0 ? a.splits : decode_splits(heads, d.keys, places);
  require_range("splits x key heads x batch", plan.splits * d.key_heads * d.batch, 1, 2147483647);
  Workspace carved(workspace);
  plan.partial_outputs =
      carved.take<float>(plan.splits * kDecodeWarps * d.batch * d.query_heads * d.queries * d.value_dim);
  call.workspace_bytes = carved.bytes();
  return call;
}

AppendPlan plan_append(const sieve_context *context, const sieve_tda_append_arguments *arguments) {
  const sieve_context &context_ = checked_context(context);
  const sieve_tda_append_arguments a = versioned_copy("arguments", arguments);
  const sieve_tda_cache c = versioned_copy("cache", a.cache);
  require_range("batch", a.batch, 1, 2147483647);
  require_tensor("cache.key1", c.key1, {c.page_table == nullptr ? a.batch : 0, 0, 0, 0});
  if (c.key1.dtype != SIEVE_DTYPE_FLOAT16 && c.key1.dtype != SIEVE_DTYPE_BFLOAT16)
    throw Failure(SIEVE_STATUS_UNSUPPORTED,
                  format("cache.key1.dtype is %s; allowed: float16, bfloat16", dtype_label(c.key1.dtype)));
  require_vector_access("cache.key1", c.key1, 16);
  Dimensions d{a.batch, c.key1.sizes[1], c.key1.sizes[1], a.rows, c.key1.sizes[2], c.key1.sizes[3], 0};
  AppendPlan plan;
  plan.cache = require_cache(c, d);
  require_range("rows of cache.key1", d.keys, 1, kMostRows);
  require_range("rows", a.rows, 1, d.keys);
  require_range("rows x key heads x batch", a.rows * d.key_heads * d.batch, 1, 2147483647);
  const bool copies = a.new_key1.data != nullptr, has_second = c.key2.data != nullptr;
  const sieve_tensor *given[] = {&a.new_key1, &a.new_key2, &a.new_value};
  const char *names[] = {"new_key1", "new_key2", "new_value"};
  for (int i = 0; i < 3; ++i) {
    if (!copies || (i == 1 && !has_second))
      require_absent(names[i], *given[i], copies ? "a single-view cache has no second view" : "new_key1 is absent");
    else
      require_like(names[i], *given[i], {d.batch, d.key_heads, a.rows, i == 2 ? d.value_dim : d.head_dim},
                   c.key1.dtype);
  }
  // The kernels of decode read what this writes: the same dims.
  const sieve_support_query query{sizeof(sieve_support_query),
                                  SIEVE_OPERATION_TDA,
                                  SIEVE_DIRECTION_DECODE,
                                  SIEVE_PATH_AUTOMATIC,
                                  c.key1.dtype,
                                  static_cast<int32_t>(d.head_dim),
                                  static_cast<int32_t>(d.value_dim),
                                  0};
  find_kernel(query, context_.capability);

  plan.batch = a.batch;
  plan.key_heads = static_cast<int32_t>(d.key_heads);
  plan.keys = static_cast<int32_t>(d.keys);
  plan.rows = static_cast<int32_t>(a.rows);
  plan.views = has_second ? 2 : 1;
  plan.head_dim = static_cast<int32_t>(d.head_dim);
  plan.value_dim = static_cast<int32_t>(d.value_dim);
  plan.is_bfloat16 = c.key1.dtype == SIEVE_DTYPE_BFLOAT16;
  plan.key_lengths = a.key_lengths;
  plan.new_key[0] = view_of(a.new_key1);
  plan.new_key[1] = view_of(a.new_key2);
  plan.new_value = view_of(a.new_value);
  return plan;
}

}  // namespace
}  // namespace sieve::threshold_differential

extern "C" {

int32_t sieve_tda_append(const sieve_context *context, const sieve_tda_append_arguments *arguments, void *stream) {
  return sieve::guarded(__func__, [&] {
    namespace tda = sieve::threshold_differential;
    const tda::AppendPlan plan = tda::plan_append(context, arguments);
    const sieve::runtime::DeviceScope scope(context->device);
    sieve::runtime::check_launch(tda::append_launch()(plan, stream), "launching tda append");
    if (context->logs(SIEVE_LOG_TRACE))
      context->log(SIEVE_LOG_TRACE,
                   sieve::format("tda append: batch %d, %d key heads, %d rows", plan.batch, plan.key_heads, plan.rows));
  });
}

int32_t sieve_tda_decode_workspace(const sieve_context *context, const sieve_attention_problem *problem,
                                   const sieve_tda_decode_arguments *arguments, uint64_t *bytes) {
  return sieve::guarded(__func__, [&] {
    const auto call = sieve::threshold_differential::plan_decode(context, problem, arguments, nullptr);
    sieve::require_pointer("bytes", bytes);
    *bytes = call.workspace_bytes;
  });
}

int32_t sieve_tda_decode(const sieve_context *context, const sieve_attention_problem *problem,
                         const sieve_tda_decode_arguments *arguments, void *workspace, uint64_t workspace_bytes,
                         void *stream) {
  return sieve::guarded(__func__, [&] {
    const auto call = sieve::threshold_differential::plan_decode(context, problem, arguments, workspace);
    sieve::require_workspace(workspace, workspace_bytes, call.workspace_bytes);
    const sieve::runtime::DeviceScope scope(context->device);
    sieve::runtime::check_launch(call.kernel->launch(call.plan, stream), "launching tda decode");
    sieve::log_launch(*context, "tda decode", call.plan.problem, call.kernel->description);
  });
}

}  // extern "C"
