// Threshold differential attention over a cache, between abi/ and its kernels: the plans of its calls, and the list of
// kernels. No CUDA types.
#pragma once

#include "abi/kernel_table.h"
#include "device/problem.h"

namespace sieve::threshold_differential {

// Cheap images of the keys that rule most of them out (screen.h).
enum class Screen : int32_t { kNone = 0, kInt8 = 1, kInt4 = 2 };

// Channels of the images: head_dim rounded up to one of these.
constexpr int32_t screened_dim(int32_t head_dim) {
  return head_dim <= 64 ? 64 : 128;
}

// Keys that share an image, and its bytes in one view: their values and 4 bytes a key.
constexpr int32_t kScreenedKeys = 16;
constexpr int32_t screen_bytes(Screen screen, int32_t head_dim) {
  return screened_dim(head_dim) * (screen == Screen::kInt8 ? 16 : 8) + 64;
}

// Thread blocks of decode have so many warps, each with a partial result of its own.
constexpr int32_t kDecodeWarps = 4;

// Query rows x heads of a group.
constexpr int32_t kMostDecodeRows = 64;

// What a cache holds. Inverse norms are floats [entries, key heads, rows]; images of 16 keys are rows of 32-bit words
// [entries, key heads, rows / 16, words].
struct Cache {
  const int32_t *page_table = nullptr;  // [batch][page_table_width], or null
  int64_t page_table_width = 0;
  int32_t page_size = 0;
  TensorView key[2];
  TensorView value;
  TensorView inverse_norms[2];
  TensorView screens[2];
  Screen screen = Screen::kNone;
};

// With pages, problem.keys is what a full page table holds.
struct DecodePlan {
  ProblemView problem;
  Cache cache;
  int32_t views = 2;
  int32_t head_dim = 0;  // of the tensors; the kernel's own may be larger
  int32_t value_dim = 0;
  bool is_bfloat16 = true;
  TensorView query[2];
  TensorView output;
  OutputType output_type = OutputType::kElement;
  TensorView survivors[2];  // int32, data = nullptr: not wanted
  ScalarView beta;
  ScalarView lambda;
  float kappa = 1;
  float power = 2;
  int32_t splits = 1;
  float *partial_outputs = nullptr;  // [splits * kDecodeWarps][batch][query heads][queries][value_dim]
};

// The last `rows` keys of every entry get what the cache keeps beside them; where new tensors are given, they are
// copied first.
struct AppendPlan {
  Cache cache;
  int32_t batch = 0;
  int32_t key_heads = 0;
  int32_t keys = 0;  // of a full cache entry
  int32_t rows = 0;
  int32_t views = 2;
  int32_t head_dim = 0;
  int32_t value_dim = 0;
  bool is_bfloat16 = true;
  const int32_t *key_lengths = nullptr;
  TensorView new_key[2];  // data = nullptr: the keys are in the cache
  TensorView new_value;   // data = nullptr: not copied
};

// A kernel for tensors of the described dims. Returns a cudaError_t.
struct DecodeKernel {
  KernelDescription description;
  int (*launch)(const DecodePlan &plan, void *stream);
};
struct DecodeKernels {
  const DecodeKernel *first;
  int count;
};
DecodeKernels decode_kernels();

// Null in a build without kernels.
using AppendLaunch = int (*)(const AppendPlan &plan, void *stream);
AppendLaunch append_launch();

}  // namespace sieve::threshold_differential
