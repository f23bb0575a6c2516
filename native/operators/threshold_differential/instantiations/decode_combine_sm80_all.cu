#include "operators/threshold_differential/append.h"
#include "operators/threshold_differential/decode_launch.h"

namespace sieve::threshold_differential {

namespace {

// The launch may begin before the kernel ahead has ended, if the code waits for it: code of an older virtual
// architecture has no such wait.
template <typename Element, int kChannels>
cudaError_t combine(const DecodePlan &plan, cudaStream_t stream) {
  const auto kernel = decode_combine<Element, kChannels, false>;
  cudaFuncAttributes code{};
  if (const cudaError_t error = cudaFuncGetAttributes(&code, kernel); error != cudaSuccess) return error;
  DecodeOutput result{};
  result.output = plan.output;
  result.output_type = plan.output_type;
  result.partial_outputs = plan.partial_outputs;
  result.value_dim = plan.value_dim;
  result.splits = plan.splits * kDecodeWarps;
  cudaLaunchAttribute overlap{};
  overlap.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  overlap.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t launch{};
  launch.gridDim = dim3(static_cast<unsigned>(plan.problem.batch * plan.problem.query_heads * plan.problem.queries));
  launch.blockDim = dim3(kCombineWarps * 32);
  launch.stream = stream;
  launch.attrs = &overlap;
  launch.numAttrs = code.ptxVersion >= 90 ? 1 : 0;
  return cudaLaunchKernelEx(&launch, kernel, plan.problem, result);
}

__global__ void zero_survivors(const __grid_constant__ ProblemView problem,
                               const __grid_constant__ TensorView survivors) {
  const int place = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (place >= problem.batch * problem.query_heads * problem.queries) return;
  const int query = place % problem.queries, head = place / problem.queries % problem.query_heads;
  *static_cast<int32_t *>(survivors.row(place / problem.queries / problem.query_heads, head, query, 4)) = 0;
}

template <typename Element, int kDim>
int launch_append(const AppendPlan &plan, cudaStream_t stream) {
  constexpr int64_t kKeys = kAppendThreads / (kDim / 8);  // of a block
  const int64_t keys = static_cast<int64_t>(plan.batch) * plan.key_heads * plan.rows;
  append<Element, kDim><<<static_cast<unsigned>((keys + kKeys - 1) / kKeys), kAppendThreads, 0, stream>>>(plan);
  return cudaGetLastError();
}

int launch_append(const AppendPlan &plan, void *stream) {
  const auto s = static_cast<cudaStream_t>(stream);
  if (screened_dim(plan.head_dim) == 64)
    return plan.is_bfloat16 ? launch_append<__nv_bfloat16, 64>(plan, s) : launch_append<__half, 64>(plan, s);
  return plan.is_bfloat16 ? launch_append<__nv_bfloat16, 128>(plan, s) : launch_append<__half, 128>(plan, s);
}

}  // namespace

AppendLaunch append_launch() {
  return launch_append;
}

cudaError_t clear_survivors(const DecodePlan &plan, cudaStream_t stream) {
  const int rows = plan.problem.batch * plan.problem.query_heads * plan.problem.queries;
  for (const TensorView &survivors : plan.survivors) {
    if (survivors.data == nullptr) continue;
    zero_survivors<<<static_cast<unsigned>((rows + 127) / 128), 128, 0, stream>>>(plan.problem, survivors);
    if (const cudaError_t error = cudaGetLastError(); error != cudaSuccess) return error;
  }
  return cudaSuccess;
}

cudaError_t launch_decode_combine(const DecodePlan &plan, cudaStream_t stream) {
  if (plan.value_dim <= 64)
    return plan.is_bfloat16 ? combine<__nv_bfloat16, 64>(plan, stream) : combine<__half, 64>(plan, stream);
  return plan.is_bfloat16 ? combine<__nv_bfloat16, 128>(plan, stream) : combine<__half, 128>(plan, stream);
}

}  // namespace sieve::threshold_differential
