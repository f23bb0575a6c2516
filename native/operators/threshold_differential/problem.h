// Threshold differential attention between abi/ and its kernels: the plan of one call, and the list of kernels.
#pragma once

#include "abi/kernel_table.h"
#include "device/problem.h"
#include "operators/threshold_differential/survivors.h"

namespace sieve::threshold_differential {

// Images of rows for a screen (image_rows.h); values = nullptr: none.
struct ImageRows {
  int8_t *values = nullptr;  // [batch, heads, rows, image_dim]
  float *scales = nullptr;   // of queries
  float *distances = nullptr;  // of queries [batch, heads, rows], of keys [batch, heads, image_groups(rows)]
};

// Groups of 64 keys, of which the largest distance is kept.
#ifdef __CUDACC__
__host__ __device__
#endif
    constexpr int64_t
    image_groups(int64_t rows) {
  return (rows + 63) / 64;
}

// Channels of an image.
constexpr int32_t image_dim(int32_t head_dim) {
  return head_dim <= 64 ? 64 : 128;
}

// Everything a launch needs. Made by abi/ from validated arguments; nothing is decided after it.
struct ForwardPlan {
  ProblemView problem;
  int32_t views = 2;
  int32_t tensor_batch = 0;
  int64_t query_rows = 0;  // of the tensors, also with packed sequences
  int64_t key_rows = 0;
  TensorView query[2];
  TensorView key[2];
  TensorView value;
  TensorView output;
  OutputType output_type = OutputType::kElement;
  TensorView survivors[2];
  SurvivorTiles survivor_tiles;
  int32_t head_dim = 0;
  int32_t value_dim = 0;
  ScalarView beta;
  ScalarView lambda;
  float kappa = 1;
  float power = 2;
  float *query_inverse_norms[2] = {};
  float *key_inverse_norms[2] = {};
  ImageRows query_images[2];
  ImageRows key_images[2];
  int32_t *next_tile = nullptr;  // counter of kernels whose blocks compute many tiles
  int32_t multiprocessors = 0;
};

// Returns a cudaError_t.
using ForwardLaunch = int (*)(const ForwardPlan &plan, void *stream);

// One compiled forward: what it is, and its launches for one and for two views, without and with images.
struct ForwardKernel {
  KernelDescription description;
  ForwardLaunch launch[2];
  ForwardLaunch launch_screened[2];  // nullptr = not on this path
};

// The only list of supported shapes; empty in a build without kernels.
struct ForwardKernels {
  const ForwardKernel *first;
  int count;
};
ForwardKernels forward_kernels();

}  // namespace sieve::threshold_differential
