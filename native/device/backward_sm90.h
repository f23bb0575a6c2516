// The Hopper backward pipeline: a thread block owns 128 keys and visits the query tiles that see them.
//
//   producer thread                            two consumer warpgroups, 64 keys each
//     keys, values -> once                       wait keys, values
//     for each query head of the group:          for each query tile:
//       for each query tile:                       scores^T   = keys . queries^T             (wgmma, shared x shared)
//         queries, shifts -> a stage               dqueries   = dscores . keys, tile before  (wgmma, shared x shared)
//         doutput, deltas -> a stage                 weights = policy(scores)                (FP32, under dqueries)
//                                                    dqueries -> sums in global memory
//                                                  dweights^T = values . doutput^T           (wgmma, shared x shared)
//                                                  dvalues   += weights^T . doutput          (wgmma, registers x shared)
//                                                    dscores -> shared memory                (FP32, under dvalues)
//                                                  dkeys     += dscores^T . queries          (wgmma, registers x shared)
//
// Scores are computed transposed, so that weights and dscores are in registers what the next products take as their
// first operand; only dscores also go through shared memory, since the queries' gradient sums over the keys of both
// consumers. That sum leaves by vector reductions in the order in which threads hold it: 512 neighbouring bytes a warp,
// no shared memory. Key and value gradients stay in registers over all query heads of the group: no atomics.
// Registers of a consumer at 128 channels: 128 for the gradients, 64 scores and dweights, 32 operands.
#pragma once

#include "device/key_block_work.h"
#include "device/ptx/mbarrier.h"
#include "device/ptx/reduce.h"
#include "device/ptx/stmatrix.h"
#include "device/ptx/tma.h"
#include "device/ptx/warpgroup.h"
#include "device/ptx/wgmma.h"
#include "device/ring.h"
#include "device/rows.h"
#include "device/tensor_map.h"
#include "device/warp_product.h"

namespace sieve {

// Padded arrays of the query rows (padded_rows.h), and where the sums for the query gradient go.
struct GradientRows {
  const float *shifts;
  const float *deltas;
  const float *factors;  // row factors of the scores; read where the shape has them
  int64_t padded_rows;
  float *query_sums;  // [query heads][padded rows / 64][channels / 8][128 threads][4]; null: not wanted
  int32_t *turns;     // [query heads][padded rows / 64][2], zero at the start; used where the order of sums is fixed
};

template <class Policy>
struct BackwardSm90Arguments {
  CUtensorMap query, key, value, output_gradient;
  ProblemView problem;
  HeadGroups order;
  GradientRows rows;
  TensorView key_gradient;  // data = nullptr: not wanted
  TensorView value_gradient;
  OutputType key_gradient_type;
  OutputType value_gradient_type;
  int32_t head_dim;  // of the tensors
  int32_t value_dim;
  float key_scale;  // of the key gradient
  float value_scale;
  typename Policy::Arguments policy;
};

// What the producer knows of a tile when it starts its copies; consumers read it where they need it.
struct QueryTileVisit {
  int64_t tile64;  // first group of 64 query rows of the sums
  int32_t tile;    // of the sequence
  int32_t turn;    // thread blocks that add to these rows before this one
  bool is_masked;
  bool is_last;
};

// Arrivals that complete a phase, and who waits.
template <class Shape>
struct BackwardSm90Barriers {
  uint64_t key_full;                      // copy engine; both consumers wait
  uint64_t query_full[Shape::kStages];    // copy engine: queries and shifts; producer: the visit
  uint64_t query_empty[Shape::kStages];   // every consumer warp; the producer waits
  uint64_t output_full[Shape::kStages];   // copy engine: doutput and deltas
  uint64_t output_empty[Shape::kStages];  // every consumer warp
  uint64_t score_full[Shape::kStages];    // every consumer warp, for its dscores; both consumers wait
};

template <class Shape>
struct BackwardSm90SharedMemory {
  static constexpr int kM = Shape::kQueryBlock, kN = Shape::kKeyBlock;
  // Tiles are panels of 64 channels: [panel][row][64], swizzled.
  alignas(1024) uint8_t key[kN * Shape::kHeadDim * 2];
  alignas(1024) uint8_t value[kN * Shape::kValueDim * 2];
  alignas(1024) uint8_t query[Shape::kStages][kM * Shape::kHeadDim * 2];                // at the end: key gradients
  alignas(1024) uint8_t output_gradient[Shape::kStages][kM * Shape::kValueDim * 2];     // at the end: value gradients
  alignas(1024) uint8_t score_gradient[Shape::kStages][kM * kN * 2];                   // [panel of 64 keys][query][64]
  alignas(128) float shifts[Shape::kStages][kM];
  alignas(128) float factors[Shape::kStages][kM];
  alignas(128) float deltas[Shape::kStages][kM];
  float key_factors[kN];
  QueryTileVisit visits[2][Shape::kStages];  // by phase and stage: sums are added after the stage was given back
  KeyBlockWork<kM, kN> work;  // the same for all threads: it waits here, registers are scarcer
  BackwardSm90Barriers<Shape> barriers;
};

template <class Policy>
struct BackwardSm90 {
  using Shape = typename Policy::Shape;
  using Element = typename Shape::Element;
  using Arguments = BackwardSm90Arguments<Policy>;
  using Shared = BackwardSm90SharedMemory<Shape>;
  using Work = KeyBlockWork<Shape::kQueryBlock, Shape::kKeyBlock>;
  using Ring = RingCursor<Shape::kStages>;
  static constexpr int kM = Shape::kQueryBlock, kN = Shape::kKeyBlock, kD = Shape::kHeadDim, kV = Shape::kValueDim;
  static constexpr int kConsumers = 2;
  static constexpr int kAllConsumers = 1;   // named barrier of both consumers
  static constexpr int kOneConsumer = 2;    // 2, 3: of the threads of one
  // With 64 query rows each consumer sums half of the channels of the query gradient, with 128 half of the rows.
  static constexpr int kSumChannels = kM == 64 ? kD / 2 : kD;

  static_assert(kN == 64 * kConsumers && (kM == 64 || kM == 128));
  static_assert(Shape::kStages >= 2 && Shape::kStages * kM >= kN, "gradients leave through the stages");
  static_assert(sizeof(Shared) <= 227 * 1024, "shared memory of a thread block");
  static_assert(128 * (Shape::kProducerRegisters + kConsumers * Shape::kConsumerRegisters) <= 65536, "registers");

  __device__ static uint32_t address(const void *pointer) { return ptx::shared_address(pointer); }

  __device__ static void initialize(Shared &shared) {
    BackwardSm90Barriers<Shape> &b = shared.barriers;
    ptx::mbarrier_init(address(&b.key_full), 1);
    for (int stage = 0; stage < Shape::kStages; ++stage) {
      ptx::mbarrier_init(address(&b.query_full[stage]), 1);
      ptx::mbarrier_init(address(&b.query_empty[stage]), 4 * kConsumers);
      ptx::mbarrier_init(address(&b.output_full[stage]), 1);
      ptx::mbarrier_init(address(&b.output_empty[stage]), 4 * kConsumers);
      ptx::mbarrier_init(address(&b.score_full[stage]), 4 * kConsumers);
    }
    ptx::fence_mbarrier_init();
  }

  template <int kRows, int kChannels>
  __device__ static void load_tile(void *target, const CUtensorMap &map, int row, int head, int batch,
                                   uint64_t *barrier) {
#pragma unroll
    for (int panel = 0; panel < kChannels / 64; ++panel)
      ptx::cp_async_bulk_tensor_4d(address(target) + panel * kRows * 128, &map, panel * 64, row, head, batch,
                                   address(barrier));
  }

  // One thread: keys and values, then for every tile its visit, queries, doutput.
  __device__ static void produce(Shared &shared, const Arguments &a) {
    BackwardSm90Barriers<Shape> &b = shared.barriers;
    const Work &work = shared.work;
    const int batch = work.sequence.batch, tiles = work.tiles;
    if (tiles == 0) return;
    ptx::mbarrier_arrive_expect_tx(address(&b.key_full), sizeof shared.key + sizeof shared.value);
    const int key_row = work.sequence.key_start + work.first_key;
    load_tile<kN, kD>(shared.key, a.key, key_row, work.place.key_head, batch, &b.key_full);
    load_tile<kN, kV>(shared.value, a.value, key_row, work.place.key_head, batch, &b.key_full);
    // Where the order of summation is free, thread blocks that see the same tiles begin each with another one, so that
    // they do not meet at its sums.
    const int start = Shape::kOrdered || a.problem.causal ? 0 : work.place.key_block * (kN / kM) % tiles;
    Ring ring;
    const int first_head = work.place.key_head * a.problem.group;
#pragma unroll 1
    for (int head = first_head; head < first_head + a.problem.group; ++head) {
#pragma unroll 1
      for (int step = 0; step < tiles; ++step) {
        const int stage = ring.stage;
        const int tile = work.first_tile + (start + step < tiles ? start + step : start + step - tiles);
        ptx::mbarrier_wait(address(&b.query_empty[stage]), ring.phase ^ 1);
        QueryTileVisit &visit = shared.visits[ring.phase][stage];
        visit.tile64 = (head * a.rows.padded_rows + work.padded_row) / 64 + tile * (kM / 64);
        visit.tile = tile;
        visit.is_masked = work.is_masked(a.problem, tile);
        visit.is_last = step + 1 == tiles && head + 1 == first_head + a.problem.group;
        if constexpr (Shape::kOrdered) visit.turn = work.turn(a.problem, tile);
        copy_tile(shared, a, ring, head, tile);
        ring.advance();
      }
    }
  }

  __device__ static void copy_tile(Shared &shared, const Arguments &a, const Ring &ring, int head, int tile) {
    const int stage = ring.stage, batch = shared.work.sequence.batch;
    const int row = shared.work.sequence.query_start + tile * kM;
    const int64_t padded = head * a.rows.padded_rows + shared.work.padded_row + tile * kM;
    constexpr int kRowBytes = kM * static_cast<int>(sizeof(float));
    uint64_t *query_full = &shared.barriers.query_full[stage], *output_full = &shared.barriers.output_full[stage];
    ptx::mbarrier_arrive_expect_tx(address(query_full), sizeof shared.query[0] + (1 + Shape::kRowFactors) * kRowBytes);
    load_tile<kM, kD>(shared.query[stage], a.query, row, head, batch, query_full);
    ptx::cp_async_bulk(address(shared.shifts[stage]), a.rows.shifts + padded, kRowBytes, address(query_full));
    if constexpr (Shape::kRowFactors)
      ptx::cp_async_bulk(address(shared.factors[stage]), a.rows.factors + padded, kRowBytes, address(query_full));
    ptx::mbarrier_wait(address(&shared.barriers.output_empty[stage]), ring.phase ^ 1);
    ptx::mbarrier_arrive_expect_tx(address(output_full), sizeof shared.output_gradient[0] + kRowBytes);
    load_tile<kM, kV>(shared.output_gradient[stage], a.output_gradient, row, head, batch, output_full);
    ptx::cp_async_bulk(address(shared.deltas[stage]), a.rows.deltas + padded, kRowBytes, address(output_full));
  }

  // One consumer warpgroup; all of its threads follow the same path.
  struct Consumer {
    Shared &shared;
    const Arguments &a;
    const int index;   // of the consumer
    const int thread;  // of the warpgroup
    Ring ring;  // stages of queries and doutput go together

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
    __device__ void start_sum(Accumulators<1, kChannels> &sums, const uint32_t (&operand)[kM / 16][4],
                              const void *tile) {
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
          weights[0][j][e] =
              Policy::weight(scores[0][j][e],
                             Shape::kRowFactors ? factor[e / 2] * (e % 2 == 0 ? row.x : row.y) : factor[e / 2],
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
          operand[k][i] = ptx::cvt_x2<Element>(values[0][2 * k + i / 2][2 * (i % 2)],
                                               values[0][2 * k + i / 2][2 * (i % 2) + 1]);
    }

    // The key gradient sums dscores times row factors.
    __device__ void apply_row_factors() {
#pragma unroll
      for (int j = 0; j < kM / 8; ++j) {
        const float2 row =
            *reinterpret_cast<const float2 *>(&shared.factors[ring.stage][8 * j + 2 * (lane_index() & 3)]);
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
          *reinterpret_cast<uint4 *>(
              static_cast<uint16_t *>(target.row(batch, head, first_row + row, 2)) + 8 * chunk) =
              *reinterpret_cast<const uint4 *>(staging + Tile::offset(row, chunk));
      }
    }
  };
};

template <class Policy>
__global__ void __launch_bounds__(384, 1) backward_sm90(const __grid_constant__ BackwardSm90Arguments<Policy> a) {
  using Kernel = BackwardSm90<Policy>;
  using Shape = typename Policy::Shape;
  extern __shared__ __align__(1024) uint8_t raw[];
  auto &shared = *reinterpret_cast<typename Kernel::Shared *>(raw);
  // Where turns are taken, the last keys begin: a causal mask lets each block reach its first tile first of all.
  const int index = static_cast<int>(Shape::kOrdered ? gridDim.x - 1 - blockIdx.x : blockIdx.x);
  bool found = true;
  if (threadIdx.x == 0) {
    Kernel::initialize(shared);
    found = Kernel::Work::find(a.problem, a.order, index, shared.work);
  }
  if (__syncthreads_and(found) == 0) return;
  const int warpgroup = __shfl_sync(0xffffffffu, static_cast<int>(threadIdx.x) / 128, 0);
  if (warpgroup == 0) {
    ptx::setmaxnreg_dec<Shape::kProducerRegisters>();
    const int warp = __shfl_sync(0xffffffffu, static_cast<int>(threadIdx.x) / 32, 0);
    if (warp == 0 && ptx::elect_sync()) Kernel::produce(shared, a);
  } else {
    ptx::setmaxnreg_inc<Shape::kConsumerRegisters>();
    typename Kernel::Consumer consumer{shared, a, warpgroup - 1, static_cast<int>(threadIdx.x) % 128};
    consumer.compute();
  }
}

}  // namespace sieve
