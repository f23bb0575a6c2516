// The row kernels of a composed kernel: what happens between the streams' outputs and the output, both ways.
//
//   combine     O_1, O_2 -> x = O_1 - w O_2 -> epilogue -> output
//   widen       q_1, q_2 -> [q_1, 0], [0, q_2] of neighbouring heads
//   prepare     O_1, O_2, output_gradient -> dx -> gradients of O_1 and O_2 (element type), of gate and logits;
//               a thread block's share of the gradients of lambda and gain
//   reduce      the shares -> gradients of lambda and gain, in a fixed order
//   value_sum   value gradients of two streams -> value_gradient
//
// A thread block takes kRowTile rows of a group: the noise head and its signals, or a head of the first version. A row
// is `lanes` neighbouring lanes with 8 channels each, so everything moves in pieces of 16 bytes; the noise stays in
// registers while the signals pass. All in fp32, x is rounded once. Memory-bound: combine moves 8 bytes of float32
// streams and 2 of output a channel, prepare reads as much and writes 4.
#pragma once

#include "device/epilogue.h"
#include "device/query_gradient.h"
#include "operators/differential/problem.h"

namespace sieve::differential {

constexpr int kRowThreads = 256;

// Rows of the tensors that belong to a sequence. Packed sequences follow each other without gaps.
struct RowsInUse {
  const int32_t *starts = nullptr;  // sequences + 1 of them; null: all rows
  int32_t sequences = 0;
  int32_t rows = 0;  // of the tensor

  __device__ bool contains(int row) const {
    return starts == nullptr ? row < rows : row >= starts[0] && row < starts[sequences] && row < rows;
  }
};

// The two operands of the subtraction and where they lie.
struct StreamRows {
  RowsInUse in_use;
  int32_t groups = 0;       // of a batch entry
  int32_t signals = 1;      // output heads of a group
  int32_t group_heads = 1;  // heads of `first` from one group to the next; of `second` too
  int32_t tiles = 0;        // of kRowTile rows
  int32_t lanes = 0;        // of a row: a power of two, value_dim / 8 or more, 32 at most
  int32_t value_dim = 0;
  TensorView first, second;  // `second` begins at the first group's subtrahend
  OutputType type = OutputType::kElement;
  ScalarView lambda;
  TensorView logits;  // data = nullptr: lambda is the weight

  __device__ float weight(int batch, int head, int64_t row) const {
    if (logits.data == nullptr) return lambda.at(head);
    return 1.0f / (1.0f + expf(-*static_cast<const float *>(logits.row(batch, head, row, 4))));
  }
};

// What a thread block and a thread do.
struct RowPlace {
  int batch, group, first_row;
  int slot, channel;  // of the thread: row of a pass, first channel
  int step;           // rows of a pass

  __device__ explicit RowPlace(const StreamRows &a) {
    const int index = static_cast<int>(blockIdx.x), thread = static_cast<int>(threadIdx.x);
    first_row = index % a.tiles * kRowTile;
    group = index / a.tiles % a.groups;
    batch = index / a.tiles / a.groups;
    slot = thread / a.lanes;
    channel = thread % a.lanes * 8;
    step = kRowThreads / a.lanes;
  }
};

// Sum over the lanes of a row, in all of them.
__device__ inline float sum_of_row(float value, int lanes) {
  for (int step = lanes / 2; step > 0; step /= 2) value += __shfl_xor_sync(0xffffffffu, value, step);
  return value;
}

template <typename Element>
__device__ inline void load_channels(const TensorView &source, OutputType type, int batch, int head, int64_t row,
                                     int channel, float (&x)[8]) {
  if (type == OutputType::kFloat32) {
    const float4 *s =
        reinterpret_cast<const float4 *>(static_cast<const float *>(source.row(batch, head, row, 4)) + channel);
    const float4 low = s[0], high = s[1];
    x[0] = low.x, x[1] = low.y, x[2] = low.z, x[3] = low.w;
    x[4] = high.x, x[5] = high.y, x[6] = high.z, x[7] = high.w;
  } else {
    const uint4 s =
        *reinterpret_cast<const uint4 *>(static_cast<const uint16_t *>(source.row(batch, head, row, 2)) + channel);
    const float2 pairs[4] = {unpack<Element>(s.x), unpack<Element>(s.y), unpack<Element>(s.z), unpack<Element>(s.w)};
#pragma unroll
    for (int i = 0; i < 4; ++i) x[2 * i] = pairs[i].x, x[2 * i + 1] = pairs[i].y;
  }
}

__device__ inline void load_gain(const EpilogueView &epilogue, int channel, int value_dim, float (&gain)[8]) {
#pragma unroll
  for (int i = 0; i < 8; ++i)
    gain[i] = epilogue.norm_gain == nullptr ? 1.0f : channel < value_dim ? epilogue.norm_gain[channel + i] : 0.0f;
}

struct WidenArguments {
  TensorView query[2];  // 16-bit elements
  TensorView wide;      // [batch, 2 heads, rows, 2 head_dim]
  int32_t heads = 0;
  int32_t rows = 0;
  int32_t pieces = 0;  // of 8 channels, of head_dim
  int64_t count = 0;   // of pieces of all of `wide`
};

// A thread a piece of 16 bytes.
__global__ void __launch_bounds__(kRowThreads) widen(const __grid_constant__ WidenArguments a) {
  const int64_t index = static_cast<int64_t>(blockIdx.x) * kRowThreads + threadIdx.x;
  if (index >= a.count) return;
  const int piece = static_cast<int>(index % (2 * a.pieces));
  const int64_t row = index / (2 * a.pieces) % a.rows, head = index / (2 * a.pieces) / a.rows;
  const int batch = static_cast<int>(head / (2 * a.heads)), wide_head = static_cast<int>(head % (2 * a.heads));
  const int stream = wide_head % 2;
  uint4 channels{};
  if (piece / a.pieces == stream) {
    const auto *query = static_cast<const uint16_t *>(a.query[stream].row(batch, wide_head / 2, row, 2));
    channels = *reinterpret_cast<const uint4 *>(query + piece % a.pieces * 8);
  }
  *reinterpret_cast<uint4 *>(static_cast<uint16_t *>(a.wide.row(batch, wide_head, row, 2)) + piece * 8) = channels;
}

struct CombineArguments {
  StreamRows rows;
  EpilogueView epilogue;
  TensorView output;
  OutputType output_type = OutputType::kElement;
};

template <typename Element>
__global__ void __launch_bounds__(kRowThreads) combine(const __grid_constant__ CombineArguments a) {
  const StreamRows &rows = a.rows;
  const RowPlace place(rows);
  const int channel = place.channel;
  float gain[8];
  load_gain(a.epilogue, channel, rows.value_dim, gain);
  for (int pass = 0; pass < kRowTile && place.first_row + pass < rows.in_use.rows; pass += place.step) {
    const int row = place.first_row + pass + place.slot;
    const bool in_use = rows.in_use.contains(row), mine = in_use && channel < rows.value_dim;
    float noise[8] = {};
    if (mine)
      load_channels<Element>(rows.second, rows.type, place.batch, place.group * rows.group_heads, row, channel, noise);
    for (int s = 0; s < rows.signals; ++s) {
      const int head = place.group * rows.signals + s;
      float x[8] = {};
      if (mine) {
        load_channels<Element>(rows.first, rows.type, place.batch, place.group * rows.group_heads + s, row, channel, x);
        const float weight = rows.weight(place.batch, head, row);
#pragma unroll
        for (int i = 0; i < 8; ++i) x[i] = fmaf(-weight, noise[i], x[i]);
      }
      float squares = 0.0f;
      if (a.epilogue.rms_norm) {
#pragma unroll
        for (int i = 0; i < 8; ++i) squares = fmaf(x[i], x[i], squares);
        squares = sum_of_row(squares, rows.lanes);
      }
      if (!mine) continue;
      const float factor =
          epilogue_factor(a.epilogue, squares / static_cast<float>(rows.value_dim), place.batch, head, row);
#pragma unroll
      for (int i = 0; i < 8; ++i) x[i] *= factor * gain[i];
      store_channels<Element>(a.output, a.output_type, place.batch, head, row, channel, x);
    }
  }
}

struct PrepareArguments {
  StreamRows rows;
  EpilogueView epilogue;
  TensorView lse;  // of a head of the group: whether the row sees a key is the same for all
  TensorView output_gradient;
  TensorView first_gradient, second_gradient;  // like rows.first and rows.second, element type
  TensorView gate_gradient;                    // data = nullptr: not wanted
  TensorView logit_gradient;
  float *partial_lambda = nullptr;  // a float a thread block; null: not wanted
  float *partial_gain = nullptr;    // value_dim floats a thread block
};

// Of one row and one signal: from output_gradient to dx, and what falls out on the way.
struct RowGradient {
  float dx[8];
  float gate;    // gradient of the gate's logit
  float weight;  // -dx . O_2
  float gain[8];
};

// `gradient` holds output_gradient, `x` O_1 - w O_2, `noise` O_2; all 0 where the row does not count.
__device__ inline void differentiate(const PrepareArguments &a, const float (&gradient)[8], const float (&x)[8],
                                     const float (&noise)[8], const float (&gain)[8], int batch, int head, int64_t row,
                                     bool in_use, RowGradient &result) {
  const EpilogueView &epilogue = a.epilogue;
  float squares = 0.0f, dot = 0.0f;
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    squares = fmaf(x[i], x[i], squares);
    dot = fmaf(gradient[i] * gain[i], x[i], dot);
  }
  dot = sum_of_row(dot, a.rows.lanes);
  float inverse = 1.0f, along = 0.0f;  // 1 / root of the mean square; what of x the norm takes out of the gradient
  if (epilogue.rms_norm) {
    const float channels = static_cast<float>(a.rows.value_dim);
    const float power = sum_of_row(squares, a.rows.lanes) / channels + epilogue.norm_eps;
    inverse = power > 0.0f ? 1.0f / sqrtf(power) : (power == 0.0f ? 0.0f : power);
    along = inverse * inverse * dot / channels;
  }
  float logit = 0.0f, gate = 1.0f;
  if (epilogue.gate != nullptr && in_use) {
    logit = epilogue.gate[batch * epilogue.gate_batch_stride + head * epilogue.gate_head_stride +
                          row * epilogue.gate_row_stride];
    gate = 1.0f / (1.0f + expf(-logit));
  }
  const float factor = epilogue.output_scale * gate * inverse;
  result.gate = factor * dot / (1.0f + expf(logit));
  float minus = 0.0f;
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    const float upstream = gradient[i] * gain[i];
    // Without a norm x has no part in it, also where it is not finite.
    result.dx[i] = factor * (epilogue.rms_norm ? fmaf(-along, x[i], upstream) : upstream);
    result.gain[i] = factor * gradient[i] * x[i];
    minus = fmaf(-result.dx[i], noise[i], minus);
  }
  result.weight = sum_of_row(minus, a.rows.lanes);
}

template <typename Element>
__global__ void __launch_bounds__(kRowThreads) prepare(const __grid_constant__ PrepareArguments a) {
  __shared__ float lambda_sums[kRowThreads];
  __shared__ __align__(16) float gain_sums[kRowThreads * 8];
  const StreamRows &rows = a.rows;
  const RowPlace place(rows);
  const int channel = place.channel;
  float gain[8], gain_sum[8] = {}, lambda_sum = 0.0f;
  load_gain(a.epilogue, channel, rows.value_dim, gain);
  for (int pass = 0; pass < kRowTile && place.first_row + pass < rows.in_use.rows; pass += place.step) {
    const int row = place.first_row + pass + place.slot;
    const int first_head = place.group * rows.group_heads;
    const bool in_use = rows.in_use.contains(row), mine = in_use && channel < rows.value_dim;
    // A row that sees no key has no part in anything, whatever its gradient.
    const bool counts =
        mine && *static_cast<const float *>(a.lse.row(place.batch, first_head, row, 4)) != -__builtin_huge_valf();
    float noise[8] = {}, noise_gradient[8] = {};
    if (counts) load_channels<Element>(rows.second, rows.type, place.batch, first_head, row, channel, noise);
    for (int s = 0; s < rows.signals; ++s) {
      const int head = place.group * rows.signals + s;
      float x[8] = {}, gradient[8] = {}, weight = 0.0f;
      if (counts) {
        load_channels<Element>(rows.first, rows.type, place.batch, first_head + s, row, channel, x);
        load_channels<Element>(a.output_gradient, OutputType::kElement, place.batch, head, row, channel, gradient);
        weight = rows.weight(place.batch, head, row);
#pragma unroll
        for (int i = 0; i < 8; ++i) x[i] = fmaf(-weight, noise[i], x[i]);
      }
      RowGradient result;
      differentiate(a, gradient, x, noise, gain, place.batch, head, row, in_use, result);
      if (!mine) continue;
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        noise_gradient[i] = fmaf(-weight, result.dx[i], noise_gradient[i]);
        gain_sum[i] += result.gain[i];
      }
      store_channels<Element>(a.first_gradient, OutputType::kElement, place.batch, first_head + s, row, channel,
                              result.dx);
      if (channel != 0) continue;
      lambda_sum += result.weight;
      if (a.gate_gradient.data != nullptr)
        *static_cast<float *>(a.gate_gradient.row(place.batch, head, row, 4)) = result.gate;
      if (a.logit_gradient.data != nullptr)
        *static_cast<float *>(a.logit_gradient.row(place.batch, head, row, 4)) =
            result.weight * weight * (1.0f - weight);
    }
    if (mine)
      store_channels<Element>(a.second_gradient, OutputType::kElement, place.batch, first_head, row, channel,
                              noise_gradient);
  }
  if (a.partial_lambda == nullptr && a.partial_gain == nullptr) return;

  const int thread = static_cast<int>(threadIdx.x);
  if (channel == 0) lambda_sums[place.slot] = lambda_sum;
#pragma unroll
  for (int i = 0; i < 8; ++i) gain_sums[thread * 8 + i] = gain_sum[i];
  __syncthreads();
  if (a.partial_lambda != nullptr && thread == 0) {
    float sum = 0.0f;
    for (int slot = 0; slot < place.step; ++slot) sum += lambda_sums[slot];
    a.partial_lambda[blockIdx.x] = sum;
  }
  if (a.partial_gain == nullptr || thread >= rows.value_dim) return;
  float sum = 0.0f;
  for (int slot = 0; slot < place.step; ++slot) sum += gain_sums[slot * rows.lanes * 8 + thread];
  a.partial_gain[static_cast<int64_t>(blockIdx.x) * rows.value_dim + thread] = sum;
}

// Thread blocks 0 to value_dim / 8 - 1 take 8 channels of the gain each, those behind them a float of lambda each.
struct ReduceArguments {
  const float *partial_lambda = nullptr;  // [batch][heads][tiles]
  const float *partial_gain = nullptr;    // [batch heads tiles][value_dim]
  int32_t batch = 0, heads = 0, tiles = 0;
  int32_t value_dim = 0;  // 0 where no gain is wanted
  bool lambda_per_head = false;
  float *lambda_gradient = nullptr;
  float *gain_gradient = nullptr;
};

// Of one channel of 8, or of one float: kColumns neighbouring threads have one each.
template <int kColumns>
__device__ inline void reduce_columns(float sum, float *target) {
  __shared__ float sums[kRowThreads];
  const int thread = static_cast<int>(threadIdx.x);
  sums[thread] = sum;
  for (int step = kRowThreads / 2; step >= kColumns; step /= 2) {
    __syncthreads();
    if (thread < step) sums[thread] += sums[thread + step];
  }
  if (thread < kColumns) target[thread] = sums[thread];
}

static __global__ void __launch_bounds__(kRowThreads) reduce(const __grid_constant__ ReduceArguments a) {
  const int block = static_cast<int>(blockIdx.x), thread = static_cast<int>(threadIdx.x);
  const int64_t count = static_cast<int64_t>(a.batch) * a.heads * a.tiles;
  float sum = 0.0f;
  if (block < a.value_dim / 8) {
#pragma unroll 8
    for (int64_t i = thread / 8; i < count; i += kRowThreads / 8)
      sum += a.partial_gain[i * a.value_dim + block * 8 + thread % 8];
    reduce_columns<8>(sum, a.gain_gradient + block * 8);
    return;
  }
  const int head = block - a.value_dim / 8;
  if (a.lambda_per_head) {
    for (int64_t i = thread; i < static_cast<int64_t>(a.batch) * a.tiles; i += kRowThreads)
      sum += a.partial_lambda[(i / a.tiles * a.heads + head) * a.tiles + i % a.tiles];
  } else {
#pragma unroll 8
    for (int64_t i = thread; i < count; i += kRowThreads) sum += a.partial_lambda[i];
  }
  reduce_columns<1>(sum, a.lambda_gradient + head);
}

struct ValueSumArguments {
  RowsInUse in_use;
  int32_t batch = 0, heads = 0, value_dim = 0;
  const float *sums[2] = {};  // [batch, heads, rows, value_dim], contiguous
  TensorView target;
  OutputType type = OutputType::kElement;
};

template <typename Element>
__global__ void __launch_bounds__(kRowThreads) value_sum(const __grid_constant__ ValueSumArguments a) {
  const int pieces = a.value_dim / 8;
  const int64_t index = static_cast<int64_t>(blockIdx.x) * kRowThreads + threadIdx.x, place = index / pieces;
  const int channel = static_cast<int>(index % pieces) * 8, row = static_cast<int>(place % a.in_use.rows);
  const int64_t head = place / a.in_use.rows;
  if (head >= static_cast<int64_t>(a.heads) * a.batch || !a.in_use.contains(row)) return;
  float x[8];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const float4 one = reinterpret_cast<const float4 *>(a.sums[0] + index * 8)[half],
                 two = reinterpret_cast<const float4 *>(a.sums[1] + index * 8)[half];
    x[4 * half] = one.x + two.x, x[4 * half + 1] = one.y + two.y;
    x[4 * half + 2] = one.z + two.z, x[4 * half + 3] = one.w + two.w;
  }
  store_channels<Element>(a.target, a.type, static_cast<int>(head / a.heads), static_cast<int>(head % a.heads), row,
                          channel, x);
}

}  // namespace sieve::differential
