// What a query row contributes to a backward pass before any pair is looked at: output, output_gradient, lse, gate ->
// shifts, deltas, factors, gate_gradient (problem.h); and cleared query_sums and turns.
//
// One thread block 128 rows of a head. kLanes neighbouring lanes multiply a row of output and output_gradient, 16 bytes
// each; the dots wait in shared memory until 128 threads finish a row each, so that all scalars are written side by
// side. Memory-bound: 4 bytes a channel read and 4 bytes a channel cleared.
#pragma once

#include "device/query_gradient.h"
#include "operators/softmax/problem.h"

namespace sieve::softmax {

constexpr int kPrepareThreads = 256;

struct PrepareArguments {
  ProblemView problem;
  int32_t tiles = 0;      // of PaddedRows::kTile rows, of the longest sequence
  int32_t value_dim = 0;  // of the tensors; 8 kLanes or less
  int32_t sums_dim = 0;
  int64_t padded_rows = 0;
  TensorView output;
  OutputType output_type = OutputType::kElement;
  TensorView output_gradient;
  TensorView lse;
  TensorView gate_gradient;
  float *shifts = nullptr;
  float *deltas = nullptr;
  float *factors = nullptr;
  float *query_sums = nullptr;
  int32_t *turns = nullptr;
};

// output . output_gradient over eight channels.
template <typename Element>
__device__ inline float dot_output(const PrepareArguments &a, int batch, int head, int64_t row, int channel) {
  const auto *gradient = static_cast<const uint16_t *>(a.output_gradient.row(batch, head, row, 2)) + channel;
  const uint4 g = *reinterpret_cast<const uint4 *>(gradient);
  float x[8];
  if (a.output_type == OutputType::kFloat32) {
    const float4 *o =
        reinterpret_cast<const float4 *>(static_cast<const float *>(a.output.row(batch, head, row, 4)) + channel);
    const float4 low = o[0], high = o[1];
    x[0] = low.x, x[1] = low.y, x[2] = low.z, x[3] = low.w;
    x[4] = high.x, x[5] = high.y, x[6] = high.z, x[7] = high.w;
  } else {
    const uint4 o =
        *reinterpret_cast<const uint4 *>(static_cast<const uint16_t *>(a.output.row(batch, head, row, 2)) + channel);
    const float2 pairs[4] = {unpack<Element>(o.x), unpack<Element>(o.y), unpack<Element>(o.z), unpack<Element>(o.w)};
#pragma unroll
    for (int i = 0; i < 4; ++i) x[2 * i] = pairs[i].x, x[2 * i + 1] = pairs[i].y;
  }
  return dot_channels<Element>(g, x);
}

// The scalars of one row from its dot.
__device__ inline void prepare_row(const PrepareArguments &a, const Sequence &sequence, int head, int row, float dot,
                                   int64_t padded) {
  constexpr float kLog2E = 1.44269504f;
  float shift = __builtin_huge_valf(), delta = 0.0f, factor = 1.0f;
  if (row < sequence.queries) {
    const int64_t tensor_row = sequence.query_start + static_cast<int64_t>(row);
    const float lse = *static_cast<const float *>(a.lse.row(sequence.batch, head, tensor_row, 4));
    const EpilogueView &epilogue = a.problem.epilogue;
    const bool sees_nothing = lse == -__builtin_huge_valf();
    if (a.factors != nullptr) factor = row_factor(a.problem, sequence, head, row);
    float log_gate = 0.0f, gate = 1.0f;
    if (epilogue.gate != nullptr) {
      const float logit = epilogue.gate[sequence.batch * epilogue.gate_batch_stride + head * epilogue.gate_head_stride +
                                        tensor_row * epilogue.gate_row_stride];
      gate = 1.0f / (1.0f + expf(-logit));
      log_gate = fminf(logit, 0.0f) - log1pf(expf(-fabsf(logit)));  // finite where the sigmoid underflows
      if (logit != logit) log_gate = logit;                         // fminf would hide it
      if (a.gate_gradient.data != nullptr)
        *static_cast<float *>(a.gate_gradient.row(sequence.batch, head, tensor_row, 4)) =
            sees_nothing ? 0.0f : dot / (1.0f + expf(logit));
    }
    if (!sees_nothing) {
      shift = (lse - log_gate) * kLog2E;
      // Where the factor of the row is 0, so are its output and its gradients; 0 / 0 must not reach them.
      const float row_scale = epilogue.output_scale * gate;
      delta = row_scale == 0.0f ? dot * 0.0f : dot / row_scale;
    }
  }
  a.shifts[padded] = shift;
  a.deltas[padded] = delta;
  if (a.factors != nullptr) a.factors[padded] = factor;
}

template <typename Element, int kLanes>
__global__ void __launch_bounds__(kPrepareThreads) prepare(const __grid_constant__ PrepareArguments a) {
  constexpr int kRowsPerPass = kPrepareThreads / kLanes;
  static_assert(32 % kLanes == 0, "a row stays within a warp");
  __shared__ float dots[PaddedRows::kTile];
  const int thread = static_cast<int>(threadIdx.x);
  const PaddedTile place = PaddedTile::of(a.problem, a.tiles, static_cast<int>(blockIdx.x));
  const Sequence sequence = Sequence::at(a.problem, place.sequence);
  const int first_row = place.first_row;
  if (first_row >= sequence.queries) return;
  const int64_t padded =
      place.head * a.padded_rows + PaddedRows::first(a.problem, sequence, place.sequence) + first_row;

  const int64_t tensor_row = sequence.query_start + static_cast<int64_t>(first_row);
#pragma unroll 4
  for (int row = thread / kLanes; row < PaddedRows::kTile; row += kRowsPerPass) {
    float dot = 0.0f;
    if (first_row + row < sequence.queries && thread % kLanes * 8 < a.value_dim)
      dot = dot_output<Element>(a, sequence.batch, place.head, tensor_row + row, thread % kLanes * 8);
#pragma unroll
    for (int step = kLanes / 2; step > 0; step /= 2) dot += __shfl_xor_sync(0xffffffffu, dot, step);
    if (thread % kLanes == 0) dots[row] = dot;
  }
  if (a.query_sums != nullptr) {
    float4 *sums = reinterpret_cast<float4 *>(a.query_sums + padded * a.sums_dim);
    for (int i = thread; i < PaddedRows::kTile / 4 * a.sums_dim; i += kPrepareThreads)
      sums[i] = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
  }
  constexpr int kTurns = PaddedRows::kTile / 64 * 2;
  if (a.turns != nullptr && thread < kTurns) a.turns[padded / 64 * 2 + thread] = 0;
  __syncthreads();
  if (thread < PaddedRows::kTile)
    prepare_row(a, sequence, place.head, first_row + thread, dots[thread], padded + thread);
}

}  // namespace sieve::softmax
