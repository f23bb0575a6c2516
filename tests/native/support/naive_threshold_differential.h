// Threshold differential attention in float64, one thread block a query row, nothing clever: what the kernels are held
// to in native tests. The formulas are those of the operator's documentation in sieve/attention.h.
#pragma once

#include <algorithm>

#include "tests/native/support/device_tensor.h"

namespace sieve::test {

struct NaiveProblem {
  int batch, query_heads, key_heads, queries, keys, dim;
  bool causal;
  long long offset, window;
  double beta, kappa, lambda, power;
  bool rms;
  double norm_eps, output_scale;
  int32_t dtype;
  int value_dim = 0;  // 0 = dim
  __host__ __device__ int values() const { return value_dim == 0 ? dim : value_dim; }
};

template <typename Element>
__device__ double element(const uint16_t *data, long long index) {
  return static_cast<double>(static_cast<float>(reinterpret_cast<const Element *>(data)[index]));
}

template <typename Element>
__device__ double row_norm(const uint16_t *row, int dim) {
  double sum = 0;
  for (int d = 0; d < dim; ++d) sum += element<Element>(row, d) * element<Element>(row, d);
  return fmax(sqrt(sum), 1e-12);
}

// blockIdx.x = row + queries * (head + heads * batch); blockDim.x = 128. Shared: keys x double weights, dim doubles.
// `tiles`, where not null, has one int for every 64 rows x 64 keys, [batch][heads][query tiles][key tiles]: bit 0 and 1
// for a survivor in view 1 and 2.
template <typename Element>
__global__ void naive_rows(NaiveProblem p, const uint16_t *q1, const uint16_t *k1, const uint16_t *q2,
                           const uint16_t *k2, const uint16_t *v, const float *gain, const float *gate, double *out,
                           int *survivors1, int *survivors2, int *tiles, int first_row, int rows) {
  extern __shared__ double shared[];
  const int row = first_row + static_cast<int>(blockIdx.x) % rows;
  const int head = static_cast<int>(blockIdx.x) / rows % p.query_heads,
            batch = static_cast<int>(blockIdx.x) / rows / p.query_heads;
  const int key_head = head / (p.query_heads / p.key_heads);
  const long long query_row = (static_cast<long long>(batch) * p.query_heads + head) * p.queries + row;
  const long long key_row = (static_cast<long long>(batch) * p.key_heads + key_head) * p.keys;
  const long long position = row + p.offset;
  const long long first = p.window > 0 ? max(0ll, position - p.window + 1) : 0;
  const long long end = p.causal ? min(static_cast<long long>(p.keys), position + 1) : p.keys;
  const double n = end > first ? static_cast<double>(end - first) : 0;
  const double tau = n > 0 ? p.beta * sqrt(2 * fmax(log(n / p.kappa), 0.0) / p.dim) : 0;
  __shared__ int count[2];
  if (threadIdx.x < 2) count[threadIdx.x] = 0;
  __syncthreads();
  const int channel = static_cast<int>(threadIdx.x);
  const bool mine = channel < p.values();
  double x = 0;
  for (int view = 0; view < 2; ++view) {
    const uint16_t *q = view == 0 ? q1 : q2, *k = view == 0 ? k1 : k2;
    if (q == nullptr) continue;
    const double sigma = view == 0 ? 1.0 : -p.lambda;
    const double query_norm = row_norm<Element>(q + query_row * p.dim, p.dim);
    for (long long key = first + threadIdx.x; key < end; key += blockDim.x) {
      double dot = 0;
      for (int d = 0; d < p.dim; ++d)
        dot += element<Element>(q, query_row * p.dim + d) * element<Element>(k, (key_row + key) * p.dim + d);
      const double e = dot / query_norm / row_norm<Element>(k + (key_row + key) * p.dim, p.dim) - tau;
      shared[key] = e > 0 ? sigma * pow(e, p.power) : 0;
      if (!(e > 0)) continue;
      atomicAdd(&count[view], 1);
      if (tiles != nullptr)
        atomicOr(&tiles[((query_row - row) / p.queries * ((p.queries + 63) / 64) + row / 64) * ((p.keys + 63) / 64) +
                        key / 64],
                 1 << view);
    }
    __syncthreads();
    for (long long key = first; key < end; ++key)
      if (shared[key] != 0 && mine) x += shared[key] * element<Element>(v, (key_row + key) * p.values() + channel);
    __syncthreads();
  }
  if (mine) shared[channel] = x * x;
  __syncthreads();
  double squares = 0;
  for (int d = 0; d < p.values(); ++d) squares += shared[d];
  double factor = p.output_scale;
  if (p.rms) factor *= squares / p.values() + p.norm_eps > 0 ? 1 / sqrt(squares / p.values() + p.norm_eps) : 0;
  if (gain != nullptr && mine) factor *= static_cast<double>(gain[channel]);
  if (gate != nullptr) factor *= 1 / (1 + exp(-static_cast<double>(gate[query_row])));
  if (mine) out[query_row * p.values() + channel] = x * factor;
  if (threadIdx.x == 0) {
    survivors1[query_row] = count[0];
    survivors2[query_row] = count[1];
  }
}

// Evaluates the rows [first_row, first_row + rows) of every head.
inline void naive_forward(const NaiveProblem &p, const uint16_t *q1, const uint16_t *k1, const uint16_t *q2,
                          const uint16_t *k2, const uint16_t *v, const float *gain, const float *gate, double *out,
                          int *survivors1, int *survivors2, int *tiles, int first_row, int rows) {
  const auto kernel = p.dtype == SIEVE_DTYPE_BFLOAT16 ? naive_rows<__nv_bfloat16> : naive_rows<__half>;
  const size_t shared = static_cast<size_t>(std::max(p.keys, p.values())) * sizeof(double);
  check_cuda(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared)),
             "naive attribute");
  kernel<<<static_cast<unsigned>(rows * p.query_heads * p.batch), 128, shared>>>(
      p, q1, k1, q2, k2, v, gain, gate, out, survivors1, survivors2, tiles, first_row, rows);
  check_cuda(cudaDeviceSynchronize(), "naive_forward");
}

}  // namespace sieve::test
