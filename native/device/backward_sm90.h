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
//                                                  dvalues   += weights^T . doutput          (wgmma, registers x
//                                                  shared)
//                                                    dscores -> shared memory                (FP32, under dvalues)
//                                                  dkeys     += dscores^T . queries          (wgmma, registers x
//                                                  shared)
//
// Scores are computed transposed, so that weights and dscores are in registers what the next products take as their
// first operand; only dscores also go through shared memory, since the queries' gradient sums over the keys of both
// consumers. That sum leaves by vector reductions in the order in which threads hold it: 512 neighbouring bytes a warp,
// no shared memory. Key and value gradients stay in registers over all query heads of the group: no atomics.
// Registers of a consumer at 128 channels: 128 for the gradients, 64 scores and dweights, 32 operands.
#pragma once

#include "device/backward_sm90_consumer.h"
#include "device/backward_sm90_producer.h"

namespace sieve {

template <class Policy>
__global__ void __launch_bounds__(384, 1) backward_sm90(const __grid_constant__ BackwardSm90Arguments<Policy> a) {
  using Parts = BackwardSm90Parts<Policy>;
  using Shape = typename Policy::Shape;
  extern __shared__ __align__(1024) uint8_t raw[];
  auto &shared = *reinterpret_cast<typename Parts::Shared *>(raw);
  // Where turns are taken, the last keys begin: a causal mask lets each block reach its first tile first of all.
  const int index = static_cast<int>(Shape::kOrdered ? gridDim.x - 1 - blockIdx.x : blockIdx.x);
  bool found = true;
  if (threadIdx.x == 0) {
    Parts::initialize(shared);
    found = Parts::Work::find(a.problem, a.order, index, shared.work);
  }
  if (__syncthreads_and(found) == 0) return;
  const int warpgroup = __shfl_sync(0xffffffffu, static_cast<int>(threadIdx.x) / 128, 0);
  if (warpgroup == 0) {
    ptx::setmaxnreg_dec<Shape::kProducerRegisters>();
    const int warp = __shfl_sync(0xffffffffu, static_cast<int>(threadIdx.x) / 32, 0);
    if (warp == 0 && ptx::elect_sync()) BackwardSm90Producer<Policy>::produce(shared, a);
  } else {
    ptx::setmaxnreg_inc<Shape::kConsumerRegisters>();
    BackwardSm90Consumer<Policy> consumer{{}, shared, a, warpgroup - 1, static_cast<int>(threadIdx.x) % 128};
    consumer.compute();
  }
}

}  // namespace sieve
