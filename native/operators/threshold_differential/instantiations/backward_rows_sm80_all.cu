#include "operators/threshold_differential/backward_rows.h"

#include "device/epilogue.h"
#include "device/query_gradient.h"
#include "operators/threshold_differential/threshold.h"

namespace sieve::threshold_differential {

namespace {

constexpr int kLanes = 16;  // a row, 8 channels each
constexpr int kPrepareThreads = 256;
constexpr int kRowsPerPass = kPrepareThreads / kLanes;

struct PrepareArguments {
  ProblemView problem;
  ScalarView beta;
  float kappa;
  float upstream_scale;
  HeadGroups order;
  int32_t head_dim;
  int32_t value_dim;
  int64_t query_rows;
  TensorView output_gradient;
  TensorView sums;      // float32 x; read with a norm only, like what follows
  TensorView upstream;  // written
  TensorView gate_gradient;
  float *gain_sums;
  float *thresholds;
  float *upstream_factors;
};

__device__ float lanes_sum(float x) {
#pragma unroll
  for (int step = kLanes / 2; step > 0; step /= 2) x += __shfl_xor_sync(0xffffffffu, x, step);
  return x;
}

// One thread block 64 query rows of a head.
template <typename Element>
__global__ void __launch_bounds__(kPrepareThreads) prepare(const __grid_constant__ PrepareArguments a) {
  __shared__ float gains[kRowsPerPass][kGainChannels];
  const EpilogueView &epilogue = a.problem.epilogue;
  const BlockPlace place = BlockPlace::of(a.problem, a.order, static_cast<int>(blockIdx.x));
  const Sequence sequence = Sequence::at(a.problem, place.sequence);
  const int first_row = place.query_block * kSurvivorTile;
  const int thread = static_cast<int>(threadIdx.x), lane = thread % kLanes, channel = lane * 8;
  float gain_sums[8] = {};
#pragma unroll 1
  for (int pass = 0; pass < kSurvivorTile / kRowsPerPass; ++pass) {
    const int row = first_row + pass * kRowsPerPass + thread / kLanes;
    const bool inside = row < sequence.queries, reads = inside && channel < a.value_dim;
    const int64_t tensor_row = sequence.query_start + static_cast<int64_t>(row);
    float factor = epilogue.output_scale, logit = 0.0f;
    if (inside && epilogue.gate != nullptr) {
      logit = epilogue.gate[sequence.batch * epilogue.gate_batch_stride + place.head * epilogue.gate_head_stride +
                            tensor_row * epilogue.gate_row_stride];
      factor *= 1.0f / (1.0f + expf(-logit));
    }
    if (epilogue.rms_norm) {  // the same for all threads
      float x[8] = {}, h[8] = {}, dy[8] = {};
      if (reads) {
        const float4 *source = reinterpret_cast<const float4 *>(
            static_cast<const float *>(a.sums.row(sequence.batch, place.head, tensor_row, 4)) + channel);
        const float4 low = source[0], high = source[1];
        x[0] = low.x, x[1] = low.y, x[2] = low.z, x[3] = low.w;
        x[4] = high.x, x[5] = high.y, x[6] = high.z, x[7] = high.w;
        const uint4 words = *reinterpret_cast<const uint4 *>(
            static_cast<const uint16_t *>(a.output_gradient.row(sequence.batch, place.head, tensor_row, 2)) + channel);
        const float2 pairs[4] = {unpack<Element>(words.x), unpack<Element>(words.y), unpack<Element>(words.z),
                                 unpack<Element>(words.w)};
#pragma unroll
        for (int i = 0; i < 4; ++i) dy[2 * i] = pairs[i].x, dy[2 * i + 1] = pairs[i].y;
#pragma unroll
        for (int i = 0; i < 8; ++i)
          h[i] = epilogue.norm_gain != nullptr ? epilogue.norm_gain[channel + i] * dy[i] : dy[i];
      }
      float squares = 0.0f;
#pragma unroll
      for (int i = 0; i < 8; ++i) squares = fmaf(x[i], x[i], squares);
      EpilogueView norm_alone{};
      norm_alone.rms_norm = true;
      norm_alone.norm_eps = epilogue.norm_eps;
      const float r = epilogue_factor(norm_alone, lanes_sum(squares) / static_cast<float>(a.value_dim), 0, 0, 0);
      float dot = 0.0f;
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        x[i] *= r;
        dot = fmaf(x[i], h[i], dot);
        gain_sums[i] = fmaf(factor * dy[i], x[i], gain_sums[i]);
      }
      dot = lanes_sum(dot);
      if (inside && lane == 0 && a.gate_gradient.data != nullptr)
        *static_cast<float *>(a.gate_gradient.row(sequence.batch, place.head, tensor_row, 4)) =
            factor * dot / (1.0f + expf(logit));
      const float mean = dot / static_cast<float>(a.value_dim);
#pragma unroll
      for (int i = 0; i < 8; ++i) h[i] = fmaf(-x[i], mean, h[i]);
      if (reads)
        store_channels<Element>(a.upstream, OutputType::kElement, sequence.batch, place.head, tensor_row, channel, h);
      factor *= r;
    }
    if (inside && lane == 0) {
      const int64_t index =
          (static_cast<int64_t>(sequence.batch) * a.problem.query_heads + place.head) * a.query_rows + tensor_row;
      const KeyRange range = sequence.visible(a.problem, row);
      a.thresholds[index] = threshold(a.beta.at(place.head), a.kappa, range.end - range.first, a.head_dim);
      a.upstream_factors[index] = factor / a.upstream_scale;
    }
  }
  if (a.gain_sums == nullptr) return;
#pragma unroll
  for (int i = 0; i < 8; ++i) gains[thread / kLanes][channel + i] = gain_sums[i];
  __syncthreads();
  if (thread >= kGainChannels) return;
  float sum = 0.0f;
#pragma unroll
  for (int i = 0; i < kRowsPerPass; ++i) sum += gains[i][thread];
  a.gain_sums[static_cast<int64_t>(blockIdx.x) * kGainChannels + thread] = sum;
}

constexpr int kParameterThreads = 256;

// Sum over the thread block, in the first thread; in one order.
__device__ float block_sum(float x) {
  __shared__ float warps[kParameterThreads / 32];
  const int thread = static_cast<int>(threadIdx.x);
#pragma unroll
  for (int step = 16; step > 0; step /= 2) x += __shfl_xor_sync(0xffffffffu, x, step);
  __syncthreads();
  if (thread % 32 == 0) warps[thread / 32] = x;
  __syncthreads();
  float sum = 0.0f;
#pragma unroll
  for (int i = 0; i < kParameterThreads / 32; ++i) sum += warps[i];
  return sum;
}

struct ParameterArguments {
  const float *sums;  // [blocks][stride]
  int64_t blocks;
  int32_t stride;
  int32_t heads;             // 0: not apart
  int32_t count;             // arrays of results
  float *results[kRowSums];  // or nullptr
};

// Thread block i writes result i of every array: where heads are apart, column 0, 1, ... of the blocks of head i; else
// column i of all blocks.
__global__ void __launch_bounds__(kParameterThreads) parameters(const __grid_constant__ ParameterArguments a) {
  const int index = static_cast<int>(blockIdx.x);
#pragma unroll 1
  for (int i = 0; i < a.count; ++i) {
    if (a.results[i] == nullptr) continue;
    const int column = a.heads == 0 ? index : i;
    const int64_t step = a.heads == 0 ? 1 : a.heads;
    float sum = 0.0f;
    for (int64_t block = (a.heads == 0 ? 0 : index) + threadIdx.x * step; block < a.blocks;
         block += kParameterThreads * step)
      sum += a.sums[block * a.stride + column];
    sum = block_sum(sum);
    if (threadIdx.x == 0) a.results[i][index] = sum;
  }
}

}  // namespace

cudaError_t launch_prepare(const BackwardPlan &plan, bool is_bfloat16, cudaStream_t stream) {
  const ForwardPlan &forward = plan.forward;
  PrepareArguments a{};
  a.problem = plan.problem;
  a.beta = forward.beta;
  a.kappa = forward.kappa;
  a.upstream_scale = upstream_scale(plan, !is_bfloat16);
  a.order = query_order(plan);
  a.head_dim = forward.head_dim;
  a.value_dim = forward.value_dim;
  a.query_rows = forward.query_rows;
  a.output_gradient = plan.output_gradient;
  a.sums = forward.output;
  a.upstream = plan.upstream;
  a.gate_gradient = plan.gate_gradient;
  a.gain_sums = plan.gain_sums;
  a.thresholds = plan.thresholds;
  a.upstream_factors = plan.upstream_factors;
  const auto kernel = is_bfloat16 ? prepare<__nv_bfloat16> : prepare<__half>;
  kernel<<<static_cast<unsigned>(query_blocks(plan)), kPrepareThreads, 0, stream>>>(a);
  return cudaGetLastError();
}

cudaError_t launch_parameters(const BackwardPlan &plan, cudaStream_t stream) {
  const int32_t heads = plan.problem.query_heads;
  if (plan.row_sums != nullptr) {
    ParameterArguments a{plan.row_sums, query_blocks(plan),
                         kRowSums,      heads,
                         kRowSums,      {plan.beta_gradient, plan.kappa_gradient, plan.lambda_gradient}};
    parameters<<<static_cast<unsigned>(heads), kParameterThreads, 0, stream>>>(a);
  }
  if (plan.gain_sums != nullptr) {
    ParameterArguments a{plan.gain_sums, query_blocks(plan), kGainChannels, 0, 1, {plan.norm_gain_gradient}};
    parameters<<<static_cast<unsigned>(plan.forward.value_dim), kParameterThreads, 0, stream>>>(a);
  }
  return cudaGetLastError();
}

}  // namespace sieve::threshold_differential
