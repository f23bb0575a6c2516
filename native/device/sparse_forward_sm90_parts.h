// What producer and consumers of the sparse Hopper forward pipeline share: arguments, barriers, shared memory.
#pragma once

#include "device/forward_sm90_parts.h"

namespace sieve {

template <class Policy>
struct SparseForwardSm90Arguments {
  CUtensorMap query[Policy::Shape::kViews];
  CUtensorMap key[Policy::Shape::kViews];      // what screens: the keys, or their images
  CUtensorMap value;                           // not used beside images
  TensorView key_rows[Policy::Shape::kViews];  // beside images, for warps that fetch a few keys and values
  TensorView value_rows;
  ProblemView problem;
  TensorView output;
  OutputType output_type;
  int32_t head_dim;  // of the tensors; Shape may have more
  int32_t value_dim;
  TileOrder order;
  int32_t tiles;
  int32_t *next_tile;  // device counter, 0 at the start of the launch
  typename Policy::Arguments policy;
};

// Arrivals that complete a phase, and who waits.
template <class Shape>
struct SparseForwardSm90Barriers {
  uint64_t tile_full[2];                 // producer thread; everyone else waits for the next tile
  uint64_t tile_empty[2];                // every consumer warp and the scalar warp, at the end of the tile
  uint64_t query_full;                   // copy engine; consumers wait
  uint64_t query_empty;                  // every consumer warp, once it needs its rows in shared memory no more
  uint64_t stage_full[Shape::kStages];   // copy engine, producer thread and the copies of every lane of the scalar warp
  uint64_t stage_empty[Shape::kStages];  // every consumer warp; producer and scalar warp wait
};

// The keys of one consumer's rows.
struct alignas(16) RowsKeys {
  int first, end;                // that some row sees, rounded to whole passes
  int common_first, common_end;  // that all rows see
};

// What the copy engine brings of a block of keys. Tiles are panels of 64 channels, one after another:
// [panel][row][64], rows swizzled as in SharedTile.
template <class Shape, bool kImages = Shape::kImages>
struct SparseStage {
  alignas(1024) uint8_t key[Shape::kViews][Shape::kKeyBlock * ((Shape::kHeadDim + 63) / 64) * 128];
  alignas(1024) uint8_t value[Shape::kKeyBlock * ((Shape::kValueDim + 63) / 64) * 128];
};
// Images: a byte a channel, a row in one piece.
template <class Shape>
struct SparseStage<Shape, true> {
  alignas(1024) uint8_t key[Shape::kViews][Shape::kKeyBlock * Shape::kHeadDim];
};

// Keys and values that a warp fetches itself, beside images.
template <class Shape, bool kImages = Shape::kImages>
struct SparseFetched {};
template <class Shape>
struct SparseFetched<Shape, true> {
  alignas(1024) uint8_t key[Shape::kViews][16 * ((Shape::kHeadDim + 63) / 64) * 128];
  alignas(1024) uint8_t value[16 * ((Shape::kValueDim + 63) / 64) * 128];
};

template <class Shape>
struct SparseForwardSm90SharedMemory {
  static constexpr int kHeadPanels = (Shape::kHeadDim + 63) / 64, kValuePanels = (Shape::kValueDim + 63) / 64;
  static constexpr int kWarps = 4 * Shape::kConsumers;
  using Stage = SparseStage<Shape>;
  struct Query {
    alignas(1024) uint8_t view[Shape::kViews][Shape::kRows * kHeadPanels * 128];
  } query;
  Stage stages[Shape::kStages];
  SparseFetched<Shape> fetched[kWarps];
  alignas(16) float key_scalars[Shape::kStages][Shape::kViews][Shape::kKeyBlock];
  float row_scalars[Shape::kRowScalars][Shape::kRows];
  float row_limits[Shape::kViews][Shape::kRows];
  int row_counts[Shape::kViews][Shape::kRows];                                                        // survivors
  alignas(8) float distances[Shape::kStages][Shape::kViews][Shape::kKeyBlock / Shape::kKeyChunk][2];  // of images
  // What a tile asks for is read where it is needed: registers are scarcer.
  struct Tile {
    TileWork<Shape> work;
    int key_head;
    bool exists;
    int following;  // number of the tile after it, for the producer
  } tiles[2];
  RowsKeys rows_keys[kWarps];
  SparseForwardSm90Barriers<Shape> barriers;
};

template <class Policy>
struct SparseForwardSm90Parts {
  using Shape = typename Policy::Shape;
  using Element = typename Shape::Element;
  using Arguments = SparseForwardSm90Arguments<Policy>;
  using Shared = SparseForwardSm90SharedMemory<Shape>;
  using Work = TileWork<Shape>;
  using Ring = RingCursor<Shape::kStages>;
  static constexpr int kN = Shape::kKeyChunk, kBlock = Shape::kKeyBlock;
  static constexpr int kD = Shape::kHeadDim, kV = Shape::kValueDim, kViews = Shape::kViews;
  static constexpr bool kImages = Shape::kImages;
  static constexpr int kPass = kViews == 2 ? kN : 2 * kN;  // keys of two products
  static constexpr int kConsumerBarrier = 1;               // 1, 2, ...: named barrier of the threads of one consumer

  static_assert(sizeof(Shared) <= 227 * 1024, "shared memory of a thread block");
  static_assert(128 * (Shape::kProducerRegisters + Shape::kConsumers * Shape::kConsumerRegisters) <= 65536,
                "registers");
  static_assert(kBlock % kPass == 0 && kN == 64, "whole passes; a chunk is a tile of survivors");

  __device__ static uint32_t address(const void *pointer) { return ptx::shared_address(pointer); }

  __device__ static void initialize(Shared &shared) {
    SparseForwardSm90Barriers<Shape> &b = shared.barriers;
    for (int slot = 0; slot < 2; ++slot) {
      ptx::mbarrier_init(address(&b.tile_full[slot]), 1);
      ptx::mbarrier_init(address(&b.tile_empty[slot]), Shared::kWarps + 1);
    }
    ptx::mbarrier_init(address(&b.query_full), 1);
    ptx::mbarrier_init(address(&b.query_empty), Shared::kWarps);
    for (int stage = 0; stage < Shape::kStages; ++stage) {
      ptx::mbarrier_init(address(&b.stage_full[stage]), 1 + 32);
      ptx::mbarrier_init(address(&b.stage_empty[stage]), Shared::kWarps);
    }
    ptx::fence_mbarrier_init();
  }

  // Floats of 16 keys lie so that a lane reads those of its columns, 2 t + {0, 1} and 8 + 2 t + {0, 1}, at once.
  __device__ static int scalar_place(int key) { return (key & ~15) | (key & 6) << 1 | (key & 8) >> 2 | (key & 1); }

  // One arrival a warp, after all of its lanes are done with what they read.
  __device__ static void release(uint64_t &barrier) {
    __syncwarp();
    if (lane_index() == 0) ptx::mbarrier_arrive(address(&barrier));
  }

  // Waits for the next tile; false where there is none.
  __device__ static bool tile_arrives(Shared &shared, PairCursor slot) {
    ptx::mbarrier_wait(address(&shared.barriers.tile_full[slot.stage()]), slot.phase());
    return shared.tiles[slot.stage()].exists;
  }
};

}  // namespace sieve
