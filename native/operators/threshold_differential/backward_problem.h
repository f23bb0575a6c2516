// The plan of one backward call of threshold differential attention, and the list of its kernels.
#pragma once

#include "operators/threshold_differential/problem.h"

namespace sieve::threshold_differential {

constexpr int kRowSums = 3;         // of a block of query rows, for the gradients of beta, kappa and lambda
constexpr int kGainChannels = 128;  // that a block of query rows sums for the gradient of the gain

struct BackwardPlan {
  // Inputs, parameters and inverse norms as forward takes them, without the epilogue. Where the bitmap is the caller's
  // and there is no norm, only the inverse norms are computed again; else all of forward, for the bitmap and `output`,
  // the sums before the epilogue.
  ForwardPlan forward;
  ForwardLaunch run_forward = nullptr;
  SurvivorTiles survivor_tiles;  // read
  ProblemView problem;           // with the epilogue
  TensorView output_gradient;
  TensorView query_gradient[2];  // data = nullptr: not wanted; so everywhere below
  TensorView key_gradient[2];
  TensorView value_gradient;
  OutputType query_gradient_type[2] = {};
  OutputType key_gradient_type[2] = {};
  OutputType value_gradient_type = OutputType::kElement;
  TensorView gate_gradient;
  float *norm_gain_gradient = nullptr;
  float *beta_gradient = nullptr;  // one float a query head, like the next two
  float *kappa_gradient = nullptr;
  float *lambda_gradient = nullptr;
  // Workspace: [batch, query heads, query rows] of thresholds and factors of the upstream gradient; with a norm the
  // upstream gradients themselves, rounded; what blocks of 64 query rows sum.
  float *thresholds = nullptr;
  float *upstream_factors = nullptr;
  TensorView upstream;
  float *gain_sums = nullptr;  // [blocks][kGainChannels]
  float *row_sums = nullptr;   // [blocks][kRowSums]
};

struct BackwardKernel {
  KernelDescription description;
  int (*launch[2])(const BackwardPlan &plan, void *stream);
};

struct BackwardKernels {
  const BackwardKernel *first;
  int count;
};
BackwardKernels backward_kernels();

}  // namespace sieve::threshold_differential
