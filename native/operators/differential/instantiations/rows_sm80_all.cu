#include <cuda_runtime_api.h>

#include "operators/differential/row_kernels.h"
#include "operators/differential/rows.h"

namespace sieve::differential {

namespace {

// `second` with the heads of `first`: behind its signals lies the noise head.
template <class Plan>
StreamRows stream_rows(const Subtraction &subtraction, const Plan (&stream)[2]) {
  const softmax::Plan &plan = stream[0];
  const bool one = subtraction.streams() == 1;
  StreamRows rows;
  rows.in_use = {plan.problem.query_starts, plan.problem.batch, static_cast<int32_t>(plan.query_rows)};
  rows.signals = one ? subtraction.signals : 1;
  rows.group_heads = one ? subtraction.signals + 1 : 1;
  rows.groups = plan.problem.query_heads / rows.group_heads;
  rows.tiles = static_cast<int32_t>(row_tiles(plan.query_rows));
  rows.value_dim = plan.value_dim;
  rows.lanes = 4;
  while (rows.lanes * 8 < plan.value_dim) rows.lanes *= 2;
  rows.first = plan.output;
  rows.second = stream[one ? 0 : 1].output;
  rows.type = plan.output_type;
  rows.lambda = subtraction.lambda;
  rows.logits = subtraction.logits;
  return rows;
}

// The view from its head `head` on.
TensorView from_head(TensorView view, int head, int bytes) {
  view.data = static_cast<char *>(view.data) + head * view.head_stride * bytes;
  return view;
}

unsigned block_count(const StreamRows &rows, int32_t batch) {
  return static_cast<unsigned>(static_cast<int64_t>(batch) * rows.groups * rows.tiles);
}

template <class Plan>
int launch_combine_rows(const Plan &plan, int32_t dtype, void *stream) {
  CombineArguments a{};
  a.rows = stream_rows(plan.subtraction, plan.stream);
  if (plan.subtraction.streams() == 1)
    a.rows.second = from_head(a.rows.second, plan.subtraction.signals, a.rows.type == OutputType::kFloat32 ? 4 : 2);
  a.epilogue = plan.epilogue;
  a.output = plan.output;
  a.output_type = plan.output_type;
  const unsigned blocks = block_count(a.rows, plan.stream[0].tensor_batch);
  const auto kernel = dtype == SIEVE_DTYPE_BFLOAT16 ? combine<__nv_bfloat16> : combine<__half>;
  kernel<<<blocks, kRowThreads, 0, static_cast<cudaStream_t>(stream)>>>(a);
  return cudaGetLastError();
}

int launch_reduce(const BackwardPlan &plan, const StreamRows &rows, cudaStream_t stream) {
  ReduceArguments a{};
  a.partial_lambda = plan.partial_lambda;
  a.partial_gain = plan.partial_gain;
  a.batch = plan.stream[0].tensor_batch;
  a.heads = rows.groups;
  a.tiles = rows.tiles;
  a.value_dim = plan.gain_gradient == nullptr ? 0 : rows.value_dim;
  a.lambda_per_head = plan.lambda_per_head;
  a.lambda_gradient = plan.lambda_gradient;
  a.gain_gradient = plan.gain_gradient;
  const int lambdas = plan.lambda_gradient == nullptr ? 0 : (plan.lambda_per_head ? rows.groups : 1);
  reduce<<<static_cast<unsigned>(a.value_dim / 8 + lambdas), kRowThreads, 0, stream>>>(a);
  return cudaGetLastError();
}

}  // namespace

int launch_combine(const ForwardPlan &plan, int32_t dtype, void *stream) {
  return launch_combine_rows(plan, dtype, stream);
}

int launch_combine(const DecodePlan &plan, int32_t dtype, void *stream) {
  return launch_combine_rows(plan, dtype, stream);
}

int launch_widen(const DecodePlan &plan, void *stream) {
  WidenArguments a{};
  for (int i = 0; i < 2; ++i) a.query[i] = plan.stream[i].query;
  a.wide = plan.joined.query;
  a.heads = plan.stream[0].problem.query_heads;
  a.rows = static_cast<int32_t>(plan.stream[0].query_rows);
  a.pieces = plan.stream[0].head_dim / 8;
  a.count = static_cast<int64_t>(plan.stream[0].problem.batch) * 2 * a.heads * a.rows * 2 * a.pieces;
  widen<<<static_cast<unsigned>((a.count + kRowThreads - 1) / kRowThreads), kRowThreads, 0,
          static_cast<cudaStream_t>(stream)>>>(a);
  return cudaGetLastError();
}

int launch_prepare(const BackwardPlan &plan, int32_t dtype, void *stream) {
  const bool one = plan.subtraction.streams() == 1;
  PrepareArguments a{};
  a.rows = stream_rows(plan.subtraction, plan.stream);
  a.epilogue = plan.epilogue;
  a.lse = plan.stream[0].lse;
  a.output_gradient = plan.output_gradient;
  a.first_gradient = plan.stream[0].output_gradient;
  a.second_gradient = plan.stream[one ? 0 : 1].output_gradient;
  if (one) {
    a.rows.second = from_head(a.rows.second, plan.subtraction.signals, a.rows.type == OutputType::kFloat32 ? 4 : 2);
    a.second_gradient = from_head(a.second_gradient, plan.subtraction.signals, 2);
  }
  a.gate_gradient = plan.gate_gradient;
  a.logit_gradient = plan.logit_gradient;
  a.partial_lambda = plan.lambda_gradient == nullptr ? nullptr : plan.partial_lambda;
  a.partial_gain = plan.gain_gradient == nullptr ? nullptr : plan.partial_gain;
  const unsigned blocks = block_count(a.rows, plan.stream[0].tensor_batch);
  const auto kernel = dtype == SIEVE_DTYPE_BFLOAT16 ? prepare<__nv_bfloat16> : prepare<__half>;
  kernel<<<blocks, kRowThreads, 0, static_cast<cudaStream_t>(stream)>>>(a);
  const cudaError_t error = cudaGetLastError();
  if (error != cudaSuccess || (a.partial_lambda == nullptr && a.partial_gain == nullptr)) return error;
  return launch_reduce(plan, a.rows, static_cast<cudaStream_t>(stream));
}

int launch_value_sum(const BackwardPlan &plan, int32_t dtype, void *stream) {
  if (plan.subtraction.streams() == 1 || plan.value_gradient.data == nullptr) return cudaSuccess;
  const softmax::Plan &streams = plan.stream[0];
  ValueSumArguments a{};
  a.in_use = {streams.problem.key_starts, streams.problem.batch, static_cast<int32_t>(streams.key_rows)};
  a.batch = streams.tensor_batch;
  a.heads = streams.problem.query_heads / streams.problem.group;
  a.value_dim = streams.value_dim;
  for (int i = 0; i < 2; ++i) a.sums[i] = static_cast<const float *>(plan.stream[i].value_gradient.data);
  a.target = plan.value_gradient;
  a.type = plan.value_gradient_type;
  const int64_t pieces = streams.key_rows * a.heads * a.batch * (a.value_dim / 8);
  const auto kernel = dtype == SIEVE_DTYPE_BFLOAT16 ? value_sum<__nv_bfloat16> : value_sum<__half>;
  kernel<<<static_cast<unsigned>((pieces + kRowThreads - 1) / kRowThreads), kRowThreads, 0,
           static_cast<cudaStream_t>(stream)>>>(a);
  return cudaGetLastError();
}

}  // namespace sieve::differential
