// Softmax attention of a few new rows against a cache in float64, one thread block a row, nothing clever: what the
// decode kernels are held to in native tests. Beside the exact result it gives that of a plain evaluation in the
// element type (weights and output rounded, sums in float), the measure of how much error is allowed.
#pragma once

#include "tests/native/support/device_tensor.h"

namespace sieve::test {

struct NaiveDecode {
  int batch, query_heads, key_heads, queries, keys, dim, value_dim;  // keys: room of an entry
  bool causal;
  long long window;
  bool align_end;
  long long offset;
  double scale;
  int row_factor;  // sieve_row_factor
  double row_first, row_second;
  bool rms;
  double norm_eps, output_scale;
  int32_t dtype;
  const int *lengths;          // device, or null
  const int *page_table;       // device, or null
  long long width, page_size;  // of the table
  const float *gain, *gate, *factors;
  sieve_tensor q, k, v;
};

template <typename Element>
__device__ double load(const sieve_tensor &t, long long b, long long h, long long r, long long c) {
  const long long index = b * t.strides[0] + h * t.strides[1] + r * t.strides[2] + c;
  return static_cast<double>(static_cast<float>(static_cast<const Element *>(t.data)[index]));
}

template <typename Element>
__device__ double rounded(double x) {
  return static_cast<double>(static_cast<float>(Element(static_cast<float>(x))));
}

// blockIdx.x = query + queries * (head + heads * batch), 256 threads. scores: [rows][keys] scratch.
template <typename Element>
__global__ void naive_decode_rows(NaiveDecode p, double *scores, double *out, double *plain, double *lse) {
  __shared__ double sums[256];
  const int query = static_cast<int>(blockIdx.x) % p.queries;
  const int head = static_cast<int>(blockIdx.x) / p.queries % p.query_heads;
  const int batch = static_cast<int>(blockIdx.x) / p.queries / p.query_heads;
  const int key_head = head / (p.query_heads / p.key_heads), t = static_cast<int>(threadIdx.x);
  const long long length = p.lengths != nullptr ? min(max(p.lengths[batch], 0), p.keys) : p.keys;
  const long long position = query + (p.align_end ? length - p.queries : p.offset);
  const long long first = p.window > 0 ? max(0ll, position - p.window + 1) : 0;
  const long long end = max(0ll, min(p.causal ? position + 1 : length, length));
  const auto reduce = [&](double value, bool maximum) {
    __syncthreads();
    sums[t] = value;
    __syncthreads();
    double result = sums[0];
    for (int i = 1; i < 256; ++i) result = maximum ? fmax(result, sums[i]) : result + sums[i];
    return result;
  };
  const auto entry = [&](long long key) {
    return p.page_table != nullptr ? static_cast<long long>(p.page_table[batch * p.width + key / p.page_size])
                                   : static_cast<long long>(batch);
  };
  const auto row = [&](long long key) { return p.page_table != nullptr ? key % p.page_size : key; };
  double factor = 1;
  const double visible = static_cast<double>(end > first ? end - first : 1);
  if (p.row_factor == SIEVE_ROW_FACTOR_SSMAX) factor = p.row_first * log(visible);
  if (p.row_factor == SIEVE_ROW_FACTOR_ASENTMAX)
    factor = 1 + p.row_first * pow(log(static_cast<double>(max(position, 0ll)) + 2), p.row_second);
  if (p.row_factor == SIEVE_ROW_FACTOR_VECTOR) factor = static_cast<double>(p.factors[blockIdx.x]);
  double *s = scores + static_cast<long long>(blockIdx.x) * p.keys;
  double top = -INFINITY;
  for (long long key = first + t; key < end; key += 256) {
    double dot = 0;
    for (int d = 0; d < p.dim; ++d)
      dot += load<Element>(p.q, batch, head, query, d) * load<Element>(p.k, entry(key), key_head, row(key), d);
    s[key] = dot * p.scale * factor;
    top = fmax(top, s[key]);
  }
  top = reduce(top, true);
  double total = 0;
  for (long long key = first + t; key < end; key += 256) total += exp(s[key] - top);
  total = reduce(total, false);
  double x = 0, y = 0;
  if (t < p.value_dim) {
    for (long long key = first; key < end; ++key) {
      const double value = load<Element>(p.v, entry(key), key_head, row(key), t), weight = exp(s[key] - top);
      x += weight * value;
      y += rounded<Element>(weight) * value;
    }
    if (end > first) x /= total, y /= total;
  }
  const double x_power = reduce(t < p.value_dim ? x * x : 0, false) / p.value_dim + p.norm_eps;
  const double y_power = reduce(t < p.value_dim ? y * y : 0, false) / p.value_dim + p.norm_eps;
  double after = p.output_scale;
  if (p.gate != nullptr) after *= 1 / (1 + exp(-static_cast<double>(p.gate[blockIdx.x])));
  if (t < p.value_dim) {
    if (p.gain != nullptr) after *= static_cast<double>(p.gain[t]);
    const long long index = static_cast<long long>(blockIdx.x) * p.value_dim + t;
    out[index] = x * after * (p.rms ? (x_power > 0 ? 1 / sqrt(x_power) : 0) : 1);
    plain[index] = rounded<Element>(y * after * (p.rms ? (y_power > 0 ? 1 / sqrt(y_power) : 0) : 1));
  }
  if (t == 0) lse[blockIdx.x] = end > first ? top + log(total) : -INFINITY;
}

// Results [batch, query heads, queries (, value_dim)], contiguous.
struct NaiveDecodeResult {
  std::vector<double> out, plain, lse;
};

inline NaiveDecodeResult naive_decode(const NaiveDecode &p) {
  const size_t rows =
      static_cast<size_t>(p.batch) * static_cast<size_t>(p.query_heads) * static_cast<size_t>(p.queries);
  DeviceArray<double> scores(rows * static_cast<size_t>(p.keys)), out(rows * static_cast<size_t>(p.value_dim)),
      plain(out.count()), lse(rows);
  const auto kernel = p.dtype == SIEVE_DTYPE_BFLOAT16 ? naive_decode_rows<__nv_bfloat16> : naive_decode_rows<__half>;
  kernel<<<static_cast<unsigned>(rows), 256>>>(p, scores.data(), out.data(), plain.data(), lse.data());
  check_cuda(cudaDeviceSynchronize(), "naive_decode");
  return {out.read(), plain.read(), lse.read()};
}

}  // namespace sieve::test
