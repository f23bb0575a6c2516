#include "operators/threshold_differential/decode_problem.h"

namespace sieve::threshold_differential {

#if SIEVE_WITH_CUDA

int decode_sm80_bf16_d64(const DecodePlan &plan, void *stream);
int decode_sm80_bf16_d128(const DecodePlan &plan, void *stream);
int decode_sm80_fp16_d64(const DecodePlan &plan, void *stream);
int decode_sm80_fp16_d128(const DecodePlan &plan, void *stream);

namespace {

// One kernel of a type serves every pair of dims up to its own; values are read channel by channel where they are
// needed at all.
constexpr int32_t kDims[] = {32, 64, 96, 128};
constexpr int32_t kTypes[] = {SIEVE_DTYPE_BFLOAT16, SIEVE_DTYPE_FLOAT16};

struct List {
  DecodeKernel kernels[2 * 4 * 4] = {};
  int count = 0;
};

constexpr List list_kernels() {
  List list;
  for (const int32_t type : kTypes)
    for (const int32_t head_dim : kDims)
      for (const int32_t value_dim : kDims) {
        const bool bfloat16 = type == SIEVE_DTYPE_BFLOAT16, narrow = screened_dim(head_dim) == 64;
        list.kernels[list.count++] = {
            {SIEVE_OPERATION_TDA, SIEVE_DIRECTION_DECODE, SIEVE_PATH_GENERIC, type, head_dim, value_dim, 80},
            bfloat16 ? (narrow ? decode_sm80_bf16_d64 : decode_sm80_bf16_d128)
                     : (narrow ? decode_sm80_fp16_d64 : decode_sm80_fp16_d128)};
      }
  return list;
}
constexpr List kKernels = list_kernels();

}  // namespace

DecodeKernels decode_kernels() {
  return {kKernels.kernels, kKernels.count};
}

#else

DecodeKernels decode_kernels() {
  return {nullptr, 0};
}

AppendLaunch append_launch() {
  return nullptr;
}

#endif

}  // namespace sieve::threshold_differential
