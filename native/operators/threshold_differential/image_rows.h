// Images of query and key rows in signed bytes, by which a forward pass screens (bound: screen.h). Made by one launch
// over all rows, which also writes what inverse_norms.h writes.
//
// A row x of a query has its own scale, largest magnitude / 127; keys have the scale 1 / 127 all of them, so that the
// products of a query with any keys are comparable. Queries keep the distance rho from row to image; of keys the largest
// one of 64 neighbours is kept.
#pragma once

#include "operators/threshold_differential/inverse_norms.h"
#include "operators/threshold_differential/problem.h"
#include "operators/threshold_differential/screen.h"

namespace sieve::threshold_differential {

constexpr float kKeySteps = 127.0f;  // 1 / scale of the keys

struct ImageRowArguments {
  InverseNormArguments rows;
  ImageRows images[4];  // scales = nullptr: keys
};

template <typename Element, int kHeadDim>
__global__ void __launch_bounds__(kInverseNormThreads) image_rows(const __grid_constant__ ImageRowArguments a) {
  using Rows = NormedRows<kHeadDim>;
  __shared__ float farthest[kInverseNormThreads / 32];
  ptx::griddepcontrol_launch_dependents();
  Rows rows;
  if (blockIdx.x == 0 && blockIdx.y == 0 && threadIdx.x == 0 && a.rows.next_tile != nullptr) *a.rows.next_tile = 0;
  if (!rows.load(a.rows)) return;
  const ImageRows &image = a.images[rows.tensor];
  const bool is_key = image.scales == nullptr;
  float distance = 0.0f;
#pragma unroll
  for (int pass = 0; pass < Rows::kPasses; ++pass) {
    const float inverse = inverse_norm<Element, Rows::kLanes>(rows.values[pass]);
    float unit[8];
    unit_row<Element>(rows.values[pass], inverse, unit);
    const float top = largest_magnitude<Rows::kLanes>(unit);
    const float scale = is_key ? 1.0f / kKeySteps : top > 0.0f ? top / 127.0f : 1.0f;
    int z[8];
    const float apart = quantise<Rows::kLanes, 127>(unit, scale, inverse, z);
    if (!rows.inside(a.rows, pass)) continue;
    const int64_t index = rows.index(a.rows, pass);
    *reinterpret_cast<uint2 *>(image.values + index * kHeadDim + rows.lane() * 8) =
        make_uint2(pack_bytes(z), pack_bytes(z + 4));
    distance = fmaxf(distance, apart);
    if (rows.lane() != 0) continue;
    a.rows.inverse_norms[rows.tensor][index] = inverse;
    if (is_key) continue;
    image.distances[index] = apart;
    image.scales[index] = scale;
  }
  if (!is_key) return;
  // Magnitudes order as integers do.
  distance = __int_as_float(__reduce_max_sync(0xffffffffu, __float_as_int(distance)));
  if (threadIdx.x % 32 == 0) farthest[threadIdx.x / 32] = distance;
  __syncthreads();
  if (threadIdx.x != 0) return;
#pragma unroll
  for (const float other : farthest) distance = fmaxf(distance, other);
  image.distances[rows.head * image_groups(a.rows.rows[rows.tensor]) + rows.group] = distance;
}

}  // namespace sieve::threshold_differential
