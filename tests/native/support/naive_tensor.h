// Tensors as the float64 references of native tests read them.
#pragma once

#include "tests/native/support/device_tensor.h"

namespace sieve::test {

// Rows of one tensor of one sequence: element [head][row][channel].
struct NaiveTensor {
  const uint16_t *data;
  long long head_stride, row_stride;
};

template <typename Element>
__device__ double naive_element(const NaiveTensor &t, int head, int row, int channel) {
  return static_cast<double>(static_cast<float>(
      reinterpret_cast<const Element *>(t.data)[head * t.head_stride + row * t.row_stride + channel]));
}

}  // namespace sieve::test
