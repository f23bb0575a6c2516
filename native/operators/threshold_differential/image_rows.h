// Images of query and key rows in signed bytes, by which a forward pass screens (bound: screen.h). Made by one launch
// over all rows, which also writes what inverse_norms.h writes.
//
// A row x of a query has its own scale, largest magnitude / 127; keys have the scale 1 / 127 all of them, so that the
// products of a query with any keys are comparable. Both keep the distance rho from row to image.
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
  constexpr int kLanes = kHeadDim / 8;
  ptx::griddepcontrol_launch_dependents();
  const int tensor = static_cast<int>(blockIdx.y);
  if (blockIdx.x == 0 && tensor == 0 && threadIdx.x == 0 && a.rows.next_tile != nullptr) *a.rows.next_tile = 0;
  const int64_t index = (static_cast<int64_t>(blockIdx.x) * kInverseNormThreads + threadIdx.x) / kLanes;
  const int lane = static_cast<int>(threadIdx.x) % kLanes;
  const bool inside = index < a.rows.count[tensor];
  const uint4 values = row_chunk(a.rows, tensor, index, lane);
  const float inverse = inverse_norm<Element, kLanes>(values);
  float unit[8];
  unit_row<Element>(values, inverse, unit);
  const ImageRows &image = a.images[tensor];
  const bool is_key = image.scales == nullptr;
  const float top = largest_magnitude<kLanes>(unit);
  const float scale = is_key ? 1.0f / kKeySteps : top > 0.0f ? top / 127.0f : 1.0f;
  int z[8];
  const float distance = quantise<kLanes, 127>(unit, scale, inverse, z);
  if (!inside) return;
  *reinterpret_cast<uint2 *>(image.values + index * kHeadDim + lane * 8) = make_uint2(pack_bytes(z), pack_bytes(z + 4));
  if (lane != 0) return;
  a.rows.inverse_norms[tensor][index] = inverse;
  image.distances[index] = distance;
  if (!is_key) image.scales[index] = scale;
}

}  // namespace sieve::threshold_differential
