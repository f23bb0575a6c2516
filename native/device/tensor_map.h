// Descriptors by which the copy engine reads a tensor: made on the host through the driver, passed to kernels by value.
#pragma once

#include <cuda.h>
#include <cuda_runtime_api.h>

#include <cstdint>

#include "device/problem.h"

namespace sieve {

// Columns of a box: 64 elements of 16 bits are the 128 bytes over which the swizzle permutes.
constexpr int kPanel = 64;

struct TensorMapShape {
  int64_t batch, heads, rows, channels;
};

// How elements lie: boxes have `box_channels` of them a row, over which the swizzle permutes.
struct TensorMapElement {
  CUtensorMapDataType type;
  int bytes;
  int box_channels;
  CUtensorMapSwizzle swizzle;
};

constexpr TensorMapElement kBfloat16Element{CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 2, kPanel, CU_TENSOR_MAP_SWIZZLE_128B};
constexpr TensorMapElement kFloat16Element{CU_TENSOR_MAP_DATA_TYPE_FLOAT16, 2, kPanel, CU_TENSOR_MAP_SWIZZLE_128B};
// Bytes: a row of 64 or 128 in one piece.
constexpr TensorMapElement byte_element(int channels) {
  return {CU_TENSOR_MAP_DATA_TYPE_UINT8, 1, channels,
          channels == 64 ? CU_TENSOR_MAP_SWIZZLE_64B : CU_TENSOR_MAP_SWIZZLE_128B};
}

// Describes boxes of `box_rows` rows of one head. Rows and channels outside the tensor read as zero. `promotion` is the
// piece of memory that the level-2 cache fetches where it misses: tiles that other thread blocks read soon gain by
// large pieces, a stream that is read once loses by them.
inline cudaError_t encode_tensor_map(CUtensorMap *map, const TensorView &view, const TensorMapShape &shape,
                                     int box_rows, const TensorMapElement &element,
                                     CUtensorMapL2promotion promotion = CU_TENSOR_MAP_L2_PROMOTION_L2_256B) {
  using Encode = CUresult (*)(CUtensorMap *, CUtensorMapDataType, cuuint32_t, void *, const cuuint64_t *,
                              const cuuint64_t *, const cuuint32_t *, const cuuint32_t *, CUtensorMapInterleave,
                              CUtensorMapSwizzle, CUtensorMapL2promotion, CUtensorMapFloatOOBfill);
  static const Encode encode = [] {
    void *function = nullptr;
    cudaDriverEntryPointQueryResult found{};
    const cudaError_t error =
        cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000, cudaEnableDefault, &found);
    return error == cudaSuccess && found == cudaDriverEntryPointSuccess ? reinterpret_cast<Encode>(function) : nullptr;
  }();
  if (encode == nullptr) return cudaErrorNotSupported;
  const auto bytes = [&element](int64_t stride, int64_t size) {
    return static_cast<cuuint64_t>(size > 1 ? stride * element.bytes : 16);
  };
  const cuuint64_t sizes[4] = {static_cast<cuuint64_t>(shape.channels), static_cast<cuuint64_t>(shape.rows),
                               static_cast<cuuint64_t>(shape.heads), static_cast<cuuint64_t>(shape.batch)};
  const cuuint64_t strides[3] = {bytes(view.row_stride, shape.rows), bytes(view.head_stride, shape.heads),
                                 bytes(view.batch_stride, shape.batch)};
  const cuuint32_t box[4] = {static_cast<cuuint32_t>(element.box_channels), static_cast<cuuint32_t>(box_rows), 1, 1};
  const cuuint32_t steps[4] = {1, 1, 1, 1};
  const CUresult result =
      encode(map, element.type, 4, view.data, sizes, strides, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE,
             element.swizzle, promotion, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  return result == CUDA_SUCCESS ? cudaSuccess : cudaErrorInvalidValue;
}

inline cudaError_t encode_tensor_map(CUtensorMap *map, const TensorView &view, const TensorMapShape &shape,
                                     int box_rows, bool is_bfloat16,
                                     CUtensorMapL2promotion promotion = CU_TENSOR_MAP_L2_PROMOTION_L2_256B) {
  return encode_tensor_map(map, view, shape, box_rows, is_bfloat16 ? kBfloat16Element : kFloat16Element, promotion);
}

}  // namespace sieve
