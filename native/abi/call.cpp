#include "abi/call.h"

namespace sieve {

Dimensions require_query_and_key(const NamedTensor &query, const NamedTensor &key, KeyLayout layout) {
  const sieve_tensor &q = *query.tensor, &k = *key.tensor;
  require_tensor(query.name, q, {0, 0, 0, 0});
  if (q.dtype != SIEVE_DTYPE_FLOAT16 && q.dtype != SIEVE_DTYPE_BFLOAT16)
    throw Failure(SIEVE_STATUS_UNSUPPORTED,
                  format("%s.dtype is %s; allowed: float16, bfloat16", query.name, dtype_label(q.dtype)));
  require_tensor(key.name, k, {layout == KeyLayout::kBatch ? q.sizes[0] : 0, 0, 0, q.sizes[3]});
  const Dimensions d{q.sizes[0], q.sizes[1], k.sizes[1], q.sizes[2], k.sizes[2], q.sizes[3], 0};
  if (d.query_heads % d.key_heads != 0)
    throw Failure(SIEVE_STATUS_INVALID_ARGUMENT,
                  format("%s has %lld heads; allowed: a divisor of the %lld query heads", key.name,
                         static_cast<long long>(d.key_heads), static_cast<long long>(d.query_heads)));
  require_dtype(key.name, k, static_cast<sieve_dtype>(q.dtype));
  require_vector_access(query.name, q, 16);
  require_vector_access(key.name, k, 16);
  return d;
}

void require_value(const NamedTensor &value, const NamedTensor &key, Dimensions &d) {
  const sieve_tensor &k = *key.tensor;
  require_tensor(value.name, *value.tensor, {k.sizes[0], k.sizes[1], k.sizes[2], 0});
  require_dtype(value.name, *value.tensor, static_cast<sieve_dtype>(k.dtype));
  require_vector_access(value.name, *value.tensor, 16);
  d.value_dim = value.tensor->sizes[3];
}

void require_output(const NamedTensor &output, int32_t type, const Dimensions &d) {
  require_tensor(output.name, *output.tensor, {d.batch, d.query_heads, d.queries, d.value_dim});
  if (output.tensor->dtype != SIEVE_DTYPE_FLOAT32)
    require_dtype(output.name, *output.tensor, static_cast<sieve_dtype>(type));
  require_vector_access(output.name, *output.tensor, 16);
  require_positive_strides(output, "it is written");
}

void require_row_values(const NamedTensor &tensor, const Dimensions &d) {
  require_tensor(tensor.name, *tensor.tensor, {d.batch, d.query_heads, d.queries, 1});
  require_dtype(tensor.name, *tensor.tensor, SIEVE_DTYPE_FLOAT32);
}

namespace {
int repeating_dimension(const sieve_tensor &tensor) {
  if (tensor.data == nullptr) return -1;
  for (int d = 0; d < 3; ++d)
    if (tensor.sizes[d] > 1 && tensor.strides[d] == 0) return d;
  return -1;
}
}  // namespace

void require_positive_strides(const NamedTensor &tensor, const char *why) {
  if (const int d = repeating_dimension(*tensor.tensor); d >= 0)
    throw Failure(SIEVE_STATUS_INVALID_ARGUMENT,
                  format("%s.strides[%d] is 0; allowed: 1 and larger, %s", tensor.name, d, why));
}

OutputType output_type_of(const sieve_tensor &tensor) {
  return tensor.dtype == SIEVE_DTYPE_FLOAT32 ? OutputType::kFloat32 : OutputType::kElement;
}

int32_t path_of(const sieve_attention_problem &problem, std::initializer_list<NamedTensor> inputs) {
  for (const NamedTensor &input : inputs) {
    if (repeating_dimension(*input.tensor) < 0) continue;
    if (problem.path == SIEVE_PATH_HOPPER)
      throw Failure(SIEVE_STATUS_INVALID_ARGUMENT,
                    format("%s has a stride of 0; allowed: positive strides on the path hopper", input.name));
    return SIEVE_PATH_GENERIC;
  }
  return problem.path;
}

void require_workspace(const void *workspace, uint64_t bytes, uint64_t needed) {
  if (needed == 0) return;
  require_pointer("workspace", workspace);
  if (reinterpret_cast<uintptr_t>(workspace) % 256 != 0)
    throw Failure(SIEVE_STATUS_INVALID_ARGUMENT,
                  format("workspace is %p; allowed: an address divisible by 256", workspace));
  if (bytes < needed)
    throw Failure(SIEVE_STATUS_WORKSPACE_TOO_SMALL,
                  format("workspace_bytes is %llu; allowed: at least %llu", static_cast<unsigned long long>(bytes),
                         static_cast<unsigned long long>(needed)));
}

void require_block_count(const ProblemView &problem) {
  const int64_t blocks = (static_cast<int64_t>(problem.queries) + 63) / 64 * problem.query_heads;
  require_range("query blocks x heads", blocks, 1, 2147483647);
  require_range("query blocks x heads x sequences", blocks * problem.batch, 1, 2147483647);
}

void log_launch(const sieve_context &context, const char *what, const ProblemView &problem,
                const KernelDescription &kernel) {
  if (!context.logs(SIEVE_LOG_TRACE)) return;
  context.log(SIEVE_LOG_TRACE,
              format("%s: batch %d, %d query heads, %d queries, %d keys, head_dim %d, value_dim %d, %s kernel", what,
                     problem.batch, problem.query_heads, problem.queries, problem.keys, kernel.head_dim,
                     kernel.value_dim, kernel.path == SIEVE_PATH_HOPPER ? "hopper" : "generic"));
}

}  // namespace sieve
