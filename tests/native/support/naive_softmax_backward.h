// Softmax attention, forward and backward, in float64, one thread block a row, nothing clever: what the backward
// kernels are held to in native tests. The formulas are those of sieve/attention.h. `rounded` repeats what a plain
// evaluation in the element type does: weights and score gradients are rounded before they are multiplied, and the
// row's delta comes from the rounded output; sums stay exact.
#pragma once

#include <algorithm>

#include "tests/native/support/naive_tensor.h"

namespace sieve::test {

struct NaiveSequence {
  NaiveTensor query, key, value, output_gradient;
  int queries, keys, head_dim, value_dim, query_heads, group;
  bool causal;
  long long offset, window;
  double scale, output_scale;
  int factor_kind;  // a sieve_row_factor
  double factor_first, factor_second;
  const float *factors;  // [head][factor_stride]
  const float *gate;     // the same strides
  long long scalar_stride;
  bool rounded;
  // Results [head][queries], and [head][queries][dim].
  double *lse, *output, *delta, *gate_gradient, *factor_gradient, *query_gradient, *key_gradient, *value_gradient;
};

template <typename Element>
__device__ double naive_dot(const NaiveTensor &a, int a_head, int a_row, const NaiveTensor &b, int b_head, int b_row,
                            int dim) {
  double sum = 0;
  for (int d = 0; d < dim; ++d)
    sum += naive_element<Element>(a, a_head, a_row, d) * naive_element<Element>(b, b_head, b_row, d);
  return sum;
}

template <typename Element>
__device__ double naive_round(double x, bool rounded) {
  return rounded ? static_cast<double>(static_cast<float>(static_cast<Element>(static_cast<float>(x)))) : x;
}

__device__ inline bool naive_visible(const NaiveSequence &p, int row, long long key) {
  const long long position = row + p.offset;
  return key < p.keys && (!p.causal || key <= position) && (p.window == 0 || key > position - p.window);
}

__device__ inline double naive_factor(const NaiveSequence &p, int head, int row) {
  const long long at = row + p.offset;
  const double position = fmax(static_cast<double>(at), 0.0);
  if (p.factor_kind == SIEVE_ROW_FACTOR_SSMAX) {
    const long long first = p.window > 0 ? max(at - p.window + 1, 0ll) : 0;
    const long long end = p.causal ? min(at + 1, static_cast<long long>(p.keys)) : p.keys;
    return p.factor_first * log(static_cast<double>(max(end - first, 1ll)));
  }
  if (p.factor_kind == SIEVE_ROW_FACTOR_ASENTMAX) return 1 + p.factor_first * pow(log(position + 2), p.factor_second);
  if (p.factor_kind == SIEVE_ROW_FACTOR_VECTOR) return static_cast<double>(p.factors[head * p.scalar_stride + row]);
  return 1;
}

__device__ inline double naive_gate(const NaiveSequence &p, int head, int row) {
  return p.gate == nullptr ? 1.0 : 1 / (1 + exp(-static_cast<double>(p.gate[head * p.scalar_stride + row])));
}

constexpr int kNaiveThreads = 128;

__device__ inline double naive_sum(double value) {
  __shared__ double parts[kNaiveThreads];
  __syncthreads();
  parts[threadIdx.x] = value;
  __syncthreads();
  double sum = 0;
  for (int i = 0; i < kNaiveThreads; ++i) sum += parts[i];
  return sum;
}

// blockIdx = (row, head). Shared: two doubles a key.
template <typename Element>
__global__ void naive_softmax_rows(NaiveSequence p) {
  extern __shared__ double shared[];
  double *weight = shared, *score_gradient = shared + p.keys;
  const int row = static_cast<int>(blockIdx.x), head = static_cast<int>(blockIdx.y), key_head = head / p.group;
  const long long at = static_cast<long long>(head) * p.queries + row;
  const int thread = static_cast<int>(threadIdx.x);
  const double factor = naive_factor(p, head, row), gate = naive_gate(p, head, row);
  double top = -INFINITY, total = 0;
  for (int j = thread; j < p.keys; j += kNaiveThreads)
    weight[j] = naive_visible(p, row, j)
                    ? p.scale * factor * naive_dot<Element>(p.query, head, row, p.key, key_head, j, p.head_dim)
                    : -INFINITY;
  __syncthreads();
  for (int j = 0; j < p.keys; ++j) top = weight[j] > top || weight[j] != weight[j] ? weight[j] : top;
  for (int j = thread; j < p.keys; j += kNaiveThreads) total += naive_visible(p, row, j) ? exp(weight[j] - top) : 0;
  total = naive_sum(total);
  const bool empty = total == 0;
  const double lse = empty ? -INFINITY : top + log(total);
  for (int j = thread; j < p.keys; j += kNaiveThreads) weight[j] = naive_visible(p, row, j) ? exp(weight[j] - lse) : 0;
  __syncthreads();
  double delta = 0, o = 0;
  if (thread < p.value_dim) {
    for (int j = 0; j < p.keys; ++j)
      if (naive_visible(p, row, j))
        o += naive_round<Element>(weight[j], p.rounded) * naive_element<Element>(p.value, key_head, j, thread);
    const double output = naive_round<Element>(o * p.output_scale * gate, p.rounded);
    p.output[at * p.value_dim + thread] = output;
    const double row_scale = p.output_scale * gate;
    if (p.rounded && row_scale != 0) o = output / row_scale;
    delta = empty ? 0 : o * naive_element<Element>(p.output_gradient, head, row, thread);
  }
  delta = naive_sum(delta);
  for (int j = thread; j < p.keys; j += kNaiveThreads)
    score_gradient[j] =
        naive_visible(p, row, j)
            ? naive_round<Element>(
                  gate * weight[j] *
                      (naive_dot<Element>(p.output_gradient, head, row, p.value, key_head, j, p.value_dim) - delta),
                  p.rounded)
            : 0;
  __syncthreads();
  double factor_gradient = 0;
  if (thread < p.head_dim) {
    double sum = 0;
    for (int j = 0; j < p.keys; ++j)
      if (naive_visible(p, row, j)) sum += score_gradient[j] * naive_element<Element>(p.key, key_head, j, thread);
    sum *= p.scale * p.output_scale;
    p.query_gradient[at * p.head_dim + thread] = naive_round<Element>(factor * sum, p.rounded);
    if (!empty) factor_gradient = sum * naive_element<Element>(p.query, head, row, thread);
  }
  factor_gradient = naive_sum(factor_gradient);
  if (thread == 0) {
    p.lse[at] = lse;
    p.delta[at] = delta;
    p.factor_gradient[at] = factor_gradient;
    p.gate_gradient[at] = delta * p.output_scale * gate * (1 - gate);
  }
}

// blockIdx = (key, key head). Shared: two doubles a query row.
template <typename Element>
__global__ void naive_softmax_keys(NaiveSequence p) {
  extern __shared__ double shared[];
  double *weight = shared, *score_gradient = shared + p.queries;
  const int key = static_cast<int>(blockIdx.x), key_head = static_cast<int>(blockIdx.y);
  const int thread = static_cast<int>(threadIdx.x);
  double key_sum = 0, value_sum = 0;
  for (int head = key_head * p.group; head < (key_head + 1) * p.group; ++head) {
    __syncthreads();
    for (int i = thread; i < p.queries; i += kNaiveThreads) {
      if (!naive_visible(p, i, key)) continue;
      const long long at = static_cast<long long>(head) * p.queries + i;
      const double factor = naive_factor(p, head, i), gate = naive_gate(p, head, i);
      const double w =
          gate *
          exp(p.scale * factor * naive_dot<Element>(p.query, head, i, p.key, key_head, key, p.head_dim) - p.lse[at]);
      const double g =
          w * (naive_dot<Element>(p.output_gradient, head, i, p.value, key_head, key, p.value_dim) - p.delta[at]);
      weight[i] = naive_round<Element>(w, p.rounded);
      score_gradient[i] = naive_round<Element>(factor * g, p.rounded);
    }
    __syncthreads();
    for (int i = 0; i < p.queries; ++i) {
      if (!naive_visible(p, i, key)) continue;
      if (thread < p.head_dim) key_sum += score_gradient[i] * naive_element<Element>(p.query, head, i, thread);
      if (thread < p.value_dim) value_sum += weight[i] * naive_element<Element>(p.output_gradient, head, i, thread);
    }
  }
  const long long at = static_cast<long long>(key_head) * p.keys + key;
  if (thread < p.head_dim)
    p.key_gradient[at * p.head_dim + thread] = naive_round<Element>(p.scale * p.output_scale * key_sum, p.rounded);
  if (thread < p.value_dim)
    p.value_gradient[at * p.value_dim + thread] = naive_round<Element>(p.output_scale * value_sum, p.rounded);
}

inline void naive_softmax_backward(const NaiveSequence &p, int32_t dtype) {
  const bool bfloat16 = dtype == SIEVE_DTYPE_BFLOAT16;
  const auto rows = bfloat16 ? naive_softmax_rows<__nv_bfloat16> : naive_softmax_rows<__half>;
  const auto keys = bfloat16 ? naive_softmax_keys<__nv_bfloat16> : naive_softmax_keys<__half>;
  const auto launch = [&](auto kernel, int blocks, int heads, int doubles) {
    if (blocks == 0) return;
    const size_t shared = static_cast<size_t>(2 * std::max(doubles, 1)) * sizeof(double);
    check_cuda(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared)),
               "naive attribute");
    kernel<<<dim3(static_cast<unsigned>(blocks), static_cast<unsigned>(heads)), kNaiveThreads, shared>>>(p);
    check_cuda(cudaGetLastError(), "naive_softmax_backward");
  };
  launch(rows, p.queries, p.query_heads, p.keys);
  launch(keys, p.keys, p.query_heads / p.group, p.queries);
  check_cuda(cudaDeviceSynchronize(), "naive_softmax_backward");
}

}  // namespace sieve::test
