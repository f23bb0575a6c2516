// Softmax attention in float64, one thread block a query row, nothing clever: what the kernels are held to in native
// tests. The formulas are those of the operator's documentation in sieve/attention.h.
#pragma once

#include "tests/native/support/device_tensor.h"

namespace sieve::test {

// A 16-bit tensor as the kernels see it.
struct NaiveTensor {
  const uint16_t *data;
  long long batch_stride, head_stride, row_stride;
};

struct NaiveSoftmax {
  int batch, query_heads, key_heads, queries, keys, head_dim, value_dim;
  bool causal;
  long long offset, window;
  double scale;
  int row_factor;  // a sieve_row_factor
  double row_first, row_second;
  bool rms;
  double norm_eps, output_scale;
  int32_t dtype;
  bool rounded;  // weights and output as a plain 16-bit evaluation rounds them
};

template <typename Element>
__device__ double element(const NaiveTensor &t, int batch, int head, long long row, int channel) {
  const long long index = batch * t.batch_stride + head * t.head_stride + row * t.row_stride + channel;
  return static_cast<double>(static_cast<float>(reinterpret_cast<const Element *>(t.data)[index]));
}

template <typename Element>
__device__ double round_to(double value) {
  return static_cast<double>(static_cast<float>(Element(static_cast<float>(value))));
}

// blockIdx.x = row + queries * (head + heads * batch); blockDim.x = 256. Shared: keys + value_dim doubles. `factors`,
// `gain`, `gate` may be null. Results are [batch, heads, queries(, value_dim)], contiguous.
template <typename Element>
__global__ void naive_softmax_rows(NaiveSoftmax p, NaiveTensor q, NaiveTensor k, NaiveTensor v,
                                   const int32_t *key_lengths, const float *factors, const float *gain,
                                   const float *gate, double *out, double *lse) {
  extern __shared__ double shared[];
  const int row = static_cast<int>(blockIdx.x) % p.queries,
            head = static_cast<int>(blockIdx.x) / p.queries % p.query_heads,
            batch = static_cast<int>(blockIdx.x) / p.queries / p.query_heads;
  const int key_head = head / (p.query_heads / p.key_heads);
  const long long query_row = (static_cast<long long>(batch) * p.query_heads + head) * p.queries + row;
  const long long keys = key_lengths == nullptr ? p.keys : min(key_lengths[batch], p.keys);
  const long long position = row + p.offset;
  const long long first = p.window > 0 ? max(0ll, position - p.window + 1) : 0;
  const long long end = p.causal ? min(keys, position + 1) : keys;
  double factor = p.scale;
  if (p.row_factor == SIEVE_ROW_FACTOR_SSMAX) factor *= p.row_first * log(static_cast<double>(max(end - first, 1ll)));
  if (p.row_factor == SIEVE_ROW_FACTOR_ASENTMAX)
    factor *= 1 + p.row_first * pow(log(static_cast<double>(max(position, 0ll)) + 2), p.row_second);
  if (p.row_factor == SIEVE_ROW_FACTOR_VECTOR) factor *= static_cast<double>(factors[query_row]);
  for (long long key = first + threadIdx.x; key < end; key += blockDim.x) {
    double dot = 0;
    for (int d = 0; d < p.head_dim; ++d)
      dot += element<Element>(q, batch, head, row, d) * element<Element>(k, batch, key_head, key, d);
    shared[key] = factor * dot;
  }
  __syncthreads();
  double top = -INFINITY, sum = 0;
  for (long long key = first; key < end; ++key) top = fmax(top, shared[key]);
  __syncthreads();
  for (long long key = first + threadIdx.x; key < end; key += blockDim.x) shared[key] = exp(shared[key] - top);
  __syncthreads();
  for (long long key = first; key < end; ++key) sum += shared[key];
  if (threadIdx.x == 0) lse[query_row] = end > first ? top + log(sum) : -INFINITY;
  double *row_output = shared + p.keys;
  for (int channel = static_cast<int>(threadIdx.x); channel < p.value_dim; channel += static_cast<int>(blockDim.x)) {
    double x = 0;
    for (long long key = first; key < end; ++key) {
      double weight = shared[key];
      if (p.rounded) weight = round_to<Element>(weight);
      x += weight * element<Element>(v, batch, key_head, key, channel);
    }
    row_output[channel] = end > first ? x / sum : 0;
  }
  __syncthreads();
  double squares = 0;
  for (int channel = 0; channel < p.value_dim; ++channel) squares += row_output[channel] * row_output[channel];
  double whole = p.output_scale;
  if (p.rms) whole *= squares / p.value_dim + p.norm_eps > 0 ? 1 / sqrt(squares / p.value_dim + p.norm_eps) : 0;
  if (gate != nullptr) whole *= 1 / (1 + exp(-static_cast<double>(gate[query_row])));
  for (int channel = static_cast<int>(threadIdx.x); channel < p.value_dim; channel += static_cast<int>(blockDim.x)) {
    double x = row_output[channel] * whole;
    if (gain != nullptr) x *= static_cast<double>(gain[channel]);
    out[query_row * p.value_dim + channel] = p.rounded ? round_to<Element>(x) : x;
  }
}

inline void naive_softmax(const NaiveSoftmax &p, const NaiveTensor &q, const NaiveTensor &k, const NaiveTensor &v,
                          const int32_t *key_lengths, const float *factors, const float *gain, const float *gate,
                          double *out, double *lse) {
  const auto kernel = p.dtype == SIEVE_DTYPE_BFLOAT16 ? naive_softmax_rows<__nv_bfloat16> : naive_softmax_rows<__half>;
  const size_t shared = static_cast<size_t>(p.keys + p.value_dim) * sizeof(double);
  check_cuda(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared)),
             "naive attribute");
  kernel<<<static_cast<unsigned>(p.queries * p.query_heads * p.batch), 256, shared>>>(p, q, k, v, key_lengths, factors,
                                                                                      gain, gate, out, lse);
  check_cuda(cudaDeviceSynchronize(), "naive_softmax");
}

}  // namespace sieve::test
