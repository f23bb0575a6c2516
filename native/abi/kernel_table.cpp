#include "abi/kernel_table.h"

#include <cstdlib>
#include <string>

#include "abi/context.h"
#include "abi/failure.h"
#include "abi/validation.h"
#include "operators/differential/problem.h"
#include "operators/softmax/problem.h"
#include "operators/threshold_differential/backward_problem.h"
#include "operators/threshold_differential/decode_problem.h"
#include "operators/threshold_differential/problem.h"

namespace sieve {

// One line an operator and direction: how many kernels it has, and the description of each.
namespace {
struct Contribution {
  int count;
  const KernelDescription &(*at)(int index);
};

template <auto kList>
Contribution contribution() {
  return {kList().count, [](int index) -> const KernelDescription & { return kList().first[index].description; }};
}

template <typename Visitor>
void for_each_contribution(Visitor &&visit) {
  visit(contribution<softmax::forward_kernels>());
  visit(contribution<softmax::backward_kernels>());
  visit(contribution<softmax::decode_kernels>());
  visit(contribution<threshold_differential::forward_kernels>());
  visit(contribution<threshold_differential::backward_kernels>());
  visit(contribution<threshold_differential::decode_kernels>());
  visit(contribution<differential::forward_kernels>());
  visit(contribution<differential::backward_kernels>());
  visit(contribution<differential::decode_kernels>());
}

const char *operation_name(int32_t operation) {
  static constexpr const char *kNames[] = {"softmax", "tda", "diff", "diff_v2", "ssa", "entmax", "support_basis"};
  return kNames[operation];
}

const char *direction_name(int32_t direction) {
  static constexpr const char *kNames[] = {"forward", "backward", "decode"};
  return kNames[direction];
}

const char *path_name(int32_t path) {
  static constexpr const char *kNames[] = {"automatic", "generic", "hopper"};
  return kNames[path];
}

const char *dtype_name(int32_t dtype) {
  static constexpr const char *kNames[] = {"none", "float16", "bfloat16", "float32", "int32"};
  return kNames[dtype];
}

std::string describe(const KernelDescription &k) {
  return format("%s %s %s %s head_dim %d value_dim %d", operation_name(k.operation), direction_name(k.direction),
                path_name(k.path), dtype_name(k.dtype), k.head_dim, k.value_dim);
}

// Machine code written for Hopper alone does not run on what came after it.
bool runs_on(const KernelDescription &k, int32_t capability) {
  return k.path == SIEVE_PATH_HOPPER ? capability == k.capability : capability >= k.capability;
}

// How far a kernel is from a question; the message names the nearest.
int distance(const KernelDescription &k, const sieve_support_query &q, int32_t capability) {
  return (k.operation != q.operation) * 100000 + (k.direction != q.direction) * 50000 +
         !runs_on(k, capability) * 20000 + (q.path != SIEVE_PATH_AUTOMATIC && k.path != q.path) * 10000 +
         (k.dtype != q.dtype) * 5000 + std::abs(k.head_dim - q.head_dim) + std::abs(k.value_dim - q.value_dim);
}
}  // namespace

int kernel_count() {
  int count = 0;
  for_each_contribution([&](const Contribution &c) { count += c.count; });
  return count;
}

const KernelDescription &kernel_at(int index) {
  const KernelDescription *found = nullptr;
  for_each_contribution([&](const Contribution &c) {
    if (index >= 0 && index < c.count) found = &c.at(index);
    index -= c.count;
  });
  if (found == nullptr) throw Failure(SIEVE_STATUS_INTERNAL_ERROR, "kernel index outside the table");
  return *found;
}

const KernelDescription &find_kernel(const sieve_support_query &query, int32_t capability) {
  const KernelDescription *best = nullptr;
  int best_distance = 0;
  for_each_contribution([&](const Contribution &c) {
    for (int i = 0; i < c.count; ++i) {
      const KernelDescription &kernel = c.at(i);
      const int d = distance(kernel, query, capability);
      // Of several that fit, the one written for the newest capability is the fastest.
      if (best == nullptr || d < best_distance || (d == best_distance && kernel.capability > best->capability)) {
        best = &kernel;
        best_distance = d;
      }
    }
  });
  if (best == nullptr) throw Failure(SIEVE_STATUS_UNAVAILABLE, "this build of the library contains no CUDA kernels");
  if (best_distance != 0)
    throw Failure(
        SIEVE_STATUS_UNSUPPORTED,
        format(
            "no kernel for %s %s, path %s, %s, head_dim %d, value_dim %d on compute capability %d.%d; the nearest supported is %s (compute capability %d.%d%s)",
            operation_name(query.operation), direction_name(query.direction), path_name(query.path),
            dtype_name(query.dtype), query.head_dim, query.value_dim, capability / 10, capability % 10,
            describe(*best).c_str(), best->capability / 10, best->capability % 10,
            best->path == SIEVE_PATH_HOPPER ? "" : " and newer"));
  return *best;
}

}  // namespace sieve

extern "C" {

int32_t sieve_kernel_count(int32_t *count) {
  return sieve::guarded(__func__, [&] {
    sieve::require_pointer("count", count);
    *count = sieve::kernel_count();
  });
}

int32_t sieve_kernel_describe(int32_t index, sieve_kernel_info *info) {
  return sieve::guarded(__func__, [&] {
    sieve::require_range("index", index, 0, sieve::kernel_count() - 1);
    sieve::require_exact_size("info", info, sizeof(sieve_kernel_info));
    const sieve::KernelDescription &k = sieve::kernel_at(index);
    info->operation = k.operation;
    info->direction = k.direction;
    info->path = k.path;
    info->dtype = k.dtype;
    info->head_dim = k.head_dim;
    info->value_dim = k.value_dim;
    info->capability = k.capability;
  });
}

int32_t sieve_support(const sieve_context *context, const sieve_support_query *query) {
  return sieve::guarded(__func__, [&] {
    const sieve_context &c = sieve::checked_context(context);
    const sieve_support_query q = sieve::versioned_copy("query", query);
    sieve::require_range("query.operation", q.operation, SIEVE_OPERATION_SOFTMAX, SIEVE_OPERATION_SUPPORT_BASIS);
    sieve::require_range("query.direction", q.direction, SIEVE_DIRECTION_FORWARD, SIEVE_DIRECTION_DECODE);
    sieve::require_range("query.path", q.path, SIEVE_PATH_AUTOMATIC, SIEVE_PATH_HOPPER);
    sieve::require_range("query.dtype", q.dtype, SIEVE_DTYPE_FLOAT16, SIEVE_DTYPE_INT32);
    sieve::require_range("query.head_dim", q.head_dim, 1, 1 << 20);
    sieve::require_range("query.value_dim", q.value_dim, 1, 1 << 20);
    sieve::require_zero("query.reserved", q.reserved);
    sieve::find_kernel(q, c.capability);
  });
}

}  // extern "C"
