// Screens of the sparse Hopper forward pipeline: a consumer's products of 64 query rows with 64 keys, of which two are
// on their way at any time, and the verdict which pieces of 16 keys hold a candidate for the rows of a warp.
#pragma once

#include "device/ptx/warpgroup.h"
#include "device/ptx/wgmma.h"
#include "device/ptx/wgmma_integer.h"
#include "device/rows.h"
#include "device/sparse_forward_sm90_parts.h"

namespace sieve {

// Bit i of the result: some lane has candidates[i].
template <int kPieces>
__device__ inline uint32_t vote_pieces(const bool (&candidate)[kPieces]) {
  uint32_t pieces = 0;
#pragma unroll
  for (int i = 0; i < kPieces; ++i) pieces |= static_cast<uint32_t>(__any_sync(0xffffffffu, candidate[i])) << i;
  return pieces;
}

// By the scores themselves: one multiply-add and half a logic operation each.
template <class Policy>
struct SparseFloatScreen : SparseForwardSm90Parts<Policy> {
  using Parts = SparseForwardSm90Parts<Policy>;
  using Parts::address;
  using Parts::kBlock;
  using Parts::kD;
  using Parts::kN;
  using Parts::kViews;
  using typename Parts::Arguments;
  using typename Parts::Element;
  using typename Parts::Shape;
  using typename Parts::Shared;
  using typename Parts::Work;
  using Rows = RowScalars<Shape::kRows>;
  using Panel = SharedTile<16, 64>;

  uint32_t rows[kViews][kD / 16][4];
  float scores[2][kN / 8][4];

  // Limits, which Policy::screen compares with, wait in shared memory: there is no register left for them.
  __device__ void begin_rows(Shared &shared, const Arguments &, const Work &, const Rows &scalars, int warp_row) {
    const int lane = lane_index();
    if (lane % 4 == 0)
#pragma unroll
      for (int view = 0; view < kViews; ++view)
#pragma unroll
        for (int half = 0; half < 2; ++half)
          shared.row_limits[view][warp_row + lane / 4 + 8 * half] = Policy::limit(scalars, view, half);
    __syncwarp();
  }

  __device__ void load_queries(const Shared &shared, int warp_row) {
    const int lane = ptx::mov_here(static_cast<int>(threadIdx.x)) & 31;
#pragma unroll
    for (int view = 0; view < kViews; ++view) {
      const uint32_t first = address(shared.query.view[view]) + warp_row * 128 + Panel::offset(lane & 15, lane >> 4);
#pragma unroll
      for (int k = 0; k < kD / 16; ++k)
        ptx::ldmatrix_x4(rows[view][k], Panel::step(first, k % 4) + k / 4 * Shape::kRows * 128);
    }
  }

  // 16 channels of the queries, for the exact scores.
  __device__ void query(uint32_t (&a)[4], const Shared &, int, int view, int k) const {
#pragma unroll
    for (int i = 0; i < 4; ++i) a[i] = rows[view][k][i];
  }

  template <int kPart>
  __device__ void start(const typename Shared::Stage &stage, int view, int key) {
    const uint64_t keys = ptx::matrix_descriptor(address(stage.key[view]) + key * 128, 0);
    auto &d = reinterpret_cast<float(&)[kN / 2]>(scores[kPart]);
    ptx::wgmma_fence();
#pragma unroll
    for (int k = 0; k < kD / 16; ++k)
      ptx::Wgmma<Element, kN, false>::registers(d, rows[view][k], keys + ((k / 4 * kBlock * 128 + k % 4 * 32) >> 4),
                                                k > 0);
    ptx::wgmma_commit_group();
  }

  // `scalars`: this lane's floats of the keys; `row_limits`: from its first row on.
  template <int kPart>
  __device__ uint32_t candidates(const Shared &, int, int view, int, const float *scalars,
                                 const float *row_limits) const {
    const float limits[2] = {row_limits[view * Shape::kRows], row_limits[view * Shape::kRows + 8]};
    uint32_t signs[kN / 16], all = 0xffffffffu;
#pragma unroll
    for (int piece = 0; piece < kN / 16; ++piece) {
      const float4 scalar = *reinterpret_cast<const float4 *>(scalars + piece * 16);
      signs[piece] = 0xffffffffu;
#pragma unroll
      for (int n = 0; n < 2; ++n) {
        const float(&s)[4] = scores[kPart][2 * piece + n];
        const float left = n == 0 ? scalar.x : scalar.z, right = n == 0 ? scalar.y : scalar.w;
        signs[piece] &= Policy::screen(s[0], left, limits[0]) & Policy::screen(s[1], right, limits[0]);
        signs[piece] &= Policy::screen(s[2], left, limits[1]) & Policy::screen(s[3], right, limits[1]);
      }
      all &= signs[piece];
    }
    if (!__any_sync(0xffffffffu, static_cast<int32_t>(all) >= 0)) return 0;
    bool candidate[kN / 16];
#pragma unroll
    for (int piece = 0; piece < kN / 16; ++piece) candidate[piece] = static_cast<int32_t>(signs[piece]) >= 0;
    return vote_pieces(candidate);
  }

  // Scores of 32 keys in every view, to be weighed as they are: they round as those of mma.sync do.
  __device__ void score(float (&wide)[kViews][4][4], const typename Shared::Stage &stage, int key) {
    ptx::wgmma_fence();
#pragma unroll
    for (int view = 0; view < kViews; ++view) {
      const uint64_t keys = ptx::matrix_descriptor(address(stage.key[view]) + key * 128, 0);
      auto &d = reinterpret_cast<float(&)[16]>(wide[view]);
#pragma unroll
      for (int k = 0; k < kD / 16; ++k)
        ptx::Wgmma<Element, 32, false>::registers(d, rows[view][k], keys + ((k / 4 * kBlock * 128 + k % 4 * 32) >> 4),
                                                  k > 0);
    }
    ptx::wgmma_commit_group();
    ptx::wgmma_wait_group<0>();
  }
};

// By images of both sides in signed bytes, at twice the rate: half an instruction a score, a running maximum. All keys
// have one scale, so what a row compares its maximum with depends on the keys only by the largest distance between a
// key and its image among the 64.
template <class Policy>
struct SparseIntegerScreen : SparseForwardSm90Parts<Policy> {
  using Parts = SparseForwardSm90Parts<Policy>;
  using Parts::address;
  using Parts::kD;
  using Parts::kN;
  using Parts::kViews;
  using typename Parts::Arguments;
  using typename Parts::Shape;
  using typename Parts::Shared;
  using typename Parts::Work;
  using Rows = RowScalars<Shape::kRows>;
  using Panel = SharedTile<16, 64>;

  uint32_t rows[kViews][kD / 32][4];
  int32_t scores[2][kN / 8][4];
  float2 limits[kViews][2];  // a row's limit is x - y * distance

  __device__ void begin_rows(const Shared &, const Arguments &a, const Work &work, const Rows &scalars, int warp_row) {
    const Sequence &sequence = work.sequence;
    const int column = 4 * (lane_index() & 3), row = work.block_row + warp_row + lane_index() / 4;
#pragma unroll
    for (int view = 0; view < kViews; ++view)
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        // Rows outside read some row: nothing exceeds their threshold.
        const int64_t index = row + 8 * half < sequence.queries
                                  ? Policy::query_index(a.policy, a.problem, sequence, work.place.head, row + 8 * half)
                                  : 0;
        limits[view][half] = Policy::integer_limit(a.policy, scalars, index, view, half);
        const int8_t *image = Policy::query_image(a.policy, view) + index * kD + column;
#pragma unroll
        for (int k = 0; k < kD / 32; ++k) {
          rows[view][k][half] = *reinterpret_cast<const uint32_t *>(image + 32 * k);
          rows[view][k][half + 2] = *reinterpret_cast<const uint32_t *>(image + 32 * k + 16);
        }
      }
  }

  __device__ void load_queries(const Shared &, int) {}

  __device__ void query(uint32_t (&a)[4], const Shared &shared, int warp_row, int view, int k) const {
    const int lane = lane_index();
    const uint32_t first = address(shared.query.view[view]) + warp_row * 128 + Panel::offset(lane & 15, lane >> 4);
    ptx::ldmatrix_x4(a, Panel::step(first, k % 4) + k / 4 * Shape::kRows * 128);
  }

  template <int kPart>
  __device__ void start(const typename Shared::Stage &stage, int view, int key) {
    const uint64_t keys = ptx::byte_matrix_descriptor<kD>(address(stage.key[view]) + key * kD);
    auto &d = reinterpret_cast<int32_t(&)[kN / 2]>(scores[kPart]);
    ptx::wgmma_fence();
#pragma unroll
    for (int k = 0; k < kD / 32; ++k) ptx::wgmma_m64n64k32(d, rows[view][k], keys + (k * 32 >> 4), k > 0);
    ptx::wgmma_commit_group();
  }

  template <int kPart>
  __device__ uint32_t candidates(const Shared &shared, int stage, int view, int key, const float *,
                                 const float *) const {
    const float2 groups = *reinterpret_cast<const float2 *>(shared.distances[stage][view][key / kN]);
    const float distance = fmaxf(groups.x, groups.y);
    int32_t limit[2], tops[2][kN / 16], top[2];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      limit[half] = Policy::round_limit(fmaf(-distance, limits[view][half].y, limits[view][half].x));
#pragma unroll
      for (int piece = 0; piece < kN / 16; ++piece) {
        const int32_t(&left)[4] = scores[kPart][2 * piece], (&right)[4] = scores[kPart][2 * piece + 1];
        tops[half][piece] = max(max(max(left[2 * half], left[2 * half + 1]), right[2 * half]), right[2 * half + 1]);
      }
      top[half] = tops[half][0];
#pragma unroll
      for (int piece = 1; piece < kN / 16; ++piece) top[half] = max(top[half], tops[half][piece]);
    }
    if (!__any_sync(0xffffffffu, top[0] > limit[0] || top[1] > limit[1])) return 0;
    bool candidate[kN / 16];
#pragma unroll
    for (int piece = 0; piece < kN / 16; ++piece)
      candidate[piece] = tops[0][piece] > limit[0] || tops[1][piece] > limit[1];
    return vote_pieces(candidate);
  }
};

}  // namespace sieve
