// The walk of a warp over its keys, see decode.h: the ring of exact keys, and the ring of images with its candidates.
//
// Step s of a warp: its chunk number s / kStepsAChunk, of the split's key blocks in order, and a part of it. Pages are
// looked up one step ahead of the copies; every 16 keys lie in one page.
#pragma once

#include "operators/threshold_differential/decode.h"

namespace sieve::threshold_differential {

template <class Shape>
struct DecodeWalk {
  static constexpr bool kScreens = Shape::kScreen != Screen::kNone;
  static constexpr int kViews = Shape::kViews, kSteps = Shape::kHeadDim / 32, kGroups = Shape::kStepKeys / 16;
  static constexpr int kStepsAChunk = Shape::kChunk / Shape::kStepKeys;
  using Stage = typename DecodeShared<Shape>::Stage;

  DecodeWarp<Shape> &rows;
  const DecodeCall &a;
  const DecodeWork<Shape> &work;
  const int lane = lane_index();
  int common_first, common_end;  // keys that all rows see
  int first_key;                 // keys before it are seen by no row
  int pages[kGroups];            // of the step that is copied next

  __device__ DecodeWalk(DecodeWarp<Shape> &warp) : rows(warp), a(warp.a), work(warp.work) {
    const KeyRange above = work.sequence.visible(a.problem, 0);
    const KeyRange below = work.sequence.visible(a.problem, a.problem.queries - 1);
    first_key = above.first;
    common_first = below.first;
    common_end = above.end;
  }

  __device__ int steps() const { return (work.end_block - work.first_block) * kStepsAChunk; }
  __device__ int key_of(int step) const {
    return (work.first_block + step / kStepsAChunk) * Shape::kKeyBlock + rows.warp * Shape::kChunk +
           step % kStepsAChunk * Shape::kStepKeys;
  }

  __device__ void find(int step) {
    const int key = key_of(step);
#pragma unroll
    for (int group = 0; group < kGroups; ++group)
      pages[group] = step < steps() && key + 16 * group < work.end_key
                         ? page_of(a.cache, work.sequence.batch, key + 16 * group)
                         : 0;
  }

  // Starts the copies of a step; keys behind the end are zeros, and not read.
  __device__ void start(Stage &stage, int step) {
    if (step < steps()) {
      const int key = key_of(step);
      if constexpr (kScreens)
        copy_images(stage, key);
      else
        copy_keys(stage, key);
    }
    ptx::cp_async_commit_group();
    find(step + 1);
  }

  __device__ void copy_keys(ExactStage<Shape> &stage, int key) const {
    const KeyPlace first = key_place(a.cache, pages[0], key);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int number = lane / 4 + 8 * half;
      const bool valid = key + number < work.end_key;
      const KeyPlace place{first.entry, first.row + number};
#pragma unroll
      for (int view = 0; view < kViews; ++view) {
        const TensorView &keys = a.cache.key[view], &norms = a.cache.inverse_norms[view];
        const uint16_t *source =
            static_cast<const uint16_t *>(keys.data) + place.offset(keys, work.key_head) + (lane & 3) * 8;
#pragma unroll
        for (int step = 0; step < kSteps; ++step)
          ptx::cp_async_16(ptx::shared_address(&stage.keys[view][step][half][lane]), source + step * 32,
                           valid && (step * 4 + (lane & 3)) * 8 < a.head_dim ? 16 : 0);
        ptx::cp_async_4(ptx::shared_address(&stage.inverse_norms[view][half][lane]),
                        static_cast<const float *>(norms.data) + place.offset(norms, work.key_head), valid ? 4 : 0);
      }
    }
  }

  __device__ void copy_images(ScreenStage<Shape> &stage, int key) const {
    using Layout = ScreenLayout<Shape::kScreen, Shape::kHeadDim>;
#pragma unroll
    for (int group = 0; group < 2; ++group) {
      const bool valid = key + 16 * group < work.end_key;
      KeyPlace place = key_place(a.cache, pages[group], key + 16 * group);
      place.row /= kScreenedKeys;
#pragma unroll
      for (int view = 0; view < kViews; ++view) {
        const TensorView &screens = a.cache.screens[view];
        const auto *source = reinterpret_cast<const uint8_t *>(static_cast<const uint32_t *>(screens.data) +
                                                               place.offset(screens, work.key_head));
#pragma unroll
        for (int piece = 0; piece < Layout::kPieces; ++piece)
          ptx::cp_async_16(ptx::shared_address(&stage.values[group][view][piece][lane]),
                           source + piece * 512 + lane * 16, valid ? 16 : 0);
        ptx::cp_async_8(ptx::shared_address(&stage.scales[group][view][lane]),
                        source + Layout::kValueBytes + lane / 4 * 8, valid ? 8 : 0);
      }
    }
  }

  // Every thread waits for its own copies and reads them only: nothing to synchronise.
  __device__ void run(Stage (&ring)[Shape::kStages]) {
    find(0);
    for (int step = 0; step < Shape::kStages; ++step) start(ring[step], step);
    int stage = 0;
    for (int step = 0; step < steps(); ++step) {
      ptx::cp_async_wait_group<Shape::kStages - 1>();
      const int key = key_of(step);
      if constexpr (kScreens) {
        screen(ring[stage], key);
        start(ring[stage], step + Shape::kStages);
        while (rows.candidates >= 16) attend_candidates();
      } else {
        KeyOperand<Shape> keys;
        take(keys, ring[stage], key);
        start(ring[stage], step + Shape::kStages);
        if (key + 16 <= first_key || key >= work.end_key) {
        } else if (key < common_first || key + 16 > common_end) {
          rows.template attend<true>(keys);
        } else {
          rows.template attend<false>(keys);
        }
      }
      stage = stage == Shape::kStages - 1 ? 0 : stage + 1;
    }
    ptx::cp_async_wait_group<0>();
    if constexpr (kScreens)
      if (rows.candidates > 0) attend_candidates();
    rows.flush();
  }

  __device__ void take(KeyOperand<Shape> &keys, const ExactStage<Shape> &stage, int key) const {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      keys.key[half] = key + lane / 4 + 8 * half;
#pragma unroll
      for (int view = 0; view < kViews; ++view) {
        keys.inverse_norms[view][half] = stage.inverse_norms[view][half][lane];
#pragma unroll
        for (int step = 0; step < kSteps; ++step) keys.pieces[view][step][half] = stage.keys[view][step][half][lane];
      }
    }
  }

  // Integer products of 32 images with the rows' images; keys whose bound is above 0 in any row and view are listed.
  // The accumulators begin at 1.5 x 2^23 as a float's bits, so that they are floats at the end: 1.5 x 2^23 + z.z,
  // exactly
  // (|z.z| <= 128 x 127 x 127 < 2^22).
  __device__ void screen(const ScreenStage<Shape> &stage, int key) {
    using Layout = ScreenLayout<Shape::kScreen, Shape::kHeadDim>;
    constexpr float kBase = 12582912.0f;
    const uint4 *images = rows.shared.queries + DecodeShared<Shape>::row_pieces(rows.tiles) + lane;
    float top[2][2];
#pragma unroll
    for (int group = 0; group < 2; ++group) {
      top[group][0] = top[group][1] = -__builtin_huge_valf();
#pragma unroll
      for (int view = 0; view < kViews; ++view) {
        uint32_t operand[kSteps][4];
#pragma unroll
        for (int pair = 0; pair < Shape::kHeadDim / 64; ++pair) {
          if constexpr (Layout::kInt8) {
            const uint4 low = stage.values[group][view][2 * pair][lane];
            const uint4 high = stage.values[group][view][2 * pair + 1][lane];
            const uint32_t words[2][4] = {{low.x, high.x, low.y, high.y}, {low.z, high.z, low.w, high.w}};
#pragma unroll
            for (int i = 0; i < 8; ++i) operand[2 * pair + i / 4][i % 4] = words[i / 4][i % 4];
          } else {
            const uint4 both = stage.values[group][view][pair][lane];
            unpack_nibbles(both.x, operand[2 * pair][0], operand[2 * pair][2]);
            unpack_nibbles(both.z, operand[2 * pair][1], operand[2 * pair][3]);
            unpack_nibbles(both.y, operand[2 * pair + 1][0], operand[2 * pair + 1][2]);
            unpack_nibbles(both.w, operand[2 * pair + 1][1], operand[2 * pair + 1][3]);
          }
        }
        const uint2 scales = stage.scales[group][view][lane];
        const float2 key_scales[2] = {__half22float2(*reinterpret_cast<const __half2 *>(&scales.x)),
                                      __half22float2(*reinterpret_cast<const __half2 *>(&scales.y))};
        for (int tile = 0; tile < rows.tiles; ++tile) {
          int32_t products[4];
#pragma unroll
          for (int i = 0; i < 4; ++i) products[i] = __float_as_int(kBase);
#pragma unroll
          for (int pair = 0; pair < Shape::kHeadDim / 64; ++pair) {
            const uint4 q = images[((view * rows.tiles + tile) * (Shape::kHeadDim / 64) + pair) * 32];
            ptx::mma_m16n8k32(products, operand[2 * pair], q.x, q.y);
            ptx::mma_m16n8k32(products, operand[2 * pair + 1], q.z, q.w);
          }
          const int row = tile * 8 + (lane & 3) * 2;
          const float2 slope = *reinterpret_cast<const float2 *>(&rows.shared.rows.slope[view][row]);
          const float2 level = *reinterpret_cast<const float2 *>(&rows.shared.rows.level[view][row]);
#pragma unroll
          for (int i = 0; i < 4; ++i) {
            const float2 scale = key_scales[i / 2];
            const float rest = fmaf(scale.y, i % 2 == 0 ? slope.x : slope.y, i % 2 == 0 ? level.x : level.y);
            const float bound = fmaf(scale.x, __int_as_float(products[i]) - kBase, rest);
            top[group][i / 2] = ptx::max_nan(top[group][i / 2], bound);
          }
        }
      }
    }
    bool any = false;
#pragma unroll
    for (int i = 0; i < 4; ++i) any |= !(top[i / 2][i % 2] <= 0.0f);
    if (__any_sync(0xffffffffu, any)) collect(top, key);
  }

  // A key is listed once, whichever of its rows asked for it, in the order of the keys.
  __device__ void collect(const float (&top)[2][2], int key) {
    CandidateList &list = rows.shared.candidates[rows.warp];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int number = key + 8 * i + lane / 4;
      uint32_t all =
          __ballot_sync(0xffffffffu, !(top[i / 2][i % 2] <= 0.0f) && number >= first_key && number < work.end_key);
      all |= all >> 1;
      all = (all | all >> 2) & 0x11111111u;  // one bit a quad
      if ((all >> lane & 1) != 0) list.key[rows.candidates + __popc(all & ((1u << lane) - 1))] = number;
      rows.candidates += __popc(all);
    }
    __syncwarp();
  }

  // Fetches up to 16 listed keys and attends to them.
  __device__ void attend_candidates() {
    CandidateList &list = rows.shared.candidates[rows.warp];
    KeyOperand<Shape> keys;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int place = lane / 4 + 8 * half;
      const bool valid = place < rows.candidates;
      keys.key[half] = valid ? list.key[place] : -1;  // seen by no row
      const int key = valid ? keys.key[half] : list.key[0];
      const KeyPlace at = key_place(a.cache, page_of(a.cache, work.sequence.batch, key), key);
#pragma unroll
      for (int view = 0; view < kViews; ++view) {
        const TensorView &tensor = a.cache.key[view], &norms = a.cache.inverse_norms[view];
        const uint16_t *source =
            static_cast<const uint16_t *>(tensor.data) + at.offset(tensor, work.key_head) + (lane & 3) * 8;
#pragma unroll
        for (int step = 0; step < kSteps; ++step)
          keys.pieces[view][step][half] = (step * 4 + (lane & 3)) * 8 < a.head_dim
                                              ? __ldg(reinterpret_cast<const uint4 *>(source + step * 32))
                                              : uint4{};
        keys.inverse_norms[view][half] =
            __ldg(static_cast<const float *>(norms.data) + at.offset(norms, work.key_head));
      }
    }
    const int left = max(rows.candidates - 16, 0);  // at most 32
    const int moved = lane < left ? list.key[16 + lane] : 0;
    __syncwarp();
    if (lane < left) list.key[lane] = moved;
    __syncwarp();
    rows.candidates = left;
    rows.template attend<true>(keys);
  }
};

template <class Shape>
__global__ void __launch_bounds__(kDecodeWarps * 32, Shape::kBlocksPerMultiprocessor)
    decode(const __grid_constant__ DecodeCall a) {
  extern __shared__ __align__(16) uint8_t raw[];
  DecodeShared<Shape> &shared = *reinterpret_cast<DecodeShared<Shape> *>(raw);
  ptx::griddepcontrol_launch_dependents();
  const DecodeWork<Shape> work(a.problem, a.splits, static_cast<int>(blockIdx.x));
  load_rows(shared, a, work);
  __syncthreads();
  DecodeWarp<Shape> rows{shared, a, work, __shfl_sync(0xffffffffu, static_cast<int>(threadIdx.x) / 32, 0)};
  rows.begin();
  DecodeWalk<Shape>(rows).run(shared.stages[rows.warp]);
}

}  // namespace sieve::threshold_differential
