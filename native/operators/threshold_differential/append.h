// What a cache keeps beside its keys, for the newest keys of every entry: inverse norms, and images for a screen.
// Copies the new keys and values into the cache first, where they are not there yet.
//
// Neighbouring lanes (kDim / 8) have a key of one head, 8 channels each; keys of a head side by side. Positions follow
// from the lengths in device memory, so a captured graph appends at the right place.
#pragma once

#include "operators/threshold_differential/decode.h"

namespace sieve::threshold_differential {

constexpr int kAppendThreads = 256;

template <typename Element, int kDim, Screen kScreen>
__device__ inline void store_image(uint8_t *images, bool inside, int key, int chunk, const uint4 &values,
                                   float inverse_norm) {
  using Layout = ScreenLayout<kScreen, kDim>;
  constexpr int kLanes = kDim / 8;
  float unit[8];
  int z[8];
  unit_row<Element>(values, inverse_norm, unit);
  // The scale that is kept is the one that is used: rounded upwards, so that the largest channel is not cut off.
  const __half scale =
      __float2half_ru(largest_magnitude<kLanes>(unit) / static_cast<float>(Layout::kLargest * Layout::kUnit));
  const float rho = quantise<kLanes, Layout::kLargest>(unit, __half2float(scale) * static_cast<float>(Layout::kUnit),
                                                       inverse_norm, z);
  if (!inside) return;
  uint8_t *target = images + Layout::value_offset(key, chunk);
  if constexpr (Layout::kInt8)
    *reinterpret_cast<uint2 *>(target) = make_uint2(pack_bytes(z), pack_bytes(z + 4));
  else
    *reinterpret_cast<uint32_t *>(target) = pack_nibbles(z);
  if (chunk == 0) {
    const bool finite = rho < 4.0f;
    *reinterpret_cast<__half2 *>(images + Layout::scale_offset(key)) =
        __halves2half2(finite ? scale : __float2half(0.0f), __float2half_ru(rho));
  }
}

template <typename Element, int kDim>
__global__ void __launch_bounds__(kAppendThreads) append(const __grid_constant__ AppendPlan a) {
  constexpr int kLanes = kDim / 8;
  const int64_t place = (static_cast<int64_t>(blockIdx.x) * kAppendThreads + threadIdx.x) / kLanes;
  const int chunk = static_cast<int>(threadIdx.x) % kLanes;
  const int row = static_cast<int>(place % a.rows), head = static_cast<int>(place / a.rows % a.key_heads);
  const int batch = static_cast<int>(place / a.rows / a.key_heads);
  bool inside = batch < a.batch;
  int key = 0;
  if (inside) {
    const int length = a.key_lengths == nullptr ? a.keys : min(a.key_lengths[batch], a.keys);
    key = length - a.rows + row;
    inside = key >= 0;
  }
  const KeyPlace at = inside ? key_place(a.cache, page_of(a.cache, batch, key), key) : KeyPlace{0, 0};
  for (int view = 0; view < a.views; ++view) {  // every lane takes part, also those without a key
    const bool has = inside && chunk * 8 < a.head_dim;
    auto *stored = static_cast<uint16_t *>(a.cache.key[view].data) + at.offset(a.cache.key[view], head) + chunk * 8;
    uint4 values{};
    if (has && a.new_key[view].data != nullptr) {
      values = *reinterpret_cast<const uint4 *>(
          static_cast<const uint16_t *>(a.new_key[view].row(batch, head, row, 2)) + chunk * 8);
      *reinterpret_cast<uint4 *>(stored) = values;
    } else if (has) {
      values = *reinterpret_cast<const uint4 *>(stored);
    }
    const float inverse = inverse_norm<Element, kLanes>(values);
    const TensorView &norms = a.cache.inverse_norms[view], &screens = a.cache.screens[view];
    if (inside && chunk == 0) static_cast<float *>(norms.data)[at.offset(norms, head)] = inverse;
    if (a.cache.screen == Screen::kNone) continue;
    const KeyPlace block{at.entry, at.row / kScreenedKeys};
    auto *images = reinterpret_cast<uint8_t *>(static_cast<uint32_t *>(screens.data) + block.offset(screens, head));
    if (a.cache.screen == Screen::kInt8)
      store_image<Element, kDim, Screen::kInt8>(images, inside, at.row % kScreenedKeys, chunk, values, inverse);
    else
      store_image<Element, kDim, Screen::kInt4>(images, inside, at.row % kScreenedKeys, chunk, values, inverse);
  }
  if (!inside || a.new_value.data == nullptr) return;
  const TensorView &value = a.cache.value;
  const auto *source = static_cast<const uint16_t *>(a.new_value.row(batch, head, row, 2));
  auto *target = static_cast<uint16_t *>(value.data) + at.offset(value, head);
  for (int channel = chunk * 8; channel < a.value_dim; channel += kDim)
    *reinterpret_cast<uint4 *>(target + channel) = *reinterpret_cast<const uint4 *>(source + channel);
}

}  // namespace sieve::threshold_differential
