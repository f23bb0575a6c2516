// Tensors for native tests that run on a GPU: random 16-bit contents, strides, guard bytes around outputs.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime_api.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <vector>

#include "sieve/attention.h"

namespace sieve::test {

inline void check_cuda(cudaError_t error, const char *what) {
  if (error == cudaSuccess) return;
  std::fprintf(stderr, "%s: %s\n", what, cudaGetErrorString(error));
  std::exit(1);
}

template <typename T>
class DeviceArray {
 public:
  explicit DeviceArray(size_t count) : count_(count) { check_cuda(cudaMalloc(&data_, bytes()), "cudaMalloc"); }
  ~DeviceArray() { cudaFree(data_); }
  DeviceArray(const DeviceArray &) = delete;
  DeviceArray &operator=(const DeviceArray &) = delete;

  T *data() const { return static_cast<T *>(data_); }
  size_t count() const { return count_; }
  size_t bytes() const { return count_ * sizeof(T); }
  void fill(uint8_t value) { check_cuda(cudaMemset(data_, value, bytes()), "cudaMemset"); }
  void write(const std::vector<T> &values) const {
    check_cuda(cudaMemcpy(data_, values.data(), bytes(), cudaMemcpyHostToDevice), "write");
  }
  std::vector<T> read() const {
    std::vector<T> values(count_);
    check_cuda(cudaMemcpy(values.data(), data_, bytes(), cudaMemcpyDeviceToHost), "read");
    return values;
  }

 private:
  size_t count_;
  void *data_ = nullptr;
};

inline uint16_t to_bits(float value, int32_t dtype) {
  if (dtype == SIEVE_DTYPE_BFLOAT16) return __bfloat16_as_ushort(__float2bfloat16(value));
  return __half_as_ushort(__float2half(value));
}

inline double from_bits(uint16_t bits, int32_t dtype) {
  if (dtype == SIEVE_DTYPE_BFLOAT16) return static_cast<double>(__bfloat162float(__ushort_as_bfloat16(bits)));
  return static_cast<double>(__half2float(__ushort_as_half(bits)));
}

inline std::vector<uint16_t> random_elements(size_t count, int32_t dtype, uint32_t seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal;
  std::vector<uint16_t> values(count);
  for (uint16_t &value : values) value = to_bits(normal(generator), dtype);
  return values;
}

// [batch, heads, rows, channels], contiguous.
inline sieve_tensor view(void *data, int32_t dtype, int64_t batch, int64_t heads, int64_t rows, int64_t channels) {
  return {data, {batch, heads, rows, channels}, {heads * rows * channels, rows * channels, channels, 1}, dtype, 0};
}

}  // namespace sieve::test
