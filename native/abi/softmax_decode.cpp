// Entry points of softmax attention, decode: validate -> plan -> launch.
#include "abi/runtime.h"
#include "abi/softmax.h"
#include "operators/softmax/decode_choice.h"

namespace sieve::softmax {

namespace {

// Rows of a key head's queries that one tile holds.
constexpr int64_t kMostDecodeRows = 64;

}  // namespace

Dimensions require_cache(const NamedTensor &query, const NamedTensor &key, const NamedTensor &value,
                         const int32_t *page_table, int64_t page_table_width, DecodePlan &plan) {
  const bool paged = page_table != nullptr;
  Dimensions d = require_query_and_key(query, key, paged ? KeyLayout::kPages : KeyLayout::kBatch);
  require_value(value, key, d);
  require_range("page_table_width", page_table_width, paged, paged ? kMostRows / d.keys : 0);
  if (!paged) return d;
  if (d.keys % 16 != 0)
    throw Failure(SIEVE_STATUS_UNSUPPORTED, format("%s has pages of %lld keys; allowed: a multiple of 16", key.name,
                                                   static_cast<long long>(d.keys)));
  plan.page_table = page_table;
  plan.page_table_width = page_table_width;
  plan.page_size = static_cast<int32_t>(d.keys);
  plan.pages = static_cast<int32_t>(key.tensor->sizes[0]);
  d.keys *= page_table_width;
  return d;
}

bool few_rows(int64_t rows_of_key_head) {
  return rows_of_key_head <= kMostDecodeRows;
}

void require_few_rows(const sieve_attention_problem &p, const NamedTensor &query, const Dimensions &d) {
  if (p.query_starts != nullptr || p.key_starts != nullptr)
    throw Failure(SIEVE_STATUS_INVALID_ARGUMENT,
                  "problem.query_starts or key_starts is given; allowed: NULL, decode has no packed sequences");
  const int64_t group = d.query_heads / d.key_heads;
  if (!few_rows(d.queries * group))
    throw Failure(SIEVE_STATUS_INVALID_ARGUMENT,
                  format("%s has %lld rows of %lld heads a key head; allowed: a product of at most %lld, the forward "
                         "call takes more",
                         query.name, static_cast<long long>(d.queries), static_cast<long long>(group),
                         static_cast<long long>(kMostDecodeRows)));
}

void plan_splits(const Kernel<DecodePlan> &kernel, int32_t splits, const Dimensions &d, Workspace &carved,
                 DecodePlan &plan) {
  const int64_t rows = d.queries * (d.query_heads / d.key_heads);
  const int64_t places = decode_places(kernel.description.path, rows, plan.multiprocessors);
  plan.splits = splits != 0 ? splits : decode_splits(d.batch * d.key_heads, d.keys, places);
  require_range("splits x key heads x batch", plan.splits * d.key_heads * d.batch, 1, 2147483647);
  if (plan.splits > 1) {
    const int64_t results = plan.splits * d.batch * d.query_heads * d.queries;
    plan.partial_outputs = carved.take<float>(results * d.value_dim);
    plan.partial_lses = carved.take<float>(results);
  }
}

namespace {

struct DecodeCall {
  DecodePlan plan;
  const Kernel<DecodePlan> *kernel;
  uint64_t workspace_bytes;
};

// Everything that can be wrong is found here; `workspace` may be null when only the size is asked for.
DecodeCall plan_decode(const sieve_context *context, const sieve_attention_problem *problem,
                       const sieve_softmax_decode_arguments *arguments, void *workspace) {
  const sieve_context &c = checked_context(context);
  const sieve_attention_problem p = versioned_copy("problem", problem);
  const sieve_softmax_decode_arguments a = versioned_copy("arguments", arguments);
  require_range("splits", a.splits, 0, kMostSplits);
  DecodeCall call{};
  DecodePlan &plan = call.plan;
  const Dimensions d =
      require_cache({"query", &a.query}, {"key", &a.key}, {"value", &a.value}, a.page_table, a.page_table_width, plan);
  require_few_rows(p, {"query", &a.query}, d);
  plan.problem = require_problem(p, d, d.query_heads);
  plan_scores(p, d, plan);
  plan_tensors(c, a.query, a.key, a.value, d, plan);
  if (plan.page_table != nullptr) plan.key_rows = plan.page_size;
  plan_outputs(a.output, a.lse, a.query.dtype, d, plan);
  const int32_t path = path_of(p, {{"query", &a.query}, {"key", &a.key}, {"value", &a.value}});
  call.kernel =
      choose_kernel(decode_kernels(), c, SIEVE_OPERATION_SOFTMAX, SIEVE_DIRECTION_DECODE, path, a.query.dtype, d);

  Workspace carved(workspace);
  plan_splits(*call.kernel, a.splits, d, carved, plan);
  call.workspace_bytes = carved.bytes();
  return call;
}

}  // namespace
}  // namespace sieve::softmax

extern "C" {

int32_t sieve_softmax_decode_workspace(const sieve_context *context, const sieve_attention_problem *problem,
                                       const sieve_softmax_decode_arguments *arguments, uint64_t *bytes) {
  return sieve::guarded(__func__, [&] {
    const auto call = sieve::softmax::plan_decode(context, problem, arguments, nullptr);
    sieve::require_pointer("bytes", bytes);
    *bytes = call.workspace_bytes;
  });
}

int32_t sieve_softmax_decode(const sieve_context *context, const sieve_attention_problem *problem,
                             const sieve_softmax_decode_arguments *arguments, void *workspace, uint64_t workspace_bytes,
                             void *stream) {
  return sieve::guarded(__func__, [&] {
    const auto call = sieve::softmax::plan_decode(context, problem, arguments, workspace);
    sieve::require_workspace(workspace, workspace_bytes, call.workspace_bytes);
    const sieve::runtime::DeviceScope scope(context->device);
    sieve::runtime::check_launch(call.kernel->launch(call.plan, stream), "launching softmax decode");
    sieve::log_launch(*context, "softmax decode", call.plan.problem, call.kernel->description);
  });
}

}  // extern "C"
