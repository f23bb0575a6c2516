// Tensors of tests of gradients, and their comparison with a reference element by element.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "tests/native/support/naive_tensor.h"

namespace sieve::test {

// [batch, heads, rows, channels] of one element size in a guarded buffer; strided: [batch, rows, heads] with gaps.
struct Tensor {
  static constexpr size_t kGuard = 256;
  int64_t batch, heads, rows, channels;
  int32_t dtype;
  int bytes;
  int64_t strides[3];
  DeviceArray<uint8_t> memory;

  Tensor(int64_t b, int64_t h, int64_t r, int64_t c, int32_t type, bool strided)
      : batch(b),
        heads(h),
        rows(r),
        channels(c),
        dtype(type),
        bytes(type == SIEVE_DTYPE_FLOAT32 ? 4 : 2),
        memory(size(b, h, r, c, bytes, strided, strides)) {
    memory.fill(0xff);
  }
  static size_t size(int64_t b, int64_t h, int64_t r, int64_t c, int bytes, bool strided, int64_t (&strides)[3]) {
    const int64_t gap = strided ? 8 : 0;
    strides[strided ? 2 : 1] = strided ? h * (c + gap) : r * c;
    strides[strided ? 1 : 2] = c + gap;
    strides[0] = h * r * (c + gap) + 3 * gap;
    return static_cast<size_t>(b * strides[0]) * static_cast<size_t>(bytes) + 2 * kGuard;
  }
  uint8_t *data() const { return memory.data() + kGuard; }
  int64_t at(int64_t b, int64_t h, int64_t r, int64_t c) const {
    return b * strides[0] + h * strides[1] + r * strides[2] + c;
  }
  sieve_tensor view() const {
    return {data(), {batch, heads, rows, channels}, {strides[0], strides[1], strides[2], 1}, dtype, 0};
  }
  NaiveTensor rows_from(int64_t b, int64_t row) const {
    return {reinterpret_cast<const uint16_t *>(data()) + at(b, 0, row, 0), strides[1], strides[2]};
  }
  double value(const std::vector<uint8_t> &copy, int64_t index) const {
    const uint8_t *p = copy.data() + kGuard + static_cast<size_t>(index * bytes);
    if (bytes == 4) {
      float f;
      std::memcpy(&f, p, 4);
      return static_cast<double>(f);
    }
    uint16_t bits;
    std::memcpy(&bits, p, 2);
    return from_bits(bits, dtype);
  }
  void set(std::vector<uint8_t> &copy, int64_t index, double x) const {
    uint8_t *p = copy.data() + kGuard + static_cast<size_t>(index * bytes);
    const float f = static_cast<float>(x);
    const uint16_t bits = bytes == 4 ? 0 : to_bits(f, dtype);
    std::memcpy(p, bytes == 4 ? static_cast<const void *>(&f) : &bits, static_cast<size_t>(bytes));
  }
  void randomize(uint32_t seed) {
    std::mt19937 generator(seed);
    std::normal_distribution<float> normal;
    std::vector<uint8_t> copy = memory.read();
    for (int64_t b = 0; b < batch; ++b)
      for (int64_t h = 0; h < heads; ++h)
        for (int64_t r = 0; r < rows; ++r)
          for (int64_t c = 0; c < channels; ++c) set(copy, at(b, h, r, c), static_cast<double>(normal(generator)));
    memory.write(copy);
  }
};

// What is compared: a gradient of the kernel with its reference, element by element.
struct Comparison {
  std::string name;
  double largest = 0, error = 0, plain = 0, squares = 0, plain_squares = 0;
  size_t count = 0;
  bool bad_values = false;

  void add(double actual, double exact, double rounded) {
    largest = std::max(largest, std::fabs(exact));
    const double e = std::fabs(actual - exact), p = std::fabs(rounded - exact);
    if (!(e <= error)) error = e;
    plain = std::max(plain, p);
    squares += e * e;
    plain_squares += p * p;
    ++count;
  }
  bool good(int32_t dtype) const {
    const double unit = dtype == SIEVE_DTYPE_BFLOAT16 ? 1.0 / 512 : 1.0 / 4096;
    const double floor = unit * (largest > 0 ? largest : 1);
    return !bad_values && error <= 3 * plain + floor &&
           (count < 4096 || squares <= 4 * plain_squares + 1e-12 * largest * largest * static_cast<double>(count));
  }
};

// Row by row, so that a NaN of the reference must be met by one in the same row, and by none elsewhere.
inline void compare(Comparison &result, const Tensor &t, std::vector<uint8_t> &copy, int64_t b, int64_t h, int64_t row,
                    const double *exact, const double *rounded) {
  bool nan_expected = false, nan_found = false;
  for (int64_t c = 0; c < t.channels; ++c) {
    nan_expected = nan_expected || std::isnan(exact[c]);
    nan_found = nan_found || std::isnan(t.value(copy, t.at(b, h, row, c)));
  }
  for (int64_t c = 0; c < t.channels; ++c) {
    const int64_t index = t.at(b, h, row, c);
    if (!nan_expected) result.add(t.value(copy, index), exact[c], rounded[c]);
    std::memset(copy.data() + Tensor::kGuard + static_cast<size_t>(index * t.bytes), 0xff,
                static_cast<size_t>(t.bytes));
  }
  if (nan_expected != nan_found) result.bad_values = true;
}

inline bool all_poison(const std::vector<uint8_t> &copy) {
  return std::all_of(copy.begin(), copy.end(), [](uint8_t x) { return x == 0xff; });
}

inline void poison_row(Tensor &t, int64_t b, int64_t h, int64_t row) {
  std::vector<uint8_t> copy = t.memory.read();
  t.set(copy, t.at(b, h, row, t.channels / 3), std::nan(""));
  t.memory.write(copy);
}

}  // namespace sieve::test
