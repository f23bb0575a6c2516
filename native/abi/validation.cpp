#include "abi/validation.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace sieve {

namespace {
[[noreturn]] void invalid(const std::string &message) {
  throw Failure(SIEVE_STATUS_INVALID_ARGUMENT, message);
}

std::string text_of(const int64_t (&sizes)[4]) {
  std::string text = "[";
  for (int d = 0; d < 4; ++d)
    text += (d == 0 ? "" : ", ") + (sizes[d] == 0 ? std::string("any") : std::to_string(sizes[d]));
  return text + "]";
}
}  // namespace

void require_pointer(const char *name, const void *pointer) {
  if (pointer == nullptr) invalid(format("%s is NULL; allowed: a valid pointer", name));
}

void require_zero(const char *name, int64_t value) {
  if (value != 0) invalid(format("%s is %lld; allowed: 0", name, static_cast<long long>(value)));
}

void require_range(const char *name, int64_t value, int64_t least, int64_t most) {
  if (value < least || value > most)
    invalid(format("%s is %lld; allowed: %lld to %lld", name, static_cast<long long>(value),
                   static_cast<long long>(least), static_cast<long long>(most)));
}

void require_finite(const char *name, float value) {
  if (!std::isfinite(value)) invalid(format("%s is %g; allowed: a finite number", name, static_cast<double>(value)));
}

int dtype_bytes(int32_t dtype) {
  return dtype == SIEVE_DTYPE_FLOAT16 || dtype == SIEVE_DTYPE_BFLOAT16 ? 2 : 4;
}

const char *dtype_label(int32_t dtype) {
  static constexpr const char *kNames[] = {"none", "float16", "bfloat16", "float32", "int32"};
  return dtype >= 0 && dtype <= SIEVE_DTYPE_INT32 ? kNames[dtype] : "unknown";
}

void require_tensor(const char *name, const sieve_tensor &tensor, const int64_t (&sizes)[4]) {
  if (tensor.data == nullptr)
    invalid(format("%s.data is NULL; allowed: device memory of shape %s", name, text_of(sizes).c_str()));
  require_zero(format("%s.reserved", name).c_str(), tensor.reserved);
  require_range(format("%s.dtype", name).c_str(), tensor.dtype, SIEVE_DTYPE_FLOAT16, SIEVE_DTYPE_INT32);
  for (int d = 0; d < 4; ++d) {
    const int64_t size = tensor.sizes[d];
    if (size < 1 || size > std::numeric_limits<int32_t>::max() || (sizes[d] != 0 && size != sizes[d]))
      invalid(format("%s has shape %s; allowed: %s, each at least 1 and below 2^31", name,
                     text_of(tensor.sizes).c_str(), text_of(sizes).c_str()));
    if (tensor.strides[d] < 0 && size > 1)
      invalid(
          format("%s.strides[%d] is %lld; allowed: 0 and larger", name, d, static_cast<long long>(tensor.strides[d])));
  }
}

void require_absent(const char *name, const sieve_tensor &tensor, const char *why) {
  if (tensor.data != nullptr) invalid(format("%s is given; allowed: data = NULL, %s", name, why));
}

void require_dtype(const char *name, const sieve_tensor &tensor, sieve_dtype allowed) {
  if (tensor.dtype != allowed)
    invalid(format("%s.dtype is %s; allowed: %s", name, dtype_label(tensor.dtype), dtype_label(allowed)));
}

void require_vector_access(const char *name, const sieve_tensor &tensor, int bytes) {
  const int elements = bytes / dtype_bytes(tensor.dtype);
  if (reinterpret_cast<uintptr_t>(tensor.data) % static_cast<uintptr_t>(bytes) != 0)
    invalid(format("%s.data is %p; allowed: an address divisible by %d", name, tensor.data, bytes));
  if (tensor.sizes[3] > 1 && tensor.strides[3] != 1)
    invalid(format("%s.strides[3] is %lld; allowed: 1 (contiguous channels)", name,
                   static_cast<long long>(tensor.strides[3])));
  for (int d = 0; d < 3; ++d)
    if (tensor.sizes[d] > 1 && tensor.strides[d] % elements != 0)
      invalid(format("%s.strides[%d] is %lld; allowed: a multiple of %d elements (%d bytes)", name, d,
                     static_cast<long long>(tensor.strides[d]), elements, bytes));
}

TensorView view_of(const sieve_tensor &tensor) {
  return {tensor.data, tensor.strides[0], tensor.strides[1], tensor.strides[2]};
}

ScalarView require_scalar(const char *name, const sieve_scalar &scalar) {
  if (scalar.device == nullptr) {
    require_finite(format("%s.value", name).c_str(), scalar.value);
    require_zero(format("%s.head_stride", name).c_str(), scalar.head_stride);
  } else {
    require_range(format("%s.head_stride", name).c_str(), scalar.head_stride, 0, 1);
  }
  return {scalar.device, scalar.value, scalar.head_stride};
}

ProblemView require_problem(const sieve_attention_problem &p, const Dimensions &d, int64_t output_heads) {
  constexpr int64_t kInt32 = std::numeric_limits<int32_t>::max();
  require_range("problem.causal", p.causal, 0, 1);
  require_range("problem.query_alignment", p.query_alignment, SIEVE_QUERY_ALIGNMENT_END, SIEVE_QUERY_ALIGNMENT_OFFSET);
  require_range("problem.path", p.path, SIEVE_PATH_AUTOMATIC, SIEVE_PATH_HOPPER);
  if (p.query_alignment == SIEVE_QUERY_ALIGNMENT_END) require_zero("problem.query_offset", p.query_offset);
  require_range("problem.query_offset", p.query_offset, -kMostRows, kMostRows);
  require_range("problem.window", p.window, 0, std::numeric_limits<int64_t>::max());
  require_range("rows of query", d.queries, 1, kMostRows);
  require_range("rows of key", d.keys, 1, kMostRows);

  const bool packed = p.query_starts != nullptr;
  if (packed != (p.key_starts != nullptr))
    invalid("problem.key_starts is given without query_starts or the other way; allowed: both or neither");
  if (packed && p.key_lengths != nullptr) invalid("problem.key_lengths is given; allowed: NULL with packed sequences");
  if (packed && d.batch != 1)
    invalid(format("query has batch %lld; allowed: 1 with packed sequences", static_cast<long long>(d.batch)));
  require_range("problem.sequence_count", p.sequence_count, packed ? 1 : 0, packed ? kInt32 - 1 : 0);
  require_range("problem.longest_query", p.longest_query, packed ? 1 : 0, packed ? d.queries : 0);

  require_range("problem.norm", p.norm, SIEVE_NORM_NONE, SIEVE_NORM_RMS);
  require_finite("problem.norm_eps", p.norm_eps);
  if (p.norm_eps < 0) invalid(format("problem.norm_eps is %g; allowed: 0 and larger", static_cast<double>(p.norm_eps)));
  if (p.norm == SIEVE_NORM_NONE && p.norm_eps != 0)
    invalid(format("problem.norm_eps is %g; allowed: 0 without a norm", static_cast<double>(p.norm_eps)));
  if (p.norm == SIEVE_NORM_NONE && p.norm_gain != nullptr)
    invalid("problem.norm_gain is given; allowed: NULL without a norm");
  require_finite("problem.output_scale", p.output_scale);
  require_range("problem.repeatability", p.repeatability, SIEVE_REPEATABILITY_FASTEST, SIEVE_REPEATABILITY_BITWISE);
  if (p.gate.data != nullptr) {
    require_tensor("problem.gate", p.gate, {d.batch, output_heads, d.queries, 1});
    require_dtype("problem.gate", p.gate, SIEVE_DTYPE_FLOAT32);
  }

  ProblemView view;
  view.batch = static_cast<int32_t>(packed ? p.sequence_count : d.batch);
  view.query_heads = static_cast<int32_t>(d.query_heads);
  view.group = static_cast<int32_t>(d.query_heads / d.key_heads);
  view.queries = static_cast<int32_t>(packed ? p.longest_query : d.queries);
  view.keys = static_cast<int32_t>(d.keys);
  view.causal = p.causal;
  view.align_end = p.query_alignment == SIEVE_QUERY_ALIGNMENT_END;
  view.query_offset = static_cast<int32_t>(p.query_offset);
  view.window = static_cast<int32_t>(std::min(p.window, 2 * kMostRows));  // larger ones see the same keys
  view.query_starts = p.query_starts;
  view.key_starts = p.key_starts;
  view.key_lengths = p.key_lengths;
  view.epilogue = {p.norm_gain,       static_cast<const float *>(p.gate.data),
                   p.gate.strides[0], p.gate.strides[1],
                   p.gate.strides[2], p.norm_eps,
                   p.output_scale,    p.norm == SIEVE_NORM_RMS};
  return view;
}

}  // namespace sieve
