// What every attention kernel is given: tensors, masks, sequences, epilogue. Plain data, filled by abi/, no CUDA types.
#pragma once

#include <cstdint>

namespace sieve {

// [batch, heads, rows, channels] in device memory; channels are contiguous, strides count elements.
struct TensorView {
  void *data = nullptr;
  int64_t batch_stride = 0;
  int64_t head_stride = 0;
  int64_t row_stride = 0;

#ifdef __CUDACC__
  // First channel of a row, for elements of `bytes` bytes.
  __device__ void *row(int batch, int head, int64_t row, int bytes) const {
    return static_cast<char *>(data) + (batch * batch_stride + head * head_stride + row * row_stride) * bytes;
  }
#endif
};

// A parameter by value or in device memory (then it may change between replays of a captured graph).
struct ScalarView {
  const float *device = nullptr;
  float value = 0;
  int32_t head_stride = 0;

#ifdef __CUDACC__
  __device__ float at(int head) const {
    return device == nullptr ? value : device[static_cast<int64_t>(head) * head_stride];
  }
#endif
};

// Output element type of kernels that can write more than one.
enum class OutputType : int32_t { kElement, kFloat32 };

struct EpilogueView {
  const float *norm_gain = nullptr;
  const float *gate = nullptr;  // logits
  int64_t gate_batch_stride = 0;
  int64_t gate_head_stride = 0;
  int64_t gate_row_stride = 0;
  float norm_eps = 0;
  float output_scale = 1;
  bool rms_norm = false;
};

// Factor of a row's scores, beside the operator's own scale (device/row_factor.h evaluates it).
enum class RowFactorKind : int32_t { kNone, kSsmax, kAsentmax, kVector };

struct RowFactorView {
  RowFactorKind kind = RowFactorKind::kNone;
  ScalarView first;
  ScalarView second;
  TensorView factors;  // float, of kVector
};

// Rows and |query_offset| are at most kMostRows, so positions and windows fit 32 bits.
constexpr int64_t kMostRows = int64_t{1} << 29;

struct ProblemView {
  int32_t batch = 0;  // or the number of packed sequences
  int32_t query_heads = 0;
  int32_t group = 1;    // query heads per key head
  int32_t queries = 0;  // rows of the query tensor; with packed sequences the longest sequence
  int32_t keys = 0;     // rows of the key tensor
  int32_t causal = 0;
  int32_t align_end = 0;
  int32_t query_offset = 0;
  int32_t window = 0;  // 0 = none
  const int32_t *query_starts = nullptr;
  const int32_t *key_starts = nullptr;
  const int32_t *key_lengths = nullptr;
  RowFactorView row_factor;
  EpilogueView epilogue;
};

}  // namespace sieve
