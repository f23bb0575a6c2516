// Entry points of softmax attention, decode: validate -> plan -> launch.
#include "abi/runtime.h"
#include "abi/softmax.h"
#include "operators/softmax/decode_choice.h"

namespace sieve::softmax {

namespace {

// Rows of a key head's queries that one tile holds.
constexpr int64_t kMostDecodeRows = 64;

struct DecodeCall {
  DecodePlan plan;
  const Kernel<DecodePlan> *kernel;
  uint64_t workspace_bytes;
};

// Keys and values. With pages the keys of an entry are those of a full page table.
Dimensions require_cache(const sieve_softmax_decode_arguments &a, DecodePlan &plan) {
  const bool paged = a.page_table != nullptr;
  Dimensions d =
      require_query_and_key({"query", &a.query}, {"key", &a.key}, paged ? KeyLayout::kPages : KeyLayout::kBatch);
  require_value({"value", &a.value}, {"key", &a.key}, d);
  require_range("page_table_width", a.page_table_width, paged, paged ? kMostRows / d.keys : 0);
  if (!paged) return d;
  if (d.keys % 16 != 0)
    throw Failure(SIEVE_STATUS_UNSUPPORTED,
                  format("key has pages of %lld keys; allowed: a multiple of 16", static_cast<long long>(d.keys)));
  plan.page_table = a.page_table;
  plan.page_table_width = a.page_table_width;
  plan.page_size = static_cast<int32_t>(d.keys);
  plan.pages = static_cast<int32_t>(a.key.sizes[0]);
  d.keys *= a.page_table_width;
  return d;
}

void require_few_rows(const sieve_attention_problem &p, const Dimensions &d) {
  if (p.query_starts != nullptr || p.key_starts != nullptr)
    throw Failure(SIEVE_STATUS_INVALID_ARGUMENT,
                  "problem.query_starts or key_starts is given; allowed: NULL, decode has no packed sequences");
  const int64_t group = d.query_heads / d.key_heads;
  if (d.queries * group > kMostDecodeRows)
    throw Failure(
        SIEVE_STATUS_INVALID_ARGUMENT,
        format("query has %lld rows of %lld heads a key head; allowed: a product of at most %lld, the forward "
               "call takes more",
               static_cast<long long>(d.queries), static_cast<long long>(group),
               static_cast<long long>(kMostDecodeRows)));
}

// Everything that can be wrong is found here; `workspace` may be null when only the size is asked for.
DecodeCall plan_decode(const sieve_context *context, const sieve_attention_problem *problem,
                       const sieve_softmax_decode_arguments *arguments, void *workspace) {
  const sieve_context &c = checked_context(context);
  const sieve_attention_problem p = versioned_copy("problem", problem);
  const sieve_softmax_decode_arguments a = versioned_copy("arguments", arguments);
  require_range("splits", a.splits, 0, kMostSplits);
  DecodeCall call{};
  DecodePlan &plan = call.plan;
  const Dimensions d = require_cache(a, plan);
  require_few_rows(p, d);
  plan.problem = require_problem(p, d, d.query_heads);
  plan_scores(p, d, plan);
  plan_tensors(c, a.query, a.key, a.value, d, plan);
  if (plan.page_table != nullptr) plan.key_rows = plan.page_size;
  plan_outputs(a.output, a.lse, a.query.dtype, d, plan);
  const int32_t path = path_of(p, {{"query", &a.query}, {"key", &a.key}, {"value", &a.value}});
  call.kernel =
      choose_kernel(decode_kernels(), c, SIEVE_OPERATION_SOFTMAX, SIEVE_DIRECTION_DECODE, path, a.query.dtype, d);

  const int64_t rows = d.queries * (d.query_heads / d.key_heads);
  const int64_t places = decode_places(call.kernel->description.path, rows, c.multiprocessors);
  plan.splits = a.splits != 0 ? a.splits : decode_splits(d.batch * d.key_heads, d.keys, places);
  require_range("splits x key heads x batch", plan.splits * d.key_heads * d.batch, 1, 2147483647);
  Workspace carved(workspace);
  if (plan.splits > 1) {
    const int64_t results = plan.splits * d.batch * d.query_heads * d.queries;
    plan.partial_outputs = carved.take<float>(results * d.value_dim);
    plan.partial_lses = carved.take<float>(results);
  }
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
