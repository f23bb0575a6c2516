// Threshold differential attention over a cache in float64, one thread block a query row, nothing clever: what decode
// is held to in native tests. Keys and values are given aligned to their end: row keys - length + j holds key j.
#pragma once

#include "tests/native/support/device_tensor.h"

namespace sieve::test {

struct NaiveTdaDecode {
  int batch, query_heads, key_heads, queries, keys, dim, value_dim, views;
  bool causal, align_end;
  long long window, offset;
  double beta, kappa, lambda, power;
  bool rms;
  double norm_eps, output_scale;
  int32_t dtype;
  const uint16_t *query[2], *key[2], *value;  // contiguous
  const int32_t *lengths;
  const float *gain, *gate;  // or null
};

// Survivors may be counted either way where a score lies this close to the threshold.
constexpr double kSurvivorMargin = 1e-5;

template <typename Element>
__device__ double naive_element(const uint16_t *data, long long index) {
  return static_cast<double>(static_cast<float>(reinterpret_cast<const Element *>(data)[index]));
}

// least, most: [view][row]; dynamic shared memory: one double a key, and one a channel.
template <typename Element>
__global__ void naive_tda_decode(NaiveTdaDecode p, double *out, double *plain, int *least, int *most) {
  extern __shared__ double weights[];
  double *channels = weights + p.keys;
  const int rows = p.batch * p.query_heads * p.queries, place = static_cast<int>(blockIdx.x);
  const int query = place % p.queries, head = place / p.queries % p.query_heads,
            batch = place / p.queries / p.query_heads;
  const int key_head = head / (p.query_heads / p.key_heads), length = min(p.lengths[batch], p.keys);
  const long long position = query + (p.align_end ? length - p.queries : p.offset);
  const long long first = max(p.window > 0 ? position - p.window + 1 : 0ll, 0ll);
  const long long end = p.causal ? max(min(static_cast<long long>(length), position + 1), 0ll) : length;
  const double n = end > first ? static_cast<double>(end - first) : 0;
  const double tau = n > 0 ? p.beta * sqrt(2 * fmax(log(n / p.kappa), 0.0) / p.dim) : 0;
  const long long key_rows = (static_cast<long long>(batch) * p.key_heads + key_head) * p.keys + p.keys - length;
  for (long long j = threadIdx.x; j < p.keys; j += blockDim.x) weights[j] = 0;
  __syncthreads();
  for (int view = 0; view < p.views; ++view) {
    double query_square = 0;
    for (int d = 0; d < p.dim; ++d) {
      const double x = naive_element<Element>(p.query[view], static_cast<long long>(place) * p.dim + d);
      query_square += x * x;
    }
    for (long long j = first + threadIdx.x; j < end; j += blockDim.x) {
      double dot = 0, square = 0;
      for (int d = 0; d < p.dim; ++d) {
        const double x = naive_element<Element>(p.key[view], (key_rows + j) * p.dim + d);
        dot += x * naive_element<Element>(p.query[view], static_cast<long long>(place) * p.dim + d);
        square += x * x;
      }
      const double e = dot / fmax(sqrt(query_square), 1e-12) / fmax(sqrt(square), 1e-12) - tau;
      if (e > kSurvivorMargin) atomicAdd(&least[view * rows + place], 1);
      if (e > -kSurvivorMargin) atomicAdd(&most[view * rows + place], 1);
      if (!(e <= 0)) weights[j] += (view == 0 ? 1.0 : -p.lambda) * (p.power == 1.0 ? e : pow(e, p.power));
    }
    __syncthreads();
  }
  for (const bool rounded : {false, true}) {
    for (int channel = static_cast<int>(threadIdx.x); channel < p.value_dim; channel += static_cast<int>(blockDim.x)) {
      double sum = 0;
      for (long long j = first; j < end; ++j) {
        double weight = weights[j];
        if (weight == 0) continue;
        if (rounded) weight = static_cast<double>(static_cast<float>(static_cast<Element>(static_cast<float>(weight))));
        sum += weight * naive_element<Element>(p.value, (key_rows + j) * p.value_dim + channel);
      }
      channels[channel] = sum;
    }
    __syncthreads();
    double factor = p.output_scale;
    if (p.rms) {
      double squares = 0;
      for (int channel = 0; channel < p.value_dim; ++channel) squares += channels[channel] * channels[channel];
      factor /= sqrt(squares / p.value_dim + p.norm_eps);
    }
    if (p.gate != nullptr) factor /= 1 + exp(-static_cast<double>(p.gate[place]));
    for (int channel = static_cast<int>(threadIdx.x); channel < p.value_dim; channel += static_cast<int>(blockDim.x)) {
      double x = channels[channel] * factor * (p.gain != nullptr ? static_cast<double>(p.gain[channel]) : 1.0);
      if (rounded) x = static_cast<double>(static_cast<float>(static_cast<Element>(static_cast<float>(x))));
      (rounded ? plain : out)[static_cast<long long>(place) * p.value_dim + channel] = x;
    }
    __syncthreads();
  }
}

struct NaiveTdaDecodeResult {
  std::vector<double> out, plain;
  std::vector<int> least[2], most[2];
};

inline NaiveTdaDecodeResult naive_decode(const NaiveTdaDecode &p) {
  const size_t rows = static_cast<size_t>(p.batch * p.query_heads * p.queries);
  DeviceArray<double> out(rows * static_cast<size_t>(p.value_dim)), plain(out.count());
  DeviceArray<int> least(2 * rows), most(2 * rows);
  least.fill(0);
  most.fill(0);
  const size_t shared = sizeof(double) * static_cast<size_t>(p.keys + p.value_dim);
  const auto kernel = p.dtype == SIEVE_DTYPE_BFLOAT16 ? naive_tda_decode<__nv_bfloat16> : naive_tda_decode<__half>;
  check_cuda(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared)),
             "shared memory of the reference");
  kernel<<<static_cast<unsigned>(rows), 256, shared>>>(p, out.data(), plain.data(), least.data(), most.data());
  check_cuda(cudaGetLastError(), "reference");
  check_cuda(cudaDeviceSynchronize(), "reference");
  NaiveTdaDecodeResult result;
  result.out = out.read();
  result.plain = plain.read();
  const std::vector<int> low = least.read(), high = most.read();
  for (int view = 0; view < 2; ++view) {
    const auto from = static_cast<std::ptrdiff_t>(static_cast<size_t>(view) * rows);
    const auto to = from + static_cast<std::ptrdiff_t>(rows);
    result.least[view].assign(low.begin() + from, low.begin() + to);
    result.most[view].assign(high.begin() + from, high.begin() + to);
  }
  return result;
}

}  // namespace sieve::test
