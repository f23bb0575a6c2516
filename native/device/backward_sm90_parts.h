// What producer and consumers of the Hopper backward pipeline share: arguments, barriers, shared memory.
#pragma once

#include "device/key_block_work.h"
#include "device/ptx/mbarrier.h"
#include "device/ring.h"
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
  alignas(1024) uint8_t query[Shape::kStages][kM * Shape::kHeadDim * 2];             // at the end: key gradients
  alignas(1024) uint8_t output_gradient[Shape::kStages][kM * Shape::kValueDim * 2];  // at the end: value gradients
  alignas(1024) uint8_t score_gradient[Shape::kStages][kM * kN * 2];                 // [panel of 64 keys][query][64]
  alignas(128) float shifts[Shape::kStages][kM];
  alignas(128) float factors[Shape::kStages][kM];
  alignas(128) float deltas[Shape::kStages][kM];
  float key_factors[kN];
  QueryTileVisit visits[2][Shape::kStages];  // by phase and stage: sums are added after the stage was given back
  KeyBlockWork<kM, kN> work;                 // the same for all threads: it waits here, registers are scarcer
  BackwardSm90Barriers<Shape> barriers;
};
template <class Policy>
struct BackwardSm90Parts {
  using Shape = typename Policy::Shape;
  using Element = typename Shape::Element;
  using Arguments = BackwardSm90Arguments<Policy>;
  using Shared = BackwardSm90SharedMemory<Shape>;
  using Work = KeyBlockWork<Shape::kQueryBlock, Shape::kKeyBlock>;
  using Ring = RingCursor<Shape::kStages>;
  static constexpr int kM = Shape::kQueryBlock, kN = Shape::kKeyBlock, kD = Shape::kHeadDim, kV = Shape::kValueDim;
  static constexpr int kConsumers = 2;
  static constexpr int kAllConsumers = 1;  // named barrier of both consumers
  static constexpr int kOneConsumer = 2;   // 2, 3: of the threads of one
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
};

}  // namespace sieve
