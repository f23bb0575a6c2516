// A thread block of the sparse backward pipeline: looks for active tiles, copies columns, scores, sums.
#pragma once

#include "device/epilogue.h"
#include "device/ptx/warpgroup.h"
#include "device/sparse_gradient_sm80_parts.h"

namespace sieve {

template <class Policy, bool kOwnsKeys>
struct SparseGradientBlock {
  using Shape = typename Policy::Shape;
  using Element = typename Shape::Element;
  using SharedMemory = SparseGradientSharedMemory<Policy, kOwnsKeys>;
  using Arguments = SparseGradientArguments<Policy>;
  static constexpr int kViews = Shape::kViews;
  static constexpr int kD = Shape::kHeadDim;
  static constexpr int kV = Shape::kValueDim;
  static constexpr int kRows = SharedMemory::kRows;
  static constexpr int kColumns = Shape::kColumns;
  static constexpr int kChunk = Shape::kChunk;
  static constexpr int kSplit = Shape::kSplit;
  static constexpr int kThreads = Shape::kThreads;
  static constexpr int kParts = kSparseGradientTile / kColumns;
  static constexpr int kWarpChannels = kD / kSplit;
  static constexpr int kWarpValueChannels = kV / kSplit;
  static_assert(kThreads == kRows / 16 * 32 * kSplit, "every warp, or kSplit of them, own 16 rows");
  static_assert(kColumns % kChunk == 0 && (kChunk == 16 || kChunk == 32) && kSparseGradientTile % kColumns == 0,
                "whole chunks, whole tiles");
  static_assert(kThreads >= kColumns, "one thread poisons a column");
  static_assert(kSplit == 1 || (kSplit == 2 && kChunk == 32), "16 columns for each of two warps");
  using RowTile = SharedTile<kRows, kD>;
  using RowValueTile = SharedTile<kRows, kV>;

  const Arguments &a;
  SharedMemory &shared;
  const SparseGradientPlace &place;

  Accumulators<1, kWarpChannels> sums[kViews] = {};
  Accumulators<1, kOwnsKeys ? kWarpValueChannels : 16> value_sums = {};
  typename Policy::Sums row_sums[2] = {};

  // Read anew where they are needed.
  __device__ static int thread() { return ptx::mov_here(static_cast<int>(threadIdx.x)); }
  __device__ static int lane() { return thread() & 31; }
  __device__ static int warp_row() { return thread() / 32 / kSplit * 16; }
  __device__ static int part() { return thread() / 32 % kSplit; }

  __device__ const TensorView &row_tensor(int view) const { return kOwnsKeys ? a.key[view] : a.query[view]; }
  __device__ const TensorView &column_tensor(int view) const { return kOwnsKeys ? a.query[view] : a.key[view]; }
  __device__ int64_t row_start() const { return kOwnsKeys ? place.sequence.key_start : place.sequence.query_start; }
  __device__ int64_t column_start() const { return kOwnsKeys ? place.sequence.query_start : place.sequence.key_start; }
  __device__ int column_end() const { return kOwnsKeys ? place.sequence.queries : place.sequence.keys; }

  // Floats of rows and of columns: what belongs to keys or queries, from a row of either tensor on.
  __device__ const float *scalars(bool of_keys, int index, int head, int64_t row) const {
    const int heads = of_keys ? a.problem.query_heads / a.problem.group : a.problem.query_heads;
    const float *first = of_keys ? a.key_scalars[index] : a.query_scalars[index];
    return first + (static_cast<int64_t>(place.sequence.batch) * heads + head) * (of_keys ? a.key_rows : a.query_rows) +
           row;
  }

  // ---- what there is to do

  struct Item {
    int candidate;  // of the segment
    int part;       // of its columns
  };

  __device__ int candidates() const { return place.tiles * place.column_heads; }
  __device__ int head_of(int candidate) const { return place.column_head + candidate / place.tiles; }
  __device__ int tile_of(int candidate) const { return place.first_tile + candidate % place.tiles; }

  __device__ void find_active(int first) const {
    for (int c = static_cast<int>(threadIdx.x); c < Shape::kSegment; c += kThreads) {
      int bits = 0;
      if (first + c < candidates()) {
        const int row_tile = place.first_row / kSparseGradientTile, tile = tile_of(first + c);
        bits = Policy::active(a.policy, a.problem, place.sequence, kOwnsKeys ? head_of(first + c) : place.head,
                              kOwnsKeys ? tile : row_tile, kOwnsKeys ? row_tile : tile);
      }
#pragma unroll
      for (int view = 0; view < kViews; ++view) {
        const uint32_t word = __ballot_sync(0xffffffffu, (bits >> view & 1) != 0);
        if (lane_index() == 0) shared.active[view][c / 32] = word;
      }
    }
  }

  // The first active candidate of the segment from `candidate` on, or kSegment.
  __device__ int next_active(int candidate) const {
    while (candidate < Shape::kSegment) {
      uint32_t word = shared.active[0][candidate / 32];
      if constexpr (kViews == 2) word |= shared.active[1][candidate / 32];
      word >>= candidate % 32;
      if (word != 0) return candidate + __ffs(static_cast<int>(word)) - 1;
      candidate = (candidate / 32 + 1) * 32;
    }
    return candidate;
  }

  __device__ Item next(Item item) const {
    if (item.part + 1 < kParts) return {item.candidate, item.part + 1};
    return {next_active(item.candidate + 1), 0};
  }

  __device__ bool is_active(int candidate, int view) const {
    return (shared.active[view][candidate / 32] >> (candidate % 32) & 1) != 0;
  }

  // ---- copies

  __device__ void load_rows() const {
#pragma unroll
    for (int view = 0; view < kViews; ++view)
      load_tile<kThreads, kRows, kD>(shared.rows[view], row_tensor(view), place.sequence.batch, place.head,
                                     row_start() + place.first_row, place.rows, a.head_dim);
    load_tile<kThreads, kRows, kV>(shared.row_values, kOwnsKeys ? a.value : a.output_gradient, place.sequence.batch,
                                   place.head, row_start() + place.first_row, place.rows, a.value_dim);
    for (int i = thread(); i < SharedMemory::kRowScalars * kRows; i += kThreads)
      ptx::cp_async_4(ptx::shared_address(&shared.row_scalars[0][0] + i),
                      scalars(kOwnsKeys, i / kRows, place.head, row_start() + place.first_row + i % kRows),
                      i % kRows < place.rows ? 4 : 0);
  }

  __device__ void load_columns(int first, const Item &item, int stage) const {
    const int head = head_of(first + item.candidate);
    const int column = tile_of(first + item.candidate) * kSparseGradientTile + item.part * kColumns;
    const int64_t row = column_start() + column;
    typename SharedMemory::Stage &target = shared.stages[stage];
#pragma unroll
    for (int view = 0; view < kViews; ++view)
      load_tile<kThreads, kColumns, kD>(target.columns[view], column_tensor(view), place.sequence.batch, head, row,
                                        column_end() - column, a.head_dim);
    load_tile<kThreads, kColumns, kV>(target.values, kOwnsKeys ? a.output_gradient : a.value, place.sequence.batch,
                                      head, row, column_end() - column, a.value_dim);
    for (int i = thread(); i < SharedMemory::kColumnScalars * kColumns; i += kThreads)
      ptx::cp_async_4(ptx::shared_address(&shared.column_scalars[stage][0][0] + i),
                      scalars(!kOwnsKeys, i / kColumns, head, row + i % kColumns),
                      column + i % kColumns < column_end() ? 4 : 0);
  }

  // ---- pairs

  // The two floats of this thread's columns 8 n + 2 (lane % 4) + {0, 1}, `column` = 2 (lane % 4) + those before.
  template <int kCount>
  __device__ void column_floats(float (&x)[2][kCount], int stage, int column) const {
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      const float2 pair = *reinterpret_cast<const float2 *>(&shared.column_scalars[stage][i][column]);
      x[0][i] = pair.x;
      x[1][i] = pair.y;
    }
  }
  template <int kCount>
  __device__ void row_floats(float (&x)[kCount], int half) const {
    const float *first = &shared.row_scalars[0][warp_row() + lane() / 4 + 8 * half];
#pragma unroll
    for (int i = 0; i < kCount; ++i) x[i] = first[i * kRows];
  }

  // Columns that a row of this thread sees, counted from `column`.
  __device__ RowRange visible(int half, int column) const {
    const int row = place.first_row + warp_row() + lane() / 4 + 8 * half;
    if constexpr (kOwnsKeys) {
      const RowRange range =
          row < place.sequence.keys ? rows_that_see(a.problem, place.sequence, row, row + 1) : RowRange{0, 0};
      return {range.first - column, range.end - column};
    } else {
      const KeyRange range = row < place.sequence.queries ? place.sequence.visible(a.problem, row) : KeyRange{0, 0};
      return {range.first - column, range.end - column};
    }
  }

  // Exceedances of `kCount` columns; those without a weight are -1 or less than 0. Returns which 16 have one.
  template <int kCount>
  using Scores = Accumulators<1, kCount>;
  template <int kCount>
  __device__ uint32_t exceed(Scores<kCount> (&scores)[kViews], const bool (&active)[kViews], int stage, int chunk,
                             int column, bool masked) const {
#pragma unroll
    for (int view = 0; view < kViews; ++view) {
      if (!active[view]) continue;
      RowsInShared<1, kRows, kD> rows;
      rows.load(ptx::shared_address(shared.rows[view]), warp_row());
      score_product<Element, 1, kCount, kColumns, kD>(scores[view], rows,
                                                      ptx::shared_address(shared.stages[stage].columns[view]), chunk);
    }
    const int first = chunk + 2 * (lane() & 3);
    bool any[kCount / 16] = {};
    RowRange range[2];
    if (masked) {
#pragma unroll
      for (int half = 0; half < 2; ++half) range[half] = visible(half, column + first);
    }
    float own[2][SharedMemory::kRowScalars];
    row_floats(own[0], 0);
    row_floats(own[1], 1);
#pragma unroll
    for (int n = 0; n < kCount / 8; ++n) {
      float other[2][SharedMemory::kColumnScalars];
      column_floats(other, stage, first + 8 * n);
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const float(&q)[Policy::kQueryScalars] = pick_query(own[e / 2], other[e % 2]);
        const float(&k)[Policy::kKeyScalars] = pick_key(own[e / 2], other[e % 2]);
        const int c = 8 * n + e % 2;
        const bool hidden = masked && (c < range[e / 2].first || c >= range[e / 2].end);
#pragma unroll
        for (int view = 0; view < kViews; ++view) {
          float &x = scores[view][0][n][e];
          x = Policy::exceedance(x, view, q, k);
          if (hidden || !active[view]) x = -1.0f;
          any[n / 2] |= !(x <= 0.0f);
        }
      }
    }
    uint32_t pieces = 0;
#pragma unroll
    for (int i = 0; i < kCount / 16; ++i) pieces |= __any_sync(0xffffffffu, any[i]) ? 1u << i : 0u;
    return pieces;
  }

  template <int kOwn, int kOther>
  __device__ static auto &pick_query(const float (&own)[kOwn], const float (&other)[kOther]) {
    if constexpr (kOwnsKeys)
      return other;
    else
      return own;
  }
  template <int kOwn, int kOther>
  __device__ static auto &pick_key(const float (&own)[kOwn], const float (&other)[kOther]) {
    if constexpr (kOwnsKeys)
      return own;
    else
      return other;
  }

  // 16 columns that hold a weight, the exceedances of which begin kFirstTile tiles of 8 columns behind `chunk`.
  template <int kFirstTile, int kCount>
  __device__ void add_piece(const Scores<kCount> (&excess)[kViews], int stage, int chunk) {
    constexpr int kFirst = 8 * kFirstTile;
    typename SharedMemory::Stage &columns = shared.stages[stage];
    Accumulators<1, 16> products;
    RowsInShared<1, kRows, kV> values;
    values.load(ptx::shared_address(shared.row_values), warp_row());
    score_product<Element, 1, 16, kColumns, kV>(products, values, ptx::shared_address(columns.values), chunk + kFirst);

    PackedTiles<1, 16> weights, gradients[kViews];
    const int first = chunk + kFirst + 2 * (lane() & 3);
    Policy::with_power(a.policy, [&](auto power) {
      float own[2][SharedMemory::kRowScalars];
      row_floats(own[0], 0);
      row_floats(own[1], 1);
#pragma unroll
      for (int n = 0; n < 2; ++n) {
        float other[2][SharedMemory::kColumnScalars];
        column_floats(other, stage, first + 8 * n);
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          float w[2], d[kViews][2];
#pragma unroll
          for (int e = 0; e < 2; ++e) {
            float x[kViews], g[kViews];
#pragma unroll
            for (int view = 0; view < kViews; ++view) x[view] = excess[view][0][kFirstTile + n][2 * half + e];
            w[e] = Policy::template weigh<decltype(power)::value, kOwnsKeys>(
                a.policy, shared.tile, shared.key_scale, x, products[0][n][2 * half + e],
                pick_query(own[half], other[e]), pick_key(own[half], other[e]), g, row_sums[half]);
#pragma unroll
            for (int view = 0; view < kViews; ++view) d[view][e] = g[view];
          }
          weights[0][n][half] = ptx::cvt_x2<Element>(w[0], w[1]);
#pragma unroll
          for (int view = 0; view < kViews; ++view)
            gradients[view][0][n][half] = ptx::cvt_x2<Element>(d[view][0], d[view][1]);
        }
      }
    });
    using Rows = PackedRows<1, 16>;
#pragma unroll
    for (int view = 0; view < kViews; ++view)
      sum_product<Element, 1, kWarpChannels, 16, kColumns, kD>(sums[view], Rows{gradients[view]},
                                                               ptx::shared_address(columns.columns[view]),
                                                               chunk + kFirst, part() * kWarpChannels / 16);
    if constexpr (kOwnsKeys)
      sum_product<Element, 1, kWarpValueChannels, 16, kColumns, kV>(value_sums, Rows{weights},
                                                                    ptx::shared_address(columns.values), chunk + kFirst,
                                                                    part() * kWarpValueChannels / 16);
  }

  __device__ void visit(int first_candidate, const Item &item, int stage) {
    const int column = tile_of(first_candidate + item.candidate) * kSparseGradientTile + item.part * kColumns;
    const bool masked = place.rows < kRows || column < place.common_first || column + kColumns > place.common_end;
    typename SharedMemory::Stage &columns = shared.stages[stage];
    if (masked) {
      // Values of keys are no B operand of a sum of query rows.
      bool found = false;
#pragma unroll
      for (int view = 0; view < kViews; ++view)
        found |= take_out_non_finite<Element, kThreads, kColumns, kD>(columns.columns[view], shared.marks);
      if constexpr (kOwnsKeys)
        found |= take_out_non_finite<Element, kThreads, kColumns, kV>(columns.values, shared.marks);
      if (__syncthreads_or(found)) {  // barrier B
        const int c = thread();
        if (c < kColumns && shared.marks[c] != 0.0f) {
          shared.marks[c] = 0.0f;
          Policy::template poison<kOwnsKeys>(shared.column_scalars[stage], c);
        }
        __syncthreads();
      }
    }
    bool active[kViews];
#pragma unroll
    for (int view = 0; view < kViews; ++view) active[view] = is_active(item.candidate, view);
#pragma unroll 1
    for (int chunk = 0; chunk < kColumns; chunk += kChunk) {
      if constexpr (kSplit == 1) {
        Scores<kChunk> excess[kViews];
        const uint32_t pieces = exceed<kChunk>(excess, active, stage, chunk, column, masked);
        if ((pieces & 1) != 0) add_piece<0, kChunk>(excess, stage, chunk);
        if constexpr (kChunk == 32)
          if ((pieces & 2) != 0) add_piece<2, kChunk>(excess, stage, chunk);
      } else {
        int(&found)[2] = shared.found[chunk / kChunk % 2][warp_row() / 16];
        Scores<16> excess[kViews];
        const bool has_own = exceed<16>(excess, active, stage, chunk + 16 * part(), column, masked) != 0;
        if (lane() == 0) found[part()] = has_own;
        ptx::bar_sync(1 + warp_row() / 16, 64);  // pair barrier
        if (has_own) add_piece<0, 16>(excess, stage, chunk + 16 * part());
        if (found[part() ^ 1] != 0) {
          exceed<16>(excess, active, stage, chunk + 16 * (part() ^ 1), column, masked);
          add_piece<0, 16>(excess, stage, chunk + 16 * (part() ^ 1));
        }
      }
    }
  }

  // ---- the way out

  // Two channels of a row in shared memory.
  __device__ float2 row_pair(int view, int row, int channel) const {
    const uint8_t *word = shared.rows[view] + RowTile::offset(row, channel / 8) + channel % 8 * 2;
    return unpack<Element>(*reinterpret_cast<const uint32_t *>(word));
  }

  template <int kChannels>
  __device__ void store(const float (&x)[kChannels / 8][4], int half, const TensorView &gradient, OutputType type,
                        float scale, int first_channel, int channels) const {
    const int limit = kOwnsKeys && a.problem.query_starts == nullptr ? a.problem.keys : place.first_row + place.rows;
    const int row = place.first_row + warp_row() + lane() / 4 + 8 * half;
    if (gradient.data == nullptr || row >= limit) return;
    void *target =
        gradient.row(place.sequence.batch, place.head, row_start() + row, type == OutputType::kFloat32 ? 4 : 2);
#pragma unroll
    for (int n = 0; n < kChannels / 8; ++n) {
      const int channel = first_channel + 8 * n + 2 * (lane() & 3);
      if (first_channel + 8 * n >= channels) break;
      // A row without a sum gets 0, also where its own factor is not finite.
      const float left = x[n][2 * half] == 0.0f ? 0.0f : x[n][2 * half] * scale;
      const float right = x[n][2 * half + 1] == 0.0f ? 0.0f : x[n][2 * half + 1] * scale;
      if (type == OutputType::kFloat32)
        *reinterpret_cast<float2 *>(static_cast<float *>(target) + channel) = make_float2(left, right);
      else
        *reinterpret_cast<uint32_t *>(static_cast<uint16_t *>(target) + channel) = ptx::cvt_x2<Element>(left, right);
    }
  }

  // Products of every row with its sums, all channels.
  __device__ void find_dots() {
#pragma unroll
    for (int view = 0; view < kViews; ++view) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int row = warp_row() + lane() / 4 + 8 * half;
        float dot = 0.0f;
#pragma unroll
        for (int n = 0; n < kWarpChannels / 8; ++n) {
          const float2 x = row_pair(view, row, part() * kWarpChannels + 8 * n + 2 * (lane() & 3));
          const float left = sums[view][0][n][2 * half], right = sums[view][0][n][2 * half + 1];
          if (left != 0.0f) dot = fmaf(left, x.x, dot);
          if (right != 0.0f) dot = fmaf(right, x.y, dot);
        }
        dot = row_sum(dot);
        if ((lane() & 3) == 0) shared.after.dots[view][part()][row] = dot;
      }
    }
    if constexpr (!kOwnsKeys) {
      if (part() == 0) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          row_sums[half].reduce();
          if ((lane() & 3) == 0) row_sums[half].write(shared.after.sums, warp_row() + lane() / 4 + 8 * half);
        }
      }
    }
    __syncthreads();
  }

  __device__ void finish() {
    find_dots();
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = warp_row() + lane() / 4 + 8 * half;
      float own[SharedMemory::kRowScalars];
      row_floats(own, half);
#pragma unroll
      for (int view = 0; view < kViews; ++view) {
        float dot = shared.after.dots[view][0][row];
#pragma unroll
        for (int i = 1; i < kSplit; ++i) dot += shared.after.dots[view][i][row];
        typename Policy::Finish finish;
        if constexpr (kOwnsKeys)
          finish = Policy::finish_key(a.policy, view, own, dot);
        else
          finish = Policy::finish_query(a.policy, view, own, dot);
        if (finish.projection != 0.0f) {
#pragma unroll
          for (int n = 0; n < kWarpChannels / 8; ++n) {
            const float2 x = row_pair(view, row, part() * kWarpChannels + 8 * n + 2 * (lane() & 3));
            float &left = sums[view][0][n][2 * half], &right = sums[view][0][n][2 * half + 1];
            left = fmaf(-finish.projection, x.x, left);
            right = fmaf(-finish.projection, x.y, right);
          }
        }
        store<kWarpChannels>(sums[view][0], half, kOwnsKeys ? a.key_gradient[view] : a.query_gradient[view],
                             kOwnsKeys ? a.key_gradient_type[view] : a.query_gradient_type[view], finish.scale,
                             part() * kWarpChannels, a.head_dim);
      }
      if constexpr (kOwnsKeys)
        store<kWarpValueChannels>(value_sums[0], half, a.value_gradient, a.value_gradient_type,
                                  Policy::finish_value(a.policy, shared.key_scale), part() * kWarpValueChannels,
                                  a.value_dim);
    }
  }
};

}  // namespace sieve
