// Entry points of threshold differential attention: validate -> plan -> launch.
#include <algorithm>

#include "abi/context.h"
#include "abi/failure.h"
#include "abi/runtime.h"
#include "abi/validation.h"
#include "operators/threshold_differential/problem.h"

namespace sieve {

namespace tda = threshold_differential;

namespace {

struct ForwardCall {
  tda::ForwardPlan plan;
  const tda::ForwardKernel *kernel;
  uint64_t workspace_bytes;
};

uint64_t aligned(uint64_t bytes) {
  return (bytes + 255) / 256 * 256;
}

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
  require_tensor("query1", a.query1, {0, 0, 0, 0});
  if (a.query1.dtype != SIEVE_DTYPE_FLOAT16 && a.query1.dtype != SIEVE_DTYPE_BFLOAT16)
    throw Failure(SIEVE_STATUS_UNSUPPORTED,
                  format("query1.dtype is %s; allowed: float16, bfloat16", dtype_label(a.query1.dtype)));
  const auto dtype = static_cast<sieve_dtype>(a.query1.dtype);
  require_tensor("key1", a.key1, {a.query1.sizes[0], 0, 0, a.query1.sizes[3]});
  const Dimensions d{a.query1.sizes[0], a.query1.sizes[1], a.key1.sizes[1], a.query1.sizes[2],
                     a.key1.sizes[2],   a.query1.sizes[3], a.value.sizes[3]};
  if (d.query_heads % d.key_heads != 0)
    throw Failure(SIEVE_STATUS_INVALID_ARGUMENT,
                  format("key1 has %lld heads; allowed: a divisor of the %lld query heads",
                         static_cast<long long>(d.key_heads), static_cast<long long>(d.query_heads)));
  if (a.query2.data != nullptr || a.key2.data != nullptr) {
    require_tensor("query2", a.query2, {d.batch, d.query_heads, d.queries, d.head_dim});
    require_tensor("key2", a.key2, {d.batch, d.key_heads, d.keys, d.head_dim});
    require_dtype("query2", a.query2, dtype);
    require_dtype("key2", a.key2, dtype);
    require_vector_access("query2", a.query2, 16);
    require_vector_access("key2", a.key2, 16);
  }
  require_tensor("value", a.value, {d.batch, d.key_heads, d.keys, 0});
  require_dtype("key1", a.key1, dtype);
  require_dtype("value", a.value, dtype);
  require_vector_access("query1", a.query1, 16);
  require_vector_access("key1", a.key1, 16);
  require_vector_access("value", a.value, 16);
  return d;
}

void require_outputs(const sieve_tda_forward_arguments &a, const Dimensions &d) {
  require_tensor("output", a.output, {d.batch, d.query_heads, d.queries, d.value_dim});
  if (a.output.dtype != SIEVE_DTYPE_FLOAT32)
    require_dtype("output", a.output, static_cast<sieve_dtype>(a.query1.dtype));
  require_vector_access("output", a.output, 16);
  const sieve_tensor *survivors[] = {&a.survivors1, &a.survivors2};
  const char *names[] = {"survivors1", "survivors2"};
  for (int view = 0; view < 2; ++view) {
    if (survivors[view]->data == nullptr) continue;
    if (view == 1 && a.query2.data == nullptr)
      require_absent("survivors2", a.survivors2, "a single-view call has no second view");
    require_tensor(names[view], *survivors[view], {d.batch, d.query_heads, d.queries, 1});
    require_dtype(names[view], *survivors[view], SIEVE_DTYPE_INT32);
  }
}

// The copy engine cannot read a tensor that repeats itself (stride 0): the name of the first one, or null.
const char *repeating_tensor(const sieve_tda_forward_arguments &a) {
  const sieve_tensor *tensors[] = {&a.query1, &a.key1, &a.query2, &a.key2, &a.value};
  const char *names[] = {"query1", "key1", "query2", "key2", "value"};
  for (int i = 0; i < 5; ++i)
    for (int d = 0; d < 3; ++d)
      if (tensors[i]->data != nullptr && tensors[i]->sizes[d] > 1 && tensors[i]->strides[d] == 0) return names[i];
  return nullptr;
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
  require_outputs(a, d);
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

  const char *repeating = repeating_tensor(a);
  if (repeating != nullptr && p.path == SIEVE_PATH_HOPPER)
    throw Failure(SIEVE_STATUS_INVALID_ARGUMENT,
                  format("%s has a stride of 0; allowed: positive strides on the path hopper", repeating));
  const sieve_support_query query{sizeof(sieve_support_query),
                                  SIEVE_OPERATION_TDA,
                                  SIEVE_DIRECTION_FORWARD,
                                  repeating != nullptr ? static_cast<int32_t>(SIEVE_PATH_GENERIC) : p.path,
                                  a.query1.dtype,
                                  static_cast<int32_t>(d.head_dim),
                                  static_cast<int32_t>(d.value_dim),
                                  0};
  const KernelDescription &chosen = kernel_at(find_kernel(query, c.capability));
  const tda::ForwardKernels kernels = tda::forward_kernels();
  call.kernel = std::find_if(kernels.first, kernels.first + kernels.count,
                             [&](const tda::ForwardKernel &k) { return &k.description == &chosen; });

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
  plan.output_type = a.output.dtype == SIEVE_DTYPE_FLOAT32 ? OutputType::kFloat32 : OutputType::kElement;
  plan.survivors[0] = view_of(a.survivors1);
  plan.survivors[1] = view_of(a.survivors2);
  plan.kappa = a.kappa;
  plan.power = a.power;

  const int64_t blocks = (plan.problem.queries + 127) / 128 * d.query_heads * plan.problem.batch;
  require_range("query blocks x heads x sequences", blocks, 1, 2147483647);
  uint64_t offset = 0;
  const auto take = [&](int64_t heads, int64_t rows) {
    auto *memory = workspace == nullptr ? nullptr : reinterpret_cast<float *>(static_cast<char *>(workspace) + offset);
    offset += aligned(static_cast<uint64_t>(d.batch * heads * rows) * sizeof(float));
    return memory;
  };
  for (int view = 0; view < plan.views; ++view) {
    plan.query_inverse_norms[view] = take(d.query_heads, d.queries);
    plan.key_inverse_norms[view] = take(d.key_heads, d.keys);
  }
  if (chosen.path == SIEVE_PATH_HOPPER) {
    plan.next_tile = reinterpret_cast<int32_t *>(take(1, 1));
    plan.multiprocessors = c.multiprocessors;
  }
  call.workspace_bytes = offset;
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
    sieve::require_pointer("workspace", workspace);
    if (reinterpret_cast<uintptr_t>(workspace) % 256 != 0)
      throw sieve::Failure(SIEVE_STATUS_INVALID_ARGUMENT,
                           sieve::format("workspace is %p; allowed: an address divisible by 256", workspace));
    if (workspace_bytes < call.workspace_bytes)
      throw sieve::Failure(SIEVE_STATUS_WORKSPACE_TOO_SMALL,
                           sieve::format("workspace_bytes is %llu; allowed: at least %llu",
                                         static_cast<unsigned long long>(workspace_bytes),
                                         static_cast<unsigned long long>(call.workspace_bytes)));
    const sieve::runtime::DeviceScope scope(context->device);
    sieve::runtime::check_launch(call.kernel->launch[call.plan.views - 1](call.plan, stream), "launching tda forward");
    if (context->logs(SIEVE_LOG_TRACE))
      context->log(
          SIEVE_LOG_TRACE,
          sieve::format(
              "tda forward: %d views, batch %d, %d query heads, %d queries, %lld keys, head_dim %d, %s kernel",
              call.plan.views, call.plan.problem.batch, call.plan.problem.query_heads, call.plan.problem.queries,
              static_cast<long long>(call.plan.key_rows), call.kernel->description.head_dim,
              call.kernel->description.path == SIEVE_PATH_HOPPER ? "hopper" : "generic"));
  });
}

}  // extern "C"
