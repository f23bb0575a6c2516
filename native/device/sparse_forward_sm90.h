// The Hopper forward pipeline of operators whose weights are final at once and mostly zero (a threshold known before
// the first key). Products on wgmma only screen; 16 rows x 16 keys with a candidate are scored exactly, weighed and
// multiplied with their values by mma.sync. So results do not depend on what screens.
//
//   producer warpgroup                             consumer warpgroups, 64 query rows each
//     warp 0: next tile                              wait for the tile; queries -> registers
//       queries -> shared memory                     for each pass over keys, last to first:
//       keys, values of a block -> a stage             start the second product                   wgmma
//                                                      screen the first one
//     warp 1: floats of the keys -> the stage          start the first one of the next pass
//                                                      screen the second one
//                                                      for 16 keys with a candidate of this warp:
//                                                        exact scores, weights, output +=         mma.sync
//                                                    epilogue, store
//
// The products of a pass are those of two views with 64 keys, or of one view with two times 64. Shape::kImages chooses
// what they multiply: queries and keys themselves, or images of both in signed bytes at twice the rate. With images the
// stages hold no keys and no values: a warp fetches the 16 it has a candidate for. Without, a consumer takes a block
// behind one full of candidates as dense: all of its scores are weighed as wgmma gives them, which are those of
// mma.sync bit for bit.
//
// Consumers share the tensor cores evenly; without a product on its way during a screen they would all end their
// products together. Queries in registers halve what wgmma reads from shared memory. Registers of a consumer: scores
// (64), queries (kViews kHeadDim / 4, of images half), output (kValueDim / 2).
//
// A policy has Shape (numbers), Arguments (plain data), and
//   key_scalars(arguments, view)      the floats of every key, key_rows of a head, heads as key_head_index counts
//   begin_row(arguments, ...)         the kRowScalars floats of a row; they wait in shared memory
//   limit(scalars, view, half)        what screen needs of a row, in registers
//   screen(score, scalar, limit)      sign bit set: the score has no weight; sound, not tight
//   weigh(scores, ...)                weights of 16 keys, rounded; whether the warp has one; counts survivors
//   store_counts, mark_tile           what was found, to where it is wanted
//   unscale(scalars, half)            factor of the output row
// and for images
//   query_image, query_index          where the image of a row lies
//   key_distances(arguments, ...)     the largest distance from a key to its image, of 64 keys
//   integer_limit, round_limit        what the products of a row must exceed, given that distance
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
