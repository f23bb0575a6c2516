// The Hopper forward pipeline of operators whose weights are final at once and mostly zero (a threshold known before
// the first key). Scores by wgmma only screen, for one multiply-add and half a logic operation each; 16 rows x 16 keys
// with a candidate are scored again, weighed and multiplied with their values by mma.sync. So results do not depend on
// what screens, and nothing is in registers twice.
//
//   producer warpgroup                             consumer warpgroups, 64 query rows each
//     warp 0: next tile                              wait for the tile; queries -> registers
//       queries -> shared memory                     for each chunk of keys, last block to first:
//       keys of a block -> a stage                     scores of view 0, 1 = queries . keys^T      wgmma
//         with values while they are in use            screen view 0 under the product of view 1
//     warp 1: floats of the keys -> the stage          for 16 keys with a candidate of this warp:
//                                                        scores again, weights, output +=          mma.sync
//                                                    epilogue, store
//
// What bounds it is the way from the level-2 cache, so a tile has many rows and values travel only where they are used:
// with their keys as long as recent blocks needed them, else fetched by the warp that found a weight. Queries in
// registers halve what wgmma reads from shared memory. Registers of a consumer: scores (kViews kKeyChunk / 2), queries
// (kViews kHeadDim / 4), output (kValueDim / 2). Warps of a consumer vote alone and only meet in wgmma.
//
// A policy has Shape (numbers), Arguments (plain data), and
//   key_scalars(arguments, ...)     where the floats of every key and view lie
//   begin_row(arguments, ...)       the kRowScalars floats of a row; they wait in shared memory
//   limit(scalars, view, half)      what screen needs of a row, in registers
//   screen(score, scalar, limit)    sign bit set: the score has no weight; sound, not tight
//   weigh(scores, ...)              weights of 16 keys, rounded; whether the warp has one; counts survivors
//   unscale(scalars, half)          factor of the output row
#pragma once

#include "device/ptx/grid_dependency.h"
#include "device/sparse_forward_sm90_consumer.h"
#include "device/sparse_forward_sm90_producer.h"

namespace sieve {

template <class Policy>
__global__ void __launch_bounds__(Policy::Shape::kThreads, 1)
    sparse_forward_sm90(const __grid_constant__ SparseForwardSm90Arguments<Policy> a) {
  using Parts = SparseForwardSm90Parts<Policy>;
  using Shape = typename Policy::Shape;
  extern __shared__ __align__(1024) uint8_t raw[];
  auto &shared = *reinterpret_cast<typename Parts::Shared *>(raw);
  if (threadIdx.x == 0) Parts::initialize(shared);
  __syncthreads();
  ptx::griddepcontrol_wait();  // floats of rows and keys, and the counter of tiles, come from the kernel before
  const int warp = __shfl_sync(0xffffffffu, static_cast<int>(threadIdx.x) / 32, 0);
  if (warp < 4) {
    ptx::setmaxnreg_dec<Shape::kProducerRegisters>();
    if (warp == 0 && ptx::elect_sync()) SparseForwardSm90Producer<Policy>::produce(shared, a);
    if (warp == 1) SparseForwardSm90Producer<Policy>::produce_scalars(shared, a);
  } else {
    ptx::setmaxnreg_inc<Shape::kConsumerRegisters>();
    SparseForwardSm90Consumer<Policy> consumer{{}, shared, a, warp / 4 - 1, warp - 4};
    consumer.run();
  }
}

}  // namespace sieve
