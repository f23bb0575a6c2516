#include "device/decode_combine.h"

#include "operators/softmax/decode.h"

namespace sieve::softmax {

namespace {

// The launch may begin before the kernel ahead has ended, if the code waits for it: code of an older virtual
// architecture has no such wait.
template <typename Element, int kChannels>
cudaError_t combine(const ProblemView &problem, const DecodeOutput &result, cudaStream_t stream) {
  const auto kernel = decode_combine<Element, kChannels, true>;
  cudaFuncAttributes code{};
  if (const cudaError_t error = cudaFuncGetAttributes(&code, kernel); error != cudaSuccess) return error;
  cudaLaunchAttribute overlap{};
  overlap.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  overlap.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t launch{};
  launch.gridDim = dim3(static_cast<unsigned>(problem.batch * problem.query_heads * problem.queries));
  launch.blockDim = dim3(kCombineWarps * 32);
  launch.dynamicSmemBytes = static_cast<size_t>(result.splits) * sizeof(float);
  launch.stream = stream;
  launch.attrs = &overlap;
  launch.numAttrs = code.ptxVersion >= 90 ? 1 : 0;
  return cudaLaunchKernelEx(&launch, kernel, problem, result);
}

template <typename Element>
cudaError_t combine(const ProblemView &problem, const DecodeOutput &result, cudaStream_t stream) {
  if (result.value_dim <= 64) return combine<Element, 64>(problem, result, stream);
  if (result.value_dim <= 128) return combine<Element, 128>(problem, result, stream);
  return combine<Element, 256>(problem, result, stream);
}

}  // namespace

cudaError_t launch_decode_combine(const ProblemView &problem, const DecodeOutput &result, bool is_bfloat16,
                                  cudaStream_t stream) {
  return is_bfloat16 ? combine<__nv_bfloat16>(problem, result, stream) : combine<__half>(problem, result, stream);
}

}  // namespace sieve::softmax
