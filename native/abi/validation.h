// Checks of arguments. Every message names the argument, the value received and what is allowed.
#pragma once

#include <cstdint>
#include <cstring>

#include "abi/failure.h"
#include "device/problem.h"
#include "sieve/attention.h"

namespace sieve {

void require_pointer(const char *name, const void *pointer);
void require_zero(const char *name, int64_t value);
void require_range(const char *name, int64_t value, int64_t least, int64_t most);
void require_finite(const char *name, float value);

// A structure that the library writes: only what the caller's size holds may be written; version 1 knows one size.
template <typename T>
void require_exact_size(const char *name, const T *structure, uint32_t size) {
  require_pointer(name, structure);
  if (structure->struct_size != size)
    throw Failure(SIEVE_STATUS_INVALID_ARGUMENT,
                  format("%s.struct_size is %u; allowed: %u", name, structure->struct_size, size));
}

// A structure that the library reads: an older caller's is shorter, and what it lacks reads as zero.
template <typename T>
T versioned_copy(const char *name, const T *structure) {
  require_pointer(name, structure);
  constexpr uint32_t kOldest = sizeof(T);  // the size of version 1; stays when fields are appended
  if (structure->struct_size < kOldest || structure->struct_size > sizeof(T))
    throw Failure(SIEVE_STATUS_INVALID_ARGUMENT,
                  format("%s.struct_size is %u; allowed: %u to %zu", name, structure->struct_size, kOldest, sizeof(T)));
  T copy{};
  std::memcpy(&copy, structure, structure->struct_size);
  return copy;
}

// A tensor with the given sizes; 0 accepts any size of at least 1.
void require_tensor(const char *name, const sieve_tensor &tensor, const int64_t (&sizes)[4]);
void require_absent(const char *name, const sieve_tensor &tensor, const char *why);
void require_dtype(const char *name, const sieve_tensor &tensor, sieve_dtype allowed);
// Channels contiguous, base and row strides fit vectors of `bytes` bytes.
void require_vector_access(const char *name, const sieve_tensor &tensor, int bytes);

int dtype_bytes(int32_t dtype);
const char *dtype_label(int32_t dtype);
TensorView view_of(const sieve_tensor &tensor);
ScalarView require_scalar(const char *name, const sieve_scalar &scalar);

// Dimensions of one call, read from its tensors.
struct Dimensions {
  int64_t batch, query_heads, key_heads, queries, keys, head_dim, value_dim;
};

// Checks the part that all operators share, except fields that the operator itself allows or refuses, and translates
// it. Output heads are those of `output_heads` (the gate has one logit for each of their rows).
ProblemView require_problem(const sieve_attention_problem &problem, const Dimensions &dimensions, int64_t output_heads);

}  // namespace sieve
