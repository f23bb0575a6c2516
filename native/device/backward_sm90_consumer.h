// A consumer warpgroup of the Hopper backward pipeline: 64 keys, scores and sums of one query tile after the other.
#pragma once

#include "device/backward_sm90_parts.h"
#include "device/ptx/reduce.h"
#include "device/ptx/stmatrix.h"
#include "device/ptx/tma.h"
#include "device/ptx/warpgroup.h"
#include "device/ptx/wgmma.h"
#include "device/rows.h"

namespace sieve {

// All threads of a consumer follow the same path.
template <class Policy>
struct BackwardSm90Consumer : BackwardSm90Parts<Policy> {
  using Parts = BackwardSm90Parts<Policy>;
  using Parts::address;
  using Parts::kAllConsumers;
  using Parts::kConsumers;
  using Parts::kD;
  using Parts::kM;
  using Parts::kN;
  using Parts::kOneConsumer;
  using Parts::kSumChannels;
  using Parts::kV;
  using typename Parts::Arguments;
  using typename Parts::Element;
  using typename Parts::Ring;
  using typename Parts::Shape;
  using typename Parts::Shared;
  using typename Parts::Work;

  Shared &shared;
  const Arguments &a;
  const int index;   // of the consumer
  const int thread;  // of the warpgroup
  Ring ring;         // stages of queries and doutput go together

  Accumulators<1, kM> scores;    // then weights
  Accumulators<1, kM> dweights;  // then dscores
  Accumulators<1, kD> key_sums;
  Accumulators<1, kV> value_sums;
  float factor[2];  // of the scores of this thread's keys

  template <int kColumns>
  __device__ static float (&flat(Accumulators<1, kColumns> &d))[kColumns / 2] {
    return reinterpret_cast<float(&)[kColumns / 2]>(d);
  }

  // d = rows of a stationary tile . tile^T
  template <int kChannels>
  __device__ void start_transposed(Accumulators<1, kM> &d, const void *stationary, const void *tile) {
    ptx::wgmma_fence();
    const uint64_t rows = ptx::matrix_descriptor(address(stationary) + index * 64 * 128, 0);
    const uint64_t columns = ptx::matrix_descriptor(address(tile), 0);
#pragma unroll
    for (int k = 0; k < kChannels / 16; ++k)
      ptx::Wgmma<Element, kM, false>::shared(flat<kM>(d), rows + ((k / 4 * kN * 128 + k % 4 * 32) >> 4),
                                             columns + ((k / 4 * kM * 128 + k % 4 * 32) >> 4), k > 0);
    ptx::wgmma_commit_group();
  }
  __device__ void start_scores() {
    ptx::mbarrier_wait(address(&shared.barriers.query_full[ring.stage]), ring.phase);
    start_transposed<kD>(scores, shared.key, shared.query[ring.stage]);
  }
  __device__ void start_dweights() {
    ptx::mbarrier_wait(address(&shared.barriers.output_full[ring.stage]), ring.phase);
    start_transposed<kV>(dweights, shared.value, shared.output_gradient[ring.stage]);
  }

  // sums += operand . tile
  template <int kChannels>
  __device__ void start_sum(Accumulators<1, kChannels> &sums, const uint32_t (&operand)[kM / 16][4], const void *tile) {
    const uint64_t rows = ptx::matrix_descriptor(address(tile), kM * 128);
    ptx::wgmma_fence();
#pragma unroll
    for (int k = 0; k < kM / 16; ++k)
      ptx::Wgmma<Element, kChannels, true>::registers(flat<kChannels>(sums), operand[k],
                                                      rows + static_cast<uint64_t>(k * 2048 >> 4), 1);
    ptx::wgmma_commit_group();
  }

  __device__ void wait_scores(const Ring &at) {
    ptx::mbarrier_wait(address(&shared.barriers.score_full[at.stage]), at.phase);
  }
  __device__ void start_query_sum(Accumulators<1, kSumChannels> &sum, int stage) {
    const int row_bytes = kM == 64 ? 0 : index * 64 * 128;
    const int channel = kM == 64 ? index * kSumChannels : 0;
    const uint64_t rows = ptx::matrix_descriptor(address(shared.score_gradient[stage]) + row_bytes, 0);
    const uint64_t keys =
        ptx::matrix_descriptor(address(shared.key) + channel / 64 * kN * 128 + channel % 64 * 2, kN * 128);
    ptx::wgmma_fence();
#pragma unroll
    for (int k = 0; k < kN / 16; ++k)
      ptx::Wgmma<Element, kSumChannels, true>::shared(flat<kSumChannels>(sum),
                                                      rows + ((k / 4 * kM * 128 + k % 4 * 32) >> 4),
                                                      keys + static_cast<uint64_t>(k * 2048 >> 4), k > 0);
    ptx::wgmma_commit_group();
  }

  // weights = policy(scores); both may be the same registers.
  __device__ void weigh(Accumulators<1, kM> &weights) {
    const int column = 2 * (lane_index() & 3);
    const float *shifts = &shared.shifts[ring.stage][column];
#pragma unroll
    for (int j = 0; j < kM / 8; ++j) {
      const float2 shift = *reinterpret_cast<const float2 *>(shifts + 8 * j);
      float2 row = make_float2(1.0f, 1.0f);
      if constexpr (Shape::kRowFactors)
        row = *reinterpret_cast<const float2 *>(&shared.factors[ring.stage][column + 8 * j]);
#pragma unroll
      for (int e = 0; e < 4; ++e)
        weights[0][j][e] = Policy::weight(
            scores[0][j][e], Shape::kRowFactors ? factor[e / 2] * (e % 2 == 0 ? row.x : row.y) : factor[e / 2],
            e % 2 == 0 ? shift.x : shift.y);
    }
  }

  // dweights become dscores.
  __device__ void differentiate(const Accumulators<1, kM> &weights) {
    const float *deltas = &shared.deltas[ring.stage][2 * (lane_index() & 3)];
#pragma unroll
    for (int j = 0; j < kM / 8; ++j) {
      const float2 delta = *reinterpret_cast<const float2 *>(deltas + 8 * j);
#pragma unroll
      for (int e = 0; e < 4; ++e)
        dweights[0][j][e] = Policy::gradient(weights[0][j][e], dweights[0][j][e], e % 2 == 0 ? delta.x : delta.y);
    }
  }

  // Which pairs of this thread see each other: bit 4 j + e of word j / 8.
  struct Visible {
    uint32_t words[kM / 64];
  };

  __device__ Visible visible_pairs(int tile) const {
    const Sequence sequence = shared.work.sequence;
    const int key = shared.work.first_key + index * 64 + thread / 32 * 16 + lane_index() / 4;
    const int row = tile * kM + 2 * (lane_index() & 3);
    Visible visible{};
#pragma unroll
    for (int word = 0; word < kM / 64; ++word)
#pragma unroll 1
      for (int j = 0; j < 16; ++j) {
        const int query = row + word * 64 + j / 2 * 8 + j % 2;
        const KeyRange range = sequence.visible(a.problem, query);
        const int end = query < sequence.queries ? range.end : 0;
        const uint32_t low = key >= range.first && key < end, high = key + 8 >= range.first && key + 8 < end;
        visible.words[word] |= (low | high << 2) << (j / 2 * 4 + j % 2);
      }
    return visible;
  }

  // What belongs to other pairs becomes 0, whatever it was.
  __device__ static void mask(Accumulators<1, kM> &values, const Visible &visible) {
#pragma unroll
    for (int j = 0; j < kM / 8; ++j)
#pragma unroll
      for (int e = 0; e < 4; ++e)
        if ((visible.words[j / 8] >> (j % 8 * 4 + e) & 1) == 0) values[0][j][e] = 0.0f;
  }

  __device__ static bool is_finite(const void *tile, int bytes, int thread, int threads) {
    uint32_t bad = 0;
    const uint4 *chunks = static_cast<const uint4 *>(tile);
#pragma unroll 4
    for (int i = thread; i < bytes / 16; i += threads) {
      const uint4 chunk = chunks[i];
      bad |= non_finite<Element>(chunk.x) | non_finite<Element>(chunk.y) | non_finite<Element>(chunk.z) |
             non_finite<Element>(chunk.w);
    }
    return bad == 0;
  }
  __device__ static void make_finite(void *tile, int bytes, int thread, int threads) {
    uint32_t *pairs = static_cast<uint32_t *>(tile);
    for (int i = thread; i < bytes / 4; i += threads) pairs[i] &= ~non_finite<Element>(pairs[i]);
  }

  // 0 * NaN must not reach keys that a row does not see. The scores of a NaN row are NaN already; a doutput row passes
  // its NaN on to its weights; then both may lose it before they are multiplied by zero weights.
  __device__ void contain(Accumulators<1, kM> &weights) {
    uint8_t *query = shared.query[ring.stage], *output = shared.output_gradient[ring.stage];
    const int number = index * 128 + thread;
    const bool finite = is_finite(query, sizeof shared.query[0], number, 256) &&
                        is_finite(output, sizeof shared.output_gradient[0], number, 256);
    if (!ptx::bar_red_or(kAllConsumers, 256, !finite)) return;
#pragma unroll
    for (int j = 0; j < kM / 8; ++j)
#pragma unroll
      for (int e = 0; e < 4; ++e) weights[0][j][e] += 0.0f * dweights[0][j][e];
    make_finite(query, sizeof shared.query[0], number, 256);
    make_finite(output, sizeof shared.output_gradient[0], number, 256);
    ptx::fence_proxy_async();
    ptx::bar_sync(kAllConsumers, 256);
  }

  // The same for keys, once: a key that is not finite makes its scores NaN through its factor, and loses the NaN in
  // shared memory, where rows that do not see it would multiply it by 0.
  __device__ void prepare_keys() {
    constexpr int kChunks = kD / 16;  // two threads a row
    const int row = index * 64 + thread / 2;
    uint32_t *pairs = reinterpret_cast<uint32_t *>(shared.key);
    bool finite = true;
#pragma unroll
    for (int i = 0; i < kChunks; ++i) {
      const int chunk = thread % 2 * kChunks + i;  // the swizzle keeps chunks within their row and panel
      uint32_t *first = pairs + ((chunk / 8 * kN + row) * 128 + chunk % 8 * 16) / 4;
      finite &= is_finite(first, 16, 0, 1);
    }
    finite &= __shfl_xor_sync(0xffffffffu, static_cast<int>(finite), 1) != 0;
    if (!finite) {
      for (int i = 0; i < kChunks; ++i) {
        const int chunk = thread % 2 * kChunks + i;
        make_finite(pairs + ((chunk / 8 * kN + row) * 128 + chunk % 8 * 16) / 4, 16, 0, 1);
      }
    }
    ptx::fence_proxy_async();
    if (thread % 2 == 0) shared.key_factors[row] = finite ? Policy::factor(a.policy) : __int_as_float(0x7fc00000);
    ptx::bar_sync(kAllConsumers, 256);
    factor[0] = shared.key_factors[index * 64 + thread / 32 * 16 + lane_index() / 4];
    factor[1] = shared.key_factors[index * 64 + thread / 32 * 16 + lane_index() / 4 + 8];
  }

  // Rounds weights or dscores for the products.
  __device__ static void convert(uint32_t (&operand)[kM / 16][4], const Accumulators<1, kM> &values) {
#pragma unroll
    for (int k = 0; k < kM / 16; ++k)
#pragma unroll
      for (int i = 0; i < 4; ++i)
        operand[k][i] =
            ptx::cvt_x2<Element>(values[0][2 * k + i / 2][2 * (i % 2)], values[0][2 * k + i / 2][2 * (i % 2) + 1]);
  }

  // The key gradient sums dscores times row factors.
  __device__ void apply_row_factors() {
#pragma unroll
    for (int j = 0; j < kM / 8; ++j) {
      const float2 row = *reinterpret_cast<const float2 *>(&shared.factors[ring.stage][8 * j + 2 * (lane_index() & 3)]);
#pragma unroll
      for (int e = 0; e < 4; ++e) dweights[0][j][e] *= e % 2 == 0 ? row.x : row.y;
    }
  }

  // dscores of this consumer's 64 keys -> their panel, turned: rows are queries.
  __device__ void publish(const uint32_t (&dscores)[kM / 16][4]) {
    const int lane = lane_index();
    const int row = (lane >> 4) * 8 + (lane & 7), chunk = thread / 32 * 2 + ((lane >> 3) & 1);
    const uint32_t first =
        address(shared.score_gradient[ring.stage]) + index * kM * 128 + row * 128 + ((chunk ^ (row & 7)) << 4);
#pragma unroll
    for (int k = 0; k < kM / 16; ++k) ptx::stmatrix_x4_trans(first + k * 2048, dscores[k]);
    ptx::fence_proxy_async();
    __syncwarp();
    if (lane == 0) ptx::mbarrier_arrive(address(&shared.barriers.score_full[ring.stage]));
  }

  // Row scalars are read by ordinary loads, whose end only the warp itself knows.
  __device__ void release(uint64_t &barrier) const {
    __syncwarp();
    if (lane_index() == 0) ptx::mbarrier_arrive(address(&barrier));
  }

  // Adds this consumer's part of the queries' gradient to the sums; in the order of the thread blocks, where that is
  // asked for: every part has a counter of the visitors that are done.
  __device__ void add_query_sum(const Accumulators<1, kSumChannels> &sum, const QueryTileVisit &visit) {
    const int part = kM == 64 ? index : 0;
    const int64_t tile64 = visit.tile64 + (kM == 64 ? 0 : index);
    float *target = a.rows.query_sums + ((tile64 * (kD / 8) + part * (kSumChannels / 8)) * 128 + thread) * 4;
    if constexpr (Shape::kOrdered) {
      if (thread == 0)
        while (ptx::load_acquire(a.rows.turns + tile64 * 2 + part) != visit.turn) {
        }
      ptx::bar_sync(kOneConsumer + index, 128);
    }
    if (a.rows.query_sums != nullptr) {
#pragma unroll
      for (int j = 0; j < kSumChannels / 8; ++j) ptx::red_add_v4(target + j * 512, sum[0][j]);
    }
    if constexpr (Shape::kOrdered) {
      __threadfence();
      ptx::bar_sync(kOneConsumer + index, 128);
      if (thread == 0) ptx::store_release(a.rows.turns + tile64 * 2 + part, visit.turn + 1);
    }
  }

  // The products of a tile in their order, and what the other units do meanwhile. The query sum of a tile waits until
  // the next one: only it needs the other consumer, which then had time to publish, and both drift apart as they like.
  //   scores | query sum of the tile before: weigh | dweights | dvalues: differentiate, publish | dkeys
  __device__ void visit(bool first) {
    BackwardSm90Barriers<Shape> &b = shared.barriers;
    const Ring before = ring.before();
    ptx::wgmma_wait_group<0>();  // the sums of the tile before give back the registers of their operands
    start_scores();
    if (!first) {
      release(b.query_empty[before.stage]);
      release(b.output_empty[before.stage]);
      wait_scores(before);
    }
    Accumulators<1, kSumChannels> query_sum;
    start_query_sum(query_sum, before.stage);  // of the first tile: of nothing, and dropped
    ptx::wgmma_wait_group<1>();
    weigh(scores);
    ptx::wgmma_wait_group<0>();
    if (!first) add_query_sum(query_sum, shared.visits[before.phase][before.stage]);
    start_dweights();
    const bool masked = shared.visits[ring.phase][ring.stage].is_masked;
    Visible visible;
    if (masked) {
      ptx::wgmma_wait_group<0>();
      contain(scores);
      visible = visible_pairs(shared.visits[ring.phase][ring.stage].tile);
      mask(scores, visible);
    }
    uint32_t weights[kM / 16][4], dscores[kM / 16][4];
    convert(weights, scores);
    start_sum<kV>(value_sums, weights, shared.output_gradient[ring.stage]);
    ptx::wgmma_wait_group<1>();
    differentiate(scores);
    if (masked) mask(dweights, visible);
    convert(dscores, dweights);
    publish(dscores);
    if constexpr (Shape::kRowFactors) {
      ptx::wgmma_wait_group<0>();  // operands that change under a product in flight would serialise all (C7513)
      apply_row_factors();
      convert(dscores, dweights);
    }
    start_sum<kD>(key_sums, dscores, shared.query[ring.stage]);
  }

  __device__ void visit_tiles() {
    for (bool first = true;; first = false) {
      visit(first);
      if (shared.visits[ring.phase][ring.stage].is_last) break;
      ring.advance();
    }
    Accumulators<1, kSumChannels> query_sum;
    wait_scores(ring);
    start_query_sum(query_sum, ring.stage);
    ptx::wgmma_wait_group<0>();
    add_query_sum(query_sum, shared.visits[ring.phase][ring.stage]);
  }

  __device__ void compute() {
#pragma unroll
    for (int i = 0; i < kD / 2; ++i) flat<kD>(key_sums)[i] = 0.0f;
#pragma unroll
    for (int i = 0; i < kV / 2; ++i) flat<kV>(value_sums)[i] = 0.0f;
    if (shared.work.tiles > 0) {
      ptx::mbarrier_wait(address(&shared.barriers.key_full), 0);
      prepare_keys();
      visit_tiles();
      ptx::bar_sync(kAllConsumers, 256);  // nobody reads the stages any more
    }
    store<kD>(key_sums, &shared.query[0][0], a.key_gradient, a.key_gradient_type, a.head_dim, a.key_scale);
    store<kV>(value_sums, &shared.output_gradient[0][0], a.value_gradient, a.value_gradient_type, a.value_dim,
              a.value_scale);
  }

  // Rows of this consumer -> the tensor: 16-bit rows through shared memory, so that whole 16-byte pieces leave.
  template <int kChannels>
  __device__ void store(const Accumulators<1, kChannels> &sums, uint8_t *staging, const TensorView &target,
                        OutputType type, int channels, float scale) {
    if (target.data == nullptr) return;
    const Work &work = shared.work;
    // Keys behind the valid ones of a batch entry have a gradient too: 0.
    const int rows = (a.problem.key_starts == nullptr ? a.problem.keys : work.sequence.keys) - work.first_key;
    const int batch = work.sequence.batch, head = work.place.key_head;
    const int64_t first_row = work.sequence.key_start + static_cast<int64_t>(work.first_key);
    const int lane = lane_index(), warp_row = index * 64 + thread / 32 * 16;
    if (type == OutputType::kFloat32) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int row = warp_row + lane / 4 + 8 * half;
        if (row >= rows) continue;
        float *out = static_cast<float *>(target.row(batch, head, first_row + row, 4));
#pragma unroll
        for (int j = 0; j < kChannels / 8; ++j)
          if (8 * j < channels)
            *reinterpret_cast<float2 *>(out + 8 * j + 2 * (lane & 3)) =
                make_float2(sums[0][j][2 * half] * scale, sums[0][j][2 * half + 1] * scale);
      }
      return;
    }
    using Tile = SharedTile<kN, kChannels>;
    const uint32_t tile = address(staging);
#pragma unroll
    for (int j = 0; j < kChannels / 16; ++j) {
      uint32_t pairs[4];
#pragma unroll
      for (int i = 0; i < 4; ++i)
        pairs[i] = ptx::cvt_x2<Element>(sums[0][2 * j + i / 2][2 * (i % 2)] * scale,
                                        sums[0][2 * j + i / 2][2 * (i % 2) + 1] * scale);
      ptx::stmatrix_x4(tile + Tile::offset(warp_row + (lane & 15), 2 * j + (lane >> 4)), pairs);
    }
    __syncwarp();  // a warp reads back its own rows
    constexpr int kRowsPerPass = 32 / (kChannels / 8);
#pragma unroll
    for (int pass = 0; pass < 16 / kRowsPerPass; ++pass) {
      const int row = warp_row + pass * kRowsPerPass + lane / (kChannels / 8), chunk = lane % (kChannels / 8);
      if (row < rows && 8 * chunk < channels)
        *reinterpret_cast<uint4 *>(static_cast<uint16_t *>(target.row(batch, head, first_row + row, 2)) + 8 * chunk) =
            *reinterpret_cast<const uint4 *>(staging + Tile::offset(row, chunk));
    }
  }
};

}  // namespace sieve
