// Differential attention of one sequence, forward and backward, in float64, one thread block a row, nothing clever:
// what the kernels are held to in native tests. The formulas are those of sieve/attention.h. `rounded` repeats what a
// plain evaluation in the element type does: weights, streams' outputs, their difference and every gradient are rounded
// before they are used again; sums stay exact.
#pragma once

#include <algorithm>

#include "tests/native/support/naive_tensor.h"

namespace sieve::test {

// Softmax attention of the heads of one stream. Arrays [head][queries](x dim), key gradients [key head][keys](x dim).
struct NaiveStream {
  NaiveTensor query, key, value;
  int queries, keys, head_dim, value_dim, heads, group;
  bool causal;
  long long offset, window;
  double scale;
  bool rounded;
  double *lse, *output, *output_gradient, *query_gradient, *key_gradient, *value_gradient;
};

// out[h] = epilogue(first[h / signals * step + h % signals] - weight second[h / signals * step]).
struct NaiveSubtraction {
  int queries, value_dim, heads, signals, step;
  const double *first, *second;
  const float *lambda;  // [head] with stride 1, or [head][scalar_stride] logits
  bool logits;
  const float *gate, *gain;  // or null; the gate's strides are those of logits
  long long scalar_stride;
  bool rms;
  double eps, output_scale;
  bool rounded;
  NaiveTensor output_gradient;
  double *output, *first_gradient, *second_gradient, *gate_gradient,
      *weight_gradient;               // gradients of streams are added
  double *gain_gradient, *gain_size;  // sums of the contributions and of their magnitudes
};

template <typename Element>
__device__ double naive_round(double x, bool rounded) {
  return rounded ? static_cast<double>(static_cast<float>(static_cast<Element>(static_cast<float>(x)))) : x;
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

__device__ inline bool naive_visible(const NaiveStream &p, int row, long long key) {
  const long long position = row + p.offset;
  return key < p.keys && (!p.causal || key <= position) && (p.window == 0 || key > position - p.window);
}

template <typename Element>
__device__ double naive_score(const NaiveStream &p, int head, int row, int key) {
  double sum = 0;
  for (int d = 0; d < p.head_dim; ++d)
    sum += naive_element<Element>(p.query, head, row, d) * naive_element<Element>(p.key, head / p.group, key, d);
  return p.scale * sum;
}

// do[row] . v[key] - do[row] . o[row]
template <typename Element>
__device__ double naive_weight_gradient(const NaiveStream &p, int head, int row, int key, double delta) {
  const double *gradient = p.output_gradient + (static_cast<long long>(head) * p.queries + row) * p.value_dim;
  double sum = 0;
  for (int d = 0; d < p.value_dim; ++d) sum += gradient[d] * naive_element<Element>(p.value, head / p.group, key, d);
  return sum - delta;
}

__device__ inline double naive_delta(const NaiveStream &p, int head, int row) {
  const long long at = (static_cast<long long>(head) * p.queries + row) * p.value_dim;
  double sum = 0;
  for (int d = 0; d < p.value_dim; ++d) sum += p.output[at + d] * p.output_gradient[at + d];
  return sum;
}

// blockIdx = (row, head). Shared: a double a key. lse and output; `backward`: query_gradient.
template <typename Element>
__global__ void naive_stream_rows(NaiveStream p, bool backward) {
  extern __shared__ double weight[];
  const int row = static_cast<int>(blockIdx.x), head = static_cast<int>(blockIdx.y),
            thread = static_cast<int>(threadIdx.x);
  const long long at = static_cast<long long>(head) * p.queries + row;
  for (int j = thread; j < p.keys; j += kNaiveThreads)
    weight[j] = naive_visible(p, row, j) ? naive_score<Element>(p, head, row, j) : -INFINITY;
  __syncthreads();
  double top = -INFINITY, total = 0;
  for (int j = 0; j < p.keys; ++j) top = weight[j] > top || weight[j] != weight[j] ? weight[j] : top;
  for (int j = thread; j < p.keys; j += kNaiveThreads) total += naive_visible(p, row, j) ? exp(weight[j] - top) : 0;
  total = naive_sum(total);
  const double lse = total == 0 ? -INFINITY : top + log(total), delta = backward ? naive_delta(p, head, row) : 0;
  for (int j = thread; j < p.keys; j += kNaiveThreads) {
    if (!naive_visible(p, row, j)) continue;
    weight[j] = exp(weight[j] - lse);
    if (backward) weight[j] *= naive_weight_gradient<Element>(p, head, row, j, delta);
    weight[j] = naive_round<Element>(weight[j], p.rounded);
  }
  __syncthreads();
  const int dim = backward ? p.head_dim : p.value_dim;
  for (int c = thread; c < dim; c += kNaiveThreads) {
    double sum = 0;
    for (int j = 0; j < p.keys; ++j)
      if (naive_visible(p, row, j))
        sum += weight[j] * naive_element<Element>(backward ? p.key : p.value, head / p.group, j, c);
    if (backward)
      p.query_gradient[at * dim + c] = naive_round<Element>(p.scale * sum, p.rounded);
    else
      p.output[at * dim + c] = naive_round<Element>(sum, p.rounded);
  }
  if (thread == 0 && !backward) p.lse[at] = lse;
}

// blockIdx = (key, key head). Shared: two doubles a query row. Adds to value_gradient.
template <typename Element>
__global__ void naive_stream_keys(NaiveStream p) {
  extern __shared__ double shared[];
  double *weight = shared, *score_gradient = shared + p.queries;
  const int key = static_cast<int>(blockIdx.x), key_head = static_cast<int>(blockIdx.y),
            thread = static_cast<int>(threadIdx.x);
  double key_sum[2] = {}, value_sum[2] = {};
  for (int head = key_head * p.group; head < (key_head + 1) * p.group; ++head) {
    __syncthreads();
    for (int i = thread; i < p.queries; i += kNaiveThreads) {
      if (!naive_visible(p, i, key)) continue;
      const double w = exp(naive_score<Element>(p, head, i, key) - p.lse[static_cast<long long>(head) * p.queries + i]);
      const double g = w * naive_weight_gradient<Element>(p, head, i, key, naive_delta(p, head, i));
      weight[i] = naive_round<Element>(w, p.rounded);
      score_gradient[i] = naive_round<Element>(g, p.rounded);
    }
    __syncthreads();
    for (int i = 0; i < p.queries; ++i) {
      if (!naive_visible(p, i, key)) continue;
      const double *gradient = p.output_gradient + (static_cast<long long>(head) * p.queries + i) * p.value_dim;
      for (int half = 0; half < 2; ++half) {
        const int c = thread + half * kNaiveThreads;
        if (c < p.head_dim) key_sum[half] += score_gradient[i] * naive_element<Element>(p.query, head, i, c);
        if (c < p.value_dim) value_sum[half] += weight[i] * gradient[c];
      }
    }
  }
  const long long at = static_cast<long long>(key_head) * p.keys + key;
  for (int half = 0; half < 2; ++half) {
    const int c = thread + half * kNaiveThreads;
    if (c < p.head_dim) p.key_gradient[at * p.head_dim + c] = naive_round<Element>(p.scale * key_sum[half], p.rounded);
    if (c < p.value_dim) p.value_gradient[at * p.value_dim + c] += value_sum[half];
  }
}

// blockIdx = (row, output head).
template <typename Element>
__global__ void naive_subtract(NaiveSubtraction p, bool backward) {
  const int row = static_cast<int>(blockIdx.x), head = static_cast<int>(blockIdx.y),
            thread = static_cast<int>(threadIdx.x);
  const long long at = (static_cast<long long>(head) * p.queries + row) * p.value_dim;
  const int group = head / p.signals * p.step;
  const long long first = (static_cast<long long>(group + head % p.signals) * p.queries + row) * p.value_dim,
                  second = (static_cast<long long>(group) * p.queries + row) * p.value_dim;
  const double weight = p.logits ? 1 / (1 + exp(-static_cast<double>(p.lambda[head * p.scalar_stride + row])))
                                 : static_cast<double>(p.lambda[head]);
  double x[2] = {}, u[2] = {}, squares = 0;
  for (int half = 0; half < 2; ++half) {
    const int c = thread + half * kNaiveThreads;
    if (c < p.value_dim) x[half] = naive_round<Element>(p.first[first + c] - weight * p.second[second + c], p.rounded);
    squares += x[half] * x[half];
  }
  squares = naive_sum(squares);
  const double power = squares / p.value_dim + p.eps;
  const double inverse = !p.rms ? 1 : power > 0 ? 1 / sqrt(power) : power == 0 ? 0 : NAN;
  const double gate = p.gate == nullptr ? 1 : 1 / (1 + exp(-static_cast<double>(p.gate[head * p.scalar_stride + row])));
  const double factor = p.output_scale * gate * inverse;
  double dot = 0;
  for (int half = 0; half < 2; ++half) {
    const int c = thread + half * kNaiveThreads;
    if (c >= p.value_dim) continue;
    const double gain = p.gain == nullptr ? 1 : static_cast<double>(p.gain[c]);
    if (!backward) p.output[at + c] = naive_round<Element>(factor * gain * x[half], p.rounded);
    if (!backward) continue;
    const double gradient = naive_element<Element>(p.output_gradient, head, row, c);
    u[half] = gradient * gain;
    dot += u[half] * x[half];
    atomicAdd(p.gain_gradient + c, factor * gradient * x[half]);
    atomicAdd(p.gain_size + c, fabs(factor * gradient * x[half]));
  }
  if (!backward) return;
  dot = naive_sum(dot);
  double minus = 0;
  for (int half = 0; half < 2; ++half) {
    const int c = thread + half * kNaiveThreads;
    if (c >= p.value_dim) continue;
    const double along = p.rms ? inverse * inverse * dot / p.value_dim * x[half] : 0;
    const double dx = naive_round<Element>(factor * (u[half] - along), p.rounded);
    minus -= dx * p.second[second + c];
    p.first_gradient[first + c] = dx;
    atomicAdd(p.second_gradient + second + c, naive_round<Element>(-weight * dx, p.rounded));
  }
  minus = naive_sum(minus);
  if (thread != 0) return;
  p.gate_gradient[at / p.value_dim] = factor * dot * (1 - gate);
  p.weight_gradient[at / p.value_dim] = p.logits ? minus * weight * (1 - weight) : minus;
}

template <class Kernel, class... Arguments>
void naive_launch(Kernel kernel, int blocks, int heads, int doubles, Arguments... arguments) {
  if (blocks == 0) return;
  const size_t shared = static_cast<size_t>(std::max(doubles, 1)) * sizeof(double);
  check_cuda(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared)),
             "naive attribute");
  kernel<<<dim3(static_cast<unsigned>(blocks), static_cast<unsigned>(heads)), kNaiveThreads, shared>>>(arguments...);
  check_cuda(cudaGetLastError(), "naive differential");
}

inline void naive_forward(const NaiveStream &p, int32_t dtype) {
  const auto kernel = dtype == SIEVE_DTYPE_BFLOAT16 ? naive_stream_rows<__nv_bfloat16> : naive_stream_rows<__half>;
  naive_launch(kernel, p.queries, p.heads, p.keys, p, false);
}

inline void naive_backward(const NaiveStream &p, int32_t dtype) {
  const bool bfloat16 = dtype == SIEVE_DTYPE_BFLOAT16;
  naive_launch(bfloat16 ? naive_stream_rows<__nv_bfloat16> : naive_stream_rows<__half>, p.queries, p.heads, p.keys, p,
               true);
  naive_launch(bfloat16 ? naive_stream_keys<__nv_bfloat16> : naive_stream_keys<__half>, p.keys, p.heads / p.group,
               2 * p.queries, p);
}

inline void naive_difference(const NaiveSubtraction &p, int32_t dtype, bool backward) {
  const auto kernel = dtype == SIEVE_DTYPE_BFLOAT16 ? naive_subtract<__nv_bfloat16> : naive_subtract<__half>;
  naive_launch(kernel, p.queries, p.heads, 1, p, backward);
}

}  // namespace sieve::test
