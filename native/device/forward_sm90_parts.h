// What producer and consumers of the Hopper forward pipeline share: arguments, barriers, shared memory, tiles.
#pragma once

#include "device/ptx/mbarrier.h"
#include "device/ptx/tma.h"
#include "device/ring.h"
#include "device/sequence.h"
#include "device/tensor_map.h"
#include "device/warp_product.h"

namespace sieve {

template <class Policy>
struct ForwardSm90Arguments {
  CUtensorMap query[Policy::Shape::kStreams * Policy::Shape::kViews];
  CUtensorMap key[Policy::Shape::kKeyStreams * Policy::Shape::kViews];
  CUtensorMap value;
  CUtensorMap staged_output;  // boxes of the 16 rows of a warp; where output_type is that of the elements
  ProblemView problem;
  TensorView output;
  OutputType output_type;
  int32_t value_dim;  // of the tensors; Shape::kValueDim may be larger
  TileOrder order;
  int32_t tiles;
  int32_t *next_tile;  // device counter, 0 at the start of the launch
  typename Policy::Arguments policy;
};

// Arrivals that complete a phase, and who waits.
template <class Shape>
struct ForwardSm90Barriers {
  uint64_t tile_full[2];                      // producer thread; everyone else waits for the number of the next tile
  uint64_t tile_empty[2];                     // every consumer warp; the producer waits
  uint64_t query_full[Shape::kQueryStages];   // copy engine
  uint64_t query_empty[Shape::kQueryStages];  // one thread a consumer warp
  uint64_t key_full[Shape::kStages];          // copy engine
  uint64_t key_empty[Shape::kStages];         // one thread a consumer; the producer waits
  uint64_t value_full[Shape::kStages];        // copy engine
  uint64_t value_empty[Shape::kStages];       // one thread a consumer
};

template <class Shape>
struct ForwardSm90SharedMemory {
  // Tiles are panels of 64 channels, one after another: [panel][row][64], rows swizzled as in SharedTile. The last
  // panel may be wider than the tensor: what is missing arrives as zeros, and no product reads beyond the dims of the
  // shape.
  static constexpr int kHeadPanels = (Shape::kHeadDim + 63) / 64, kValuePanels = (Shape::kValueDim + 63) / 64;
  static constexpr int kQueryViews = Shape::kStreams * Shape::kViews, kKeyViews = Shape::kKeyStreams * Shape::kViews;
  struct Query {
    alignas(1024) uint8_t view[kQueryViews][Shape::kRows * kHeadPanels * 128];
  } queries[Shape::kQueryStages];
  struct Stage {
    alignas(1024) uint8_t key[kKeyViews][Shape::kKeyBlock * kHeadPanels * 128];
    alignas(1024) uint8_t value[Shape::kKeyBlock * kValuePanels * 128];
  } stages[Shape::kStages];
  float row_scalars[Shape::kRowScalars == 0 ? 1 : Shape::kRowScalars][Shape::kRows];
  // Scaled output of the second stream, for the first to subtract: by register, then by thread of a consumer.
  static constexpr int kExchanged = Shape::kStreams == 1 ? 1 : (Shape::kValueDim < 128 ? Shape::kValueDim : 128) / 2;
  float exchange[kExchanged][Shape::kStreams == 1 ? 1 : 128];
  int tile[2];
  ForwardSm90Barriers<Shape> barriers;
};
// What one tile asks for.
template <class Shape>
struct TileWork {
  BlockPlace place;
  Sequence sequence;
  int block_row;
  int first_block, end_block;  // key blocks that some row of the tile sees

  __device__ TileWork(const ProblemView &problem, const TileOrder &order, int tile)
      : place(BlockPlace::of(problem, order, tile)), sequence(Sequence::at(problem, place.sequence)) {
    block_row = place.query_block * Shape::kRows;
    first_block = end_block = 0;
    if (block_row >= sequence.queries) return;
    const int last = min(block_row + Shape::kRows, sequence.queries) - 1;
    first_block = sequence.visible(problem, block_row).first / Shape::kKeyBlock;
    end_block = (sequence.visible(problem, last).end + Shape::kKeyBlock - 1) / Shape::kKeyBlock;
  }
  __device__ bool has_keys() const { return first_block < end_block; }
};

template <class Policy>
struct ForwardSm90Parts {
  using Shape = typename Policy::Shape;
  using Element = typename Shape::Element;
  using Arguments = ForwardSm90Arguments<Policy>;
  using Shared = ForwardSm90SharedMemory<Shape>;
  using Work = TileWork<Shape>;
  using Ring = RingCursor<Shape::kStages>;
  using QueryRing = RingCursor<Shape::kQueryStages>;
  static constexpr int kN = Shape::kKeyBlock, kD = Shape::kHeadDim, kV = Shape::kValueDim, kViews = Shape::kViews;
  // Beside a wider output, the next tile's scores do not fit.
  static constexpr bool kScoresAhead = kV <= 128;
  // The output leaves through the queries of its tile, while the other place takes those of the next: nobody waits.
  static constexpr bool kStagesOutput =
      kScoresAhead && Shape::kQueryStages == 2 && Shared::kValuePanels <= Shape::kStreams * Shared::kHeadPanels;
  static constexpr int kConsumersBarrier = 1;  // named barrier of all consumers
  static constexpr int kConsumerBarrier = 2;   // 2, 3, ...: of the threads of one consumer
  static constexpr int kExchangeFull = kConsumerBarrier + Shape::kConsumers;  // second stream to first
  static constexpr int kExchangeEmpty = kExchangeFull + 1;                    // first stream to second

  static_assert(Shape::kStreams == 1 || (Shape::kStreams == 2 && Shape::kConsumers == 2 && Shape::kRows == 64),
                "a consumer for each stream, on the same rows");
  static_assert(sizeof(Shared) <= 227 * 1024, "shared memory of a thread block");
  static_assert(128 * (Shape::kProducerRegisters + Shape::kConsumers * Shape::kConsumerRegisters) <= 65536,
                "registers");

  __device__ static uint32_t address(const void *pointer) { return ptx::shared_address(pointer); }

  __device__ static void initialize(Shared &shared) {
    ForwardSm90Barriers<Shape> &b = shared.barriers;
    for (int slot = 0; slot < 2; ++slot) {
      ptx::mbarrier_init(address(&b.tile_full[slot]), 1);
      ptx::mbarrier_init(address(&b.tile_empty[slot]), 4 * Shape::kConsumers);
    }
    for (int stage = 0; stage < Shape::kQueryStages; ++stage) {
      ptx::mbarrier_init(address(&b.query_full[stage]), 1);
      ptx::mbarrier_init(address(&b.query_empty[stage]), 4 * Shape::kConsumers);
    }
    for (int stage = 0; stage < Shape::kStages; ++stage) {
      ptx::mbarrier_init(address(&b.key_full[stage]), 1);
      ptx::mbarrier_init(address(&b.value_full[stage]), 1);
      ptx::mbarrier_init(address(&b.key_empty[stage]), Shape::kConsumers);
      ptx::mbarrier_init(address(&b.value_empty[stage]), Shape::kConsumers);
    }
    ptx::fence_mbarrier_init();
  }

  // Reads the number of the next tile, once a warp.
  __device__ static int next_tile(Shared &shared, RingCursor<2> &slot) {
    ptx::mbarrier_wait(address(&shared.barriers.tile_full[slot.stage]), slot.phase);
    const int tile = shared.tile[slot.stage];
    __syncwarp();
    if (lane_index() == 0) ptx::mbarrier_arrive(address(&shared.barriers.tile_empty[slot.stage]));
    slot.advance();
    return tile;
  }
};

}  // namespace sieve
