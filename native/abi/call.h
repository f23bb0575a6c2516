// What the entry points of every operator do alike: check queries, keys, values and outputs, choose a kernel, divide
// the workspace, report the launch.
#pragma once

#include <initializer_list>

#include "abi/context.h"
#include "abi/kernel_table.h"
#include "abi/validation.h"

namespace sieve {

// A tensor and the name by which messages call it.
struct NamedTensor {
  const char *name;
  const sieve_tensor *tensor;
};

// Queries [batch, query heads, queries, head_dim] and keys [entries, key heads, keys, head_dim] of one 16-bit type, in
// vectors of 16 bytes; the query heads are a multiple of the key heads. Entries are the batch, or any number of pages.
// The value_dim of the result is 0.
enum class KeyLayout { kBatch, kPages };
Dimensions require_query_and_key(const NamedTensor &query, const NamedTensor &key,
                                 KeyLayout layout = KeyLayout::kBatch);

// Values of these keys; completes the dimensions.
void require_value(const NamedTensor &value, const NamedTensor &key, Dimensions &dimensions);

// The tensor that is written: [batch, query heads, queries, value_dim], `type` or float32, no element twice.
void require_output(const NamedTensor &output, int32_t type, const Dimensions &dimensions);

// One float a query row: float32 [batch, query heads, queries, 1].
void require_row_values(const NamedTensor &tensor, const Dimensions &dimensions);

// A tensor that is written must not repeat itself.
void require_positive_strides(const NamedTensor &tensor, const char *why);

OutputType output_type_of(const sieve_tensor &tensor);

// The path to ask the kernel table for: the copy engine cannot read a tensor that repeats itself (stride 0).
int32_t path_of(const sieve_attention_problem &problem, std::initializer_list<NamedTensor> inputs);

// The kernel of a list (`first`, `count`) for these dimensions; throws with the nearest one when there is none.
template <class List>
auto choose_kernel(const List &list, const sieve_context &context, int32_t operation, int32_t direction, int32_t path,
                   int32_t type, const Dimensions &d) {
  const sieve_support_query query{
      sizeof(sieve_support_query),       operation, direction, path, type, static_cast<int32_t>(d.head_dim),
      static_cast<int32_t>(d.value_dim), 0};
  const KernelDescription &chosen = find_kernel(query, context.capability);
  auto kernel = list.first;
  while (&kernel->description != &chosen) ++kernel;
  return kernel;
}

// Divides a workspace into arrays on 256-byte boundaries. Without memory it only adds up their sizes.
class Workspace {
 public:
  explicit Workspace(void *memory) : memory_(static_cast<char *>(memory)) {}

  template <typename T>
  T *take(int64_t count) {
    T *array = memory_ == nullptr ? nullptr : reinterpret_cast<T *>(memory_ + bytes_);
    bytes_ += (static_cast<uint64_t>(count) * sizeof(T) + 255) / 256 * 256;
    return array;
  }
  uint64_t bytes() const { return bytes_; }

 private:
  char *memory_;
  uint64_t bytes_ = 0;
};

// The workspace that a launch was given, against what its plan needs.
void require_workspace(const void *workspace, uint64_t bytes, uint64_t needed);

// Thread blocks are numbered by 32 bits: query rows in blocks of 64 or more, of every head and sequence.
void require_block_count(const ProblemView &problem);

// "tda forward: batch 1, ...", at trace level.
void log_launch(const sieve_context &context, const char *what, const ProblemView &problem,
                const KernelDescription &kernel);

}  // namespace sieve
