// Decode of threshold differential attention: a few new query rows of every sequence against a cache of keys of two
// views and values, limited by the bytes of the keys.
//
//   grid: one thread block a (sequence, key head, split); a split is an equal share of the key blocks that the rows
//   see, computed on the device from the sequence's length
//
//     keys --cp.async--> ring of the warp --> registers: 16 keys as an operand      rows: query row x head of the
//     group,
//                                                                                    8 a tile, in shared memory
//     each warp: every 4th chunk of 64 keys
//       16 keys x 8 rows: scores of both views (mma), times inverse norms, minus tau            } attend
//       any survivor? -> (key, row, weight) to the warp's list
//       list full -> sorted by rows; value rows of the survivors, several on their way at once,  } flush
//       add to the warp's partial result, which every row reads and writes once a list
//   second launch (device/decode_combine.h): partial results add, epilogue
//
// With a screen (screen.h) the ring holds images of the keys instead, 32 a step; keys that the bound does not rule out
// are listed, and as soon as 16 wait they are fetched and attended as above. A key is scored by the same instructions
// whichever way it comes, and the survivors of a row are added in the order of the keys, warp by warp: the results with
// and without a screen are the same bits, for equal splits.
//
// The ring needs no barrier: every thread copies exactly the 16-byte pieces that it will hold in registers (the operand
// layout of mma, with its k slots assigned to channels so that a thread's pieces are contiguous in memory: a quad of
// lanes reads 64 bytes of a key at once). Rows see at most 64 tile rows, so 1 to 8 tiles are multiplied per key
// operand.
//
// Shared memory: rings of 4 warps, 40-72 KB; lists, 8 KB; the rows, 0.5-4 KB a tile (8 rows) and half of that as
// images. Registers: the key operand (views x head_dim / 4) dominates. Keys behind the end are not read; what rows do
// not see is masked after scaling, so it may hold NaN.
#pragma once

#include "device/decode.h"
#include "device/ptx/mma_integer.h"
#include "operators/threshold_differential/decode_problem.h"
#include "operators/threshold_differential/inverse_norms.h"
#include "operators/threshold_differential/screen.h"
#include "operators/threshold_differential/threshold.h"
#include "operators/threshold_differential/weights.h"

namespace sieve::threshold_differential {

struct DecodeCall {
  ProblemView problem;
  Cache cache;
  TensorView query[2];
  TensorView survivors[2];
  ScalarView beta;
  ScalarView lambda;
  float kappa;
  float power;
  Power power_kind;
  int32_t head_dim;
  int32_t value_dim;
  int32_t splits;
  int32_t first_row;  // of this launch, a multiple of 8: where shared memory is scarce, rows take turns
  int32_t rows;
  float *partial_outputs;
};

// What the rows of a thread block are compared with. Rows are packed: query row x group, heads fastest.
struct DecodeRows {
  float threshold[kMostDecodeRows];
  float inverse_norm[2][kMostDecodeRows];
  float lambda[kMostDecodeRows];
  KeyRange range[kMostDecodeRows];
  uint8_t head[kMostDecodeRows];  // in the group
  uint8_t query[kMostDecodeRows];
  int64_t partial[kMostDecodeRows];  // where the first warp's partial results begin
  // The bound of a row is scale_v z.z + rho_v slope + level, all divided by the row's scale.
  float slope[2][kMostDecodeRows];
  float level[2][kMostDecodeRows];
};

// Its size is what three blocks of images of 4 bits, 32 rows of 128 channels, leave.
struct SurvivorList {
  static constexpr int kRoom = 176;  // at least the 16 keys x 8 rows of a tile
  int key[kRoom];
  float weight[kRoom];
  uint8_t row[kRoom];
  uint8_t order[kRoom];  // entries row by row, those of a row as they were listed
};

struct CandidateList {
  static constexpr int kRoom = 16 + 32;  // fewer than 16 wait, a step adds up to 32
  int key[kRoom];
};

template <class Shape>
struct ExactStage {
  uint4 keys[Shape::kViews][Shape::kHeadDim / 32][2][32];
  float inverse_norms[Shape::kViews][2][32];
};

template <class Shape>
struct ScreenStage {
  using Layout = ScreenLayout<Shape::kScreen, Shape::kHeadDim>;
  uint4 values[2][Shape::kViews][Layout::kPieces][32];
  uint2 scales[2][Shape::kViews][32];
};

template <class Shape>
struct DecodeShared {
  static constexpr bool kScreens = Shape::kScreen != Screen::kNone;
  using Stage = typename std::conditional_t<kScreens, std::type_identity<ScreenStage<Shape>>,
                                            std::type_identity<ExactStage<Shape>>>::type;
  Stage stages[kDecodeWarps][Shape::kStages];
  SurvivorList survivors[kDecodeWarps];
  CandidateList candidates[kDecodeWarps];
  DecodeRows rows;
  uint4 queries[1];  // as many as the tiles need: row operands, then their images

  // 16-byte pieces of a warp's operand: [view][tile][head_dim / 32], and for images [view][tile][head_dim / 64].
  __host__ __device__ static constexpr int row_pieces(int tiles) {
    return Shape::kViews * tiles * (Shape::kHeadDim / 32) * 32;
  }
  __host__ __device__ static constexpr int image_pieces(int tiles) {
    return kScreens ? Shape::kViews * tiles * (Shape::kHeadDim / 64) * 32 : 0;
  }
  static constexpr size_t bytes(int tiles) {
    return offsetof(DecodeShared, queries) + static_cast<size_t>(row_pieces(tiles) + image_pieces(tiles)) * 16;
  }
};

__host__ __device__ constexpr int decode_tiles(int rows) {
  return (rows + 7) / 8;
}

// Where keys lie: entry of the tensors and row in it.
struct KeyPlace {
  int64_t entry;
  int row;
  __device__ int64_t offset(const TensorView &view, int key_head) const {
    return entry * view.batch_stride + key_head * view.head_stride + row * view.row_stride;
  }
};

__device__ inline int page_of(const Cache &cache, int batch, int key) {
  return cache.page_table == nullptr ? batch : cache.page_table[batch * cache.page_table_width + key / cache.page_size];
}

__device__ inline KeyPlace key_place(const Cache &cache, int page, int key) {
  return {page, cache.page_table == nullptr ? key : key % cache.page_size};
}

// Prepares the rows: operands, inverse norms, thresholds, and with a screen their images and bounds.
template <class Shape>
__device__ inline void load_rows(DecodeShared<Shape> &shared, const DecodeCall &a, const DecodeWork<Shape> &work) {
  using Element = typename Shape::Element;
  constexpr int kLanes = Shape::kHeadDim / 8, kSteps = Shape::kHeadDim / 32;
  const int tiles = decode_tiles(a.rows), slots = tiles * 8 * Shape::kViews;
  const int chunk = static_cast<int>(threadIdx.x) % kLanes;
  uint4 *images = shared.queries + DecodeShared<Shape>::row_pieces(tiles);
  // A row's lanes are one warp's, and the number of slots divides into whole warps.
  for (int slot = static_cast<int>(threadIdx.x) / kLanes; slot < slots; slot += kDecodeWarps * 32 / kLanes) {
    const int view = slot / (tiles * 8), row = slot % (tiles * 8), tile = row / 8;
    const bool inside = row < a.rows;
    const int packed = a.first_row + (inside ? row : 0), query = packed / a.problem.group;
    const int head = work.key_head * a.problem.group + packed % a.problem.group;
    const TensorView &source = a.query[view];
    uint4 values{};
    if (inside && chunk * 8 < a.head_dim)
      values = *reinterpret_cast<const uint4 *>(
          static_cast<const uint16_t *>(source.row(work.sequence.batch, head, query, 2)) + chunk * 8);
    const float inverse = inverse_norm<Element, kLanes>(values);
    shared.queries[((view * tiles + tile) * kSteps + chunk / 4) * 32 + row % 8 * 4 + chunk % 4] = values;
    const KeyRange range = inside ? work.sequence.visible(a.problem, query) : KeyRange{0, 0};
    // Rows outside have no survivor whatever their (zero) scores are compared with.
    const float tau = inside ? threshold(a.beta.at(head), a.kappa, max(range.end - range.first, 0), a.head_dim)
                             : __int_as_float(0x7f800000);
    if (chunk == 0) {
      shared.rows.inverse_norm[view][row] = inverse;
      shared.rows.threshold[row] = tau;
      shared.rows.lambda[row] = a.lambda.at(head);
      shared.rows.range[row] = range;
      shared.rows.head[row] = static_cast<uint8_t>(packed % a.problem.group);
      shared.rows.query[row] = static_cast<uint8_t>(query);
      shared.rows.partial[row] = partial_row(a.problem, work.split * kDecodeWarps, work.sequence.batch, head, query) *
                                 static_cast<int64_t>(a.value_dim);
    }
    if constexpr (Shape::kScreen != Screen::kNone) {
      float unit[8];
      int z[8];
      unit_row<Element>(values, inverse, unit);
      const float top = largest_magnitude<kLanes>(unit), scale = top > 0.0f ? top / 127.0f : 1.0f;
      const float rho = quantise<kLanes, 127>(unit, scale, inverse, z);
      // Channels 16 t .. 16 t + 15 of 64 are lane t's, in order.
      reinterpret_cast<uint2 *>(
          images)[(((view * tiles + tile) * (Shape::kHeadDim / 64) + chunk / 8) * 32 + row % 8 * 4 + chunk % 8 / 2) *
                      2 +
                  chunk % 2] = make_uint2(pack_bytes(z), pack_bytes(z + 4));
      if (chunk == 0) {
        shared.rows.slope[view][row] = (1.0f + rho) / scale;
        shared.rows.level[view][row] = (rho + kSlack - tau) / scale;
      }
    }
  }
}

// 16 keys as an operand: keys number g and 8 + g of this lane's quad.
template <class Shape>
struct KeyOperand {
  uint4 pieces[Shape::kViews][Shape::kHeadDim / 32][2];
  float inverse_norms[Shape::kViews][2];
  int key[2];
};

template <class Shape>
struct DecodeWarp {
  using Element = typename Shape::Element;
  static constexpr int kViews = Shape::kViews, kSteps = Shape::kHeadDim / 32;

  DecodeShared<Shape> &shared;
  const DecodeCall &a;
  const DecodeWork<Shape> &work;
  const int warp;
  const int lane = lane_index();
  const int tiles = decode_tiles(a.rows);
  float *const partials = a.partial_outputs + partial_row(a.problem, warp, 0, 0, 0) * a.value_dim;  // of this warp
  int count = 0;       // survivors in the list
  int candidates = 0;  // keys in the list

  // First channel of this lane's vector i of a value row: two channels a vector.
  __device__ int channel(int i) const { return i * 64 + lane * 2; }
  __device__ float *partial(int row) const { return partials + shared.rows.partial[row] + channel(0); }

  __device__ void begin() {
    const float2 zeros[2] = {};
#pragma unroll 1
    for (int row = 0; row < a.rows; ++row) store(row, zeros);
  }

  // kMasked: not all rows see all of the keys, or some are none.
  template <bool kMasked>
  __device__ void attend(const KeyOperand<Shape> &keys) {
    for (int tile = 0; tile < tiles; ++tile) {
      const int row = tile * 8 + (lane & 3) * 2;
      const float2 tau = *reinterpret_cast<const float2 *>(&shared.rows.threshold[row]);
      float e[kViews][4];
      bool any = false;
#pragma unroll
      for (int view = 0; view < kViews; ++view) {
#pragma unroll
        for (int i = 0; i < 4; ++i) e[view][i] = 0.0f;
        const uint4 *queries = shared.queries + (view * tiles + tile) * kSteps * 32 + lane;
#pragma unroll
        for (int step = 0; step < kSteps; ++step) {
          const uint4 q = queries[step * 32];
          const uint4 &low = keys.pieces[view][step][0], &high = keys.pieces[view][step][1];
          ptx::mma_m16n8k16<Element>(e[view], {low.x, high.x, low.y, high.y}, q.x, q.y);
          ptx::mma_m16n8k16<Element>(e[view], {low.z, high.z, low.w, high.w}, q.z, q.w);
        }
        const float2 inverse = *reinterpret_cast<const float2 *>(&shared.rows.inverse_norm[view][row]);
#pragma unroll
        for (int i = 0; i < 4; ++i)
          e[view][i] = fmaf(e[view][i] * keys.inverse_norms[view][i / 2], i % 2 == 0 ? inverse.x : inverse.y,
                            -(i % 2 == 0 ? tau.x : tau.y));
      }
      if constexpr (kMasked) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const KeyRange range = shared.rows.range[row + i % 2];
          const bool seen = keys.key[i / 2] >= range.first && keys.key[i / 2] < range.end;
#pragma unroll
          for (int view = 0; view < kViews; ++view) e[view][i] = seen ? e[view][i] : -1.0f;
        }
      }
#pragma unroll
      for (int view = 0; view < kViews; ++view)
#pragma unroll
        for (int i = 0; i < 4; ++i) any |= !(e[view][i] <= 0.0f);
      if (__any_sync(0xffffffffu, any)) collect(keys, e, row);
    }
  }

  // Survivors of a tile go to the list, the keys of a row in their order.
  __device__ void collect(const KeyOperand<Shape> &keys, const float (&e)[kViews][4], int row) {
    if (count > SurvivorList::kRoom - 16 * min(8, a.rows - (row & ~7))) flush();
    SurvivorList &list = shared.survivors[warp];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      bool survives = false;
#pragma unroll
      for (int view = 0; view < kViews; ++view) survives |= !(e[view][i] <= 0.0f);
      survives = survives && row + i % 2 < a.rows;
      const uint32_t all = __ballot_sync(0xffffffffu, survives);
      if (survives) {
        const int place = count + __popc(all & ((1u << lane) - 1));
        float weight = power_of(ptx::max_nan(e[0][i], 0.0f));
        if constexpr (kViews == 2)
          weight = fmaf(-shared.rows.lambda[row + i % 2], power_of(ptx::max_nan(e[1][i], 0.0f)), weight);
        list.key[place] = keys.key[i / 2];
        list.weight[place] = weight;
        list.row[place] = static_cast<uint8_t>(row + i % 2);
#pragma unroll
        for (int view = 0; view < kViews; ++view)
          if (a.survivors[view].data != nullptr && e[view][i] > 0.0f) count_survivor(view, row + i % 2);
      }
      count += __popc(all);
    }
  }

  // Integer sums have no order; survivors are few, so they need no registers.
  __device__ void count_survivor(int view, int row) const {
    const int head = work.key_head * a.problem.group + shared.rows.head[row], query = shared.rows.query[row];
    atomicAdd(static_cast<int32_t *>(a.survivors[view].row(work.sequence.batch, head, query, 4)), 1);
  }

  __device__ float power_of(float e) const {
    switch (a.power_kind) {
      case Power::kOne:
        return exceedance_power<Power::kOne>(e, a.power);
      case Power::kTwo:
        return exceedance_power<Power::kTwo>(e, a.power);
      case Power::kThree:
        return exceedance_power<Power::kThree>(e, a.power);
      default:
        return exceedance_power<Power::kGeneral>(e, a.power);
    }
  }

  // Puts the list in the order of its rows.
  __device__ void sort(SurvivorList &list) const {
    int placed = 0;
#pragma unroll 1
    for (int row = 0; row < a.rows; ++row)
#pragma unroll 1
      for (int first = 0; first < count; first += 32) {
        const int entry = first + lane;
        const bool mine = entry < count && list.row[entry] == row;
        const uint32_t all = __ballot_sync(0xffffffffu, mine);
        if (mine) list.order[placed + __popc(all & ((1u << lane) - 1))] = static_cast<uint8_t>(entry);
        placed += __popc(all);
      }
    __syncwarp();
  }

  // Adds the listed survivors' value rows to the partial results, in fp32, those of a row in the order of the keys.
  __device__ void flush() {
    constexpr int kBatch = 8;  // value rows on their way at once
    __syncwarp();
    SurvivorList &list = shared.survivors[warp];
    sort(list);
    int current = -1;
    float2 sum[2];
    int64_t place = 0;  // where the value row of entry first / 32 * 32 + lane lies
#pragma unroll 1
    for (int first = 0; first < count; first += kBatch) {
      if (first % 32 == 0) {
        const int key = list.key[list.order[min(first + lane, count - 1)]];
        place =
            key_place(a.cache, page_of(a.cache, work.sequence.batch, key), key).offset(a.cache.value, work.key_head);
      }
      uint32_t values[kBatch][2];
#pragma unroll
      for (int n = 0; n < kBatch; ++n) {
        const uint16_t *row = static_cast<const uint16_t *>(a.cache.value.data) +
                              __shfl_sync(0xffffffffu, static_cast<long long>(place), first % 32 + n);
#pragma unroll
        for (int i = 0; i < 2; ++i)
          if (channel(i) < a.value_dim) values[n][i] = __ldg(reinterpret_cast<const uint32_t *>(row + channel(i)));
      }
#pragma unroll
      for (int n = 0; n < kBatch; ++n) {
        if (first + n >= count) break;
        const int entry = list.order[first + n], row = list.row[entry];
        const float weight = list.weight[entry];
        if (row != current) {
          if (current >= 0) store(current, sum);
          load(row, sum);
          current = row;
        }
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          if (channel(i) >= a.value_dim) continue;
          const float2 pair = unpack<Element>(values[n][i]);
          sum[i].x = fmaf(weight, pair.x, sum[i].x);
          sum[i].y = fmaf(weight, pair.y, sum[i].y);
        }
      }
    }
    if (current >= 0) store(current, sum);
    count = 0;
    __syncwarp();
  }

  // A lane reads and writes its own channels only.
  __device__ void load(int row, float2 (&sum)[2]) const {
    const float *target = partial(row);
#pragma unroll
    for (int i = 0; i < 2; ++i)
      if (channel(i) < a.value_dim) sum[i] = *reinterpret_cast<const float2 *>(target + i * 64);
  }
  __device__ void store(int row, const float2 (&sum)[2]) const {
    float *target = partial(row);
#pragma unroll
    for (int i = 0; i < 2; ++i)
      if (channel(i) < a.value_dim) *reinterpret_cast<float2 *>(target + i * 64) = sum[i];
  }
};

}  // namespace sieve::threshold_differential
