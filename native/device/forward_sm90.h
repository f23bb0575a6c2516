// The Hopper forward pipeline: wgmma, the copy engine, thread blocks that stay and compute tile after tile.
//
//   producer warpgroup                             consumer warpgroups, 64 query rows each
//     warp 0: next tile from a counter               wait for the tile and its queries
//       queries -> one of kQueryStages places        for each key block, last to first:
//       keys, values of a block -> a stage             start scores = queries . keys^T    shared x shared
//     warps 1, 2, 3: idle                              start output += weights . values   of the block before
//                                                      wait for the scores, weigh them    under the value product
//                                                    start the first scores of the next tile, epilogue, store
//
// Shared memory holds queries and stages in panels of 64 channels; registers of a consumer hold scores (kKeyBlock / 2 a
// thread), packed weights (kKeyBlock / 4) and output (kValueDim / 2). Stages are filled as soon as they are free,
// across tiles. Every wait is on an mbarrier of ForwardSm90Barriers; named barriers only join the threads of a
// consumer. Policies are those of forward_sm80.h, with one row tile and a chunk that is a key block.
#pragma once

#include "device/forward_sm90_consumer.h"
#include "device/forward_sm90_producer.h"

namespace sieve {

template <class Policy>
__global__ void __launch_bounds__(Policy::Shape::kThreads, 1)
    forward_sm90(const __grid_constant__ ForwardSm90Arguments<Policy> a) {
  using Parts = ForwardSm90Parts<Policy>;
  using Shape = typename Policy::Shape;
  extern __shared__ __align__(1024) uint8_t raw[];
  auto &shared = *reinterpret_cast<typename Parts::Shared *>(raw);
  if (threadIdx.x == 0) Parts::initialize(shared);
  __syncthreads();
  const int warpgroup = __shfl_sync(0xffffffffu, static_cast<int>(threadIdx.x) / 128, 0);
  if (warpgroup == 0) {
    ptx::setmaxnreg_dec<Shape::kProducerRegisters>();
    const int warp = __shfl_sync(0xffffffffu, static_cast<int>(threadIdx.x) / 32, 0);
    if (warp == 0 && ptx::elect_sync()) ForwardSm90Producer<Policy>::produce(shared, a);
  } else {
    ptx::setmaxnreg_inc<Shape::kConsumerRegisters>();
    ForwardSm90Consumer<Policy> consumer{{}, shared, a, warpgroup - 1, static_cast<int>(threadIdx.x) % 128};
    if constexpr (Parts::kScoresAhead)
      consumer.run_ahead();
    else
      consumer.run();
  }
}

}  // namespace sieve
