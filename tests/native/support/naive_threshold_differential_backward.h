// Threshold differential attention, forward and backward, in float64, pair by pair, nothing clever: what the backward
// kernels are held to in native tests. The formulas are those of sieve/attention.h and their derivatives. `rounded`
// repeats what a plain evaluation in the element type does: the gradients before a norm, the weights (of forward, too)
// and the score gradients are rounded (to its digits, not to its exponents) before they are multiplied; sums stay
// exact.
#pragma once

#include <algorithm>

#include "tests/native/support/naive_tensor.h"

namespace sieve::test {

struct NaiveThresholdSequence {
  NaiveTensor query[2], key[2], value, output_gradient;  // query[1].data = nullptr: one view
  int queries, keys, head_dim, value_dim, query_heads, group;
  bool causal;
  long long offset, window;
  double beta, lambda, kappa, power;
  bool norm;
  double norm_eps, output_scale;
  const float *gain;  // or nullptr
  const float *gate;  // [head][scalar_stride], or nullptr
  long long scalar_stride;
  bool rounded;
  // Scratch: [view][head][row] and [view][key head][key] inverse norms; [head][row][key]: exceedances, then score
  // gradients, of either view, and weights; [head][row][value_dim]: gradients before the norm.
  double *query_norms, *key_norms, *pairs[2], *weights, *upstream;
  // Results: [head][row][dim] and [key head][key][dim]; [head][row]; [head][4][row]: what a row adds to the gradients
  // of beta, kappa and lambda, and the sum of the magnitudes in the last; [head][row][value_dim].
  double *query_gradient[2], *key_gradient[2], *value_gradient, *gate_gradient, *parameters, *gain_gradient;
};

constexpr int kNaivePairThreads = 128;

__device__ inline double naive_digits(double x, bool rounded, int digits) {
  if (!rounded || x == 0 || !isfinite(x)) return x;
  int exponent;
  const double mantissa = frexp(x, &exponent);
  return ldexp(rint(ldexp(mantissa, digits)), exponent - digits);
}
template <typename Element>
__device__ constexpr int naive_precision() {
  return sizeof(Element) == 2 && std::is_same_v<Element, __half> ? 11 : 8;
}

__device__ inline bool naive_sees(const NaiveThresholdSequence &p, int row, long long key) {
  const long long position = row + p.offset;
  return key < p.keys && (!p.causal || key <= position) && (p.window == 0 || key > position - p.window);
}
__device__ inline double naive_unit(const NaiveThresholdSequence &p, int row) {
  const long long position = row + p.offset;
  const long long first = p.window > 0 ? max(position - p.window + 1, 0ll) : 0;
  const long long end = p.causal ? min(position + 1, static_cast<long long>(p.keys)) : p.keys;
  return end > first ? sqrt(2 * fmax(log(static_cast<double>(end - first) / p.kappa), 0.0) / p.head_dim) : 0;
}

template <typename Element>
__global__ void naive_threshold_norms(NaiveThresholdSequence p, bool of_keys) {
  const int rows = of_keys ? p.keys : p.queries, heads = of_keys ? p.query_heads / p.group : p.query_heads;
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i >= rows * heads) return;
  for (int view = 0; view < 2; ++view) {
    const NaiveTensor &t = of_keys ? p.key[view] : p.query[view];
    if (t.data == nullptr) continue;
    double sum = 0;
    for (int d = 0; d < p.head_dim; ++d) {
      const double x = naive_element<Element>(t, i / rows, i % rows, d);
      sum += x * x;
    }
    (of_keys ? p.key_norms : p.query_norms)[view * rows * heads + i] = 1 / fmax(sqrt(sum), 1e-12);
  }
}

// blockIdx = (block of keys, row, head).
template <typename Element>
__global__ void naive_threshold_pairs(NaiveThresholdSequence p) {
  const int key = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x), row = static_cast<int>(blockIdx.y),
            head = static_cast<int>(blockIdx.z);
  if (key >= p.keys) return;
  const long long pair = (static_cast<long long>(head) * p.queries + row) * p.keys + key;
  const double tau = p.beta * naive_unit(p, row);
  for (int view = 0; view < 2; ++view) {
    if (p.query[view].data == nullptr) continue;
    double e = -1;
    if (naive_sees(p, row, key)) {
      double dot = 0;
      for (int d = 0; d < p.head_dim; ++d)
        dot += naive_element<Element>(p.query[view], head, row, d) *
               naive_element<Element>(p.key[view], head / p.group, key, d);
      e = dot * p.query_norms[(view * p.query_heads + head) * p.queries + row] *
              p.key_norms[(view * (p.query_heads / p.group) + head / p.group) * p.keys + key] -
          tau;
    }
    p.pairs[view][pair] = e;
  }
}

__device__ inline double naive_block_sum(double value) {
  __shared__ double parts[kNaivePairThreads];
  __syncthreads();
  parts[threadIdx.x] = value;
  __syncthreads();
  double sum = 0;
  for (int i = 0; i < kNaivePairThreads; ++i) sum += parts[i];
  return sum;
}

// blockIdx = (row, head): forward, the gradient before the norm, score gradients, the row's own results.
template <typename Element>
__global__ void naive_threshold_rows(NaiveThresholdSequence p) {
  constexpr int kDigits = naive_precision<Element>();
  const int row = static_cast<int>(blockIdx.x), head = static_cast<int>(blockIdx.y), key_head = head / p.group;
  const int channel = static_cast<int>(threadIdx.x);
  const long long index = static_cast<long long>(head) * p.queries + row;
  const bool two = p.query[1].data != nullptr, mine = channel < p.value_dim;
  double *pairs[2] = {p.pairs[0] + index * p.keys, two ? p.pairs[1] + index * p.keys : nullptr};
  double *weights = p.weights + index * p.keys;
  for (int key = channel; key < p.keys; key += kNaivePairThreads) {
    double w = pairs[0][key] > 0 ? pow(pairs[0][key], p.power) : 0;
    if (two && pairs[1][key] > 0) w -= p.lambda * pow(pairs[1][key], p.power);
    weights[key] = w;
  }
  __syncthreads();
  double x = 0;
  for (int key = 0; key < p.keys; ++key)
    if (weights[key] != 0 && mine)
      x += naive_digits(weights[key], p.rounded, kDigits) * naive_element<Element>(p.value, key_head, key, channel);
  const double dy = mine ? naive_element<Element>(p.output_gradient, head, row, channel) : 0;
  const double gate = p.gate == nullptr ? 1 : 1 / (1 + exp(-static_cast<double>(p.gate[head * p.scalar_stride + row])));
  const double gain = p.gain != nullptr && mine ? static_cast<double>(p.gain[channel]) : 1;
  double dx = p.output_scale * gate * dy, y = p.output_scale * x;
  if (p.norm) {
    const double power = naive_block_sum(x * x) / p.value_dim + p.norm_eps, r = power > 0 ? 1 / sqrt(power) : 0;
    const double h = p.output_scale * gate * gain * dy, dot = naive_block_sum(x * h);
    dx = r * h - x * r * r * r * dot / p.value_dim;
    if (mine) p.gain_gradient[index * p.value_dim + channel] = p.output_scale * gate * dy * x * r;
    y = p.output_scale * gain * x * r;
    dx = naive_digits(dx, p.rounded, kDigits);
  }
  const double of_gate = naive_block_sum(y * dy);
  if (channel == 0) p.gate_gradient[index] = of_gate * gate * (1 - gate);
  __shared__ double upstream[kNaivePairThreads];
  __syncthreads();
  upstream[channel] = dx;
  if (mine) p.upstream[index * p.value_dim + channel] = dx;
  __syncthreads();
  double threshold = 0, lambda = 0, magnitude = 0;
  for (int key = channel; key < p.keys; key += kNaivePairThreads) {
    const bool survives[2] = {pairs[0][key] > 0, two && pairs[1][key] > 0};
    double g = 0;
    if (survives[0] || survives[1])
      for (int d = 0; d < p.value_dim; ++d) g += upstream[d] * naive_element<Element>(p.value, key_head, key, d);
    for (int view = 0; view < (two ? 2 : 1); ++view) {
      const double e = pairs[view][key], sigma = view == 0 ? 1 : -p.lambda;
      const double ds = survives[view] ? sigma * p.power * pow(e, p.power - 1) * g : 0;
      if (view == 1 && survives[1]) lambda -= pow(e, p.power) * g;
      threshold -= ds;
      magnitude += fabs(ds) + (view == 1 && survives[1] ? fabs(pow(e, p.power) * g) : 0);
      pairs[view][key] = ds;
    }
  }
  threshold = naive_block_sum(threshold);
  lambda = naive_block_sum(lambda);
  magnitude = naive_block_sum(magnitude);
  if (channel == 0) {
    const double unit = naive_unit(p, row), slope = unit > 0 ? -p.beta / (p.head_dim * p.kappa * unit) : 0;
    double *parameters = p.parameters + static_cast<long long>(head) * 4 * p.queries + row;
    parameters[0] = threshold * unit;
    parameters[p.queries] = threshold * slope;
    parameters[2 * p.queries] = lambda;
    parameters[3 * p.queries] = magnitude * fmax(1.0, fmax(unit, fabs(slope)));
  }
}

// sum - row (row . sum) / |row|^2, over |row|: the gradient of a row from that of its unit vector.
template <typename Element>
__device__ double naive_project(const NaiveTensor &t, int head, int row, double inverse_norm, double sum, int dim) {
  const int d = static_cast<int>(threadIdx.x);
  const double x = d < dim ? naive_element<Element>(t, head, row, d) : 0;
  const double dot = naive_block_sum(x * sum);
  return inverse_norm * (inverse_norm >= 1e12 ? sum : sum - x * inverse_norm * inverse_norm * dot);
}

// blockIdx = (row, head).
template <typename Element>
__global__ void naive_threshold_query_gradients(NaiveThresholdSequence p) {
  constexpr int kDigits = naive_precision<Element>();
  const int row = static_cast<int>(blockIdx.x), head = static_cast<int>(blockIdx.y), key_head = head / p.group;
  const int d = static_cast<int>(threadIdx.x);
  const long long index = static_cast<long long>(head) * p.queries + row;
  for (int view = 0; view < 2; ++view) {
    if (p.query[view].data == nullptr) continue;
    double sum = 0;
    for (int key = 0; key < p.keys; ++key) {
      const double ds = p.pairs[view][index * p.keys + key];
      if (ds == 0 || d >= p.head_dim) continue;
      const double inverse = p.key_norms[(view * (p.query_heads / p.group) + key_head) * p.keys + key];
      sum += naive_digits(ds * inverse, p.rounded, kDigits) * naive_element<Element>(p.key[view], key_head, key, d);
    }
    const double result = naive_project<Element>(
        p.query[view], head, row, p.query_norms[(view * p.query_heads + head) * p.queries + row], sum, p.head_dim);
    if (d < p.head_dim) p.query_gradient[view][index * p.head_dim + d] = result;
  }
}

// blockIdx = (key, key head).
template <typename Element>
__global__ void naive_threshold_key_gradients(NaiveThresholdSequence p) {
  constexpr int kDigits = naive_precision<Element>();
  const int key = static_cast<int>(blockIdx.x), key_head = static_cast<int>(blockIdx.y);
  const int d = static_cast<int>(threadIdx.x);
  const long long index = static_cast<long long>(key_head) * p.keys + key;
  double value_sum = 0;
  for (int view = 0; view < 2; ++view) {
    if (p.query[view].data == nullptr) continue;
    double sum = 0;
    for (int head = key_head * p.group; head < (key_head + 1) * p.group; ++head)
      for (int row = 0; row < p.queries; ++row) {
        const long long query_row = static_cast<long long>(head) * p.queries + row;
        const double ds = p.pairs[view][query_row * p.keys + key];
        if (ds != 0 && d < p.head_dim)
          sum += naive_digits(ds * p.query_norms[view * p.query_heads * p.queries + query_row], p.rounded, kDigits) *
                 naive_element<Element>(p.query[view], head, row, d);
        if (view != 0 || d >= p.value_dim) continue;
        const double w = p.weights[query_row * p.keys + key];
        if (w != 0) value_sum += naive_digits(w, p.rounded, kDigits) * p.upstream[query_row * p.value_dim + d];
      }
    const double result = naive_project<Element>(
        p.key[view], key_head, key, p.key_norms[(view * (p.query_heads / p.group) + key_head) * p.keys + key], sum,
        p.head_dim);
    if (d < p.head_dim) p.key_gradient[view][index * p.head_dim + d] = result;
  }
  if (d < p.value_dim) p.value_gradient[index * p.value_dim + d] = value_sum;
}

template <typename Element>
void launch_naive_threshold_backward(const NaiveThresholdSequence &p) {
  const auto count = [](int x) { return static_cast<unsigned>(x); };
  const int key_heads = p.query_heads / p.group;
  if (p.queries > 0)
    naive_threshold_norms<Element><<<count((p.queries * p.query_heads + 127) / 128), kNaivePairThreads>>>(p, false);
  if (p.keys > 0)
    naive_threshold_norms<Element><<<count((p.keys * key_heads + 127) / 128), kNaivePairThreads>>>(p, true);
  if (p.queries > 0 && p.keys > 0)
    naive_threshold_pairs<Element>
        <<<dim3(count((p.keys + 127) / 128), count(p.queries), count(p.query_heads)), kNaivePairThreads>>>(p);
  const dim3 rows(count(p.queries), count(p.query_heads)), keys(count(p.keys), count(key_heads));
  if (p.queries > 0) naive_threshold_rows<Element><<<rows, kNaivePairThreads>>>(p);
  if (p.queries > 0) naive_threshold_query_gradients<Element><<<rows, kNaivePairThreads>>>(p);
  if (p.keys > 0) naive_threshold_key_gradients<Element><<<keys, kNaivePairThreads>>>(p);
  check_cuda(cudaDeviceSynchronize(), "naive threshold differential backward");
}

inline void naive_threshold_differential_backward(const NaiveThresholdSequence &p, int32_t dtype) {
  if (dtype == SIEVE_DTYPE_BFLOAT16)
    launch_naive_threshold_backward<__nv_bfloat16>(p);
  else
    launch_naive_threshold_backward<__half>(p);
}

}  // namespace sieve::test
