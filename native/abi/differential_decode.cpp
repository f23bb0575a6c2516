// Entry points of differential attention, decode, both versions: validate -> plan -> launch.
#include <array>

#include "abi/differential.h"
#include "abi/runtime.h"
#include "abi/softmax.h"
#include "device/decode_splits.h"

namespace sieve::differential {

namespace {

struct DecodeCall {
  DecodePlan plan;
  const Kernel<DecodePlan, softmax::DecodePlan> *kernel;
  uint64_t workspace_bytes;
};

struct StreamLses {
  NamedTensor lse[2];
};

StreamLses lses_of(const sieve_diff_decode_arguments &a) {
  return {{{"lse1", &a.lse1}, {"lse2", &a.lse2}}};
}

StreamLses lses_of(const sieve_diff_v2_decode_arguments &a) {
  return {{{"lse", &a.lse}}};
}

// The kernel that reads neighbouring keys as one of twice the channels; null where there is none or keys are apart.
template <class Arguments>
const softmax::Kernel<softmax::DecodePlan> *find_joined(const Arguments &a, const KernelDescription &streams,
                                                        const Dimensions &d) {
  if constexpr (requires { a.key2; }) {
    const auto strides = [](const sieve_tensor &t) { return std::array{t.strides[0], t.strides[1], t.strides[2]}; };
    const bool neighbours =
        static_cast<const char *>(a.key2.data) == static_cast<const char *>(a.key1.data) + d.head_dim * 2 &&
        strides(a.key1) == strides(a.key2);
    // The log-sum-exps of two heads side by side do not lie as those of two tensors.
    if (!neighbours || a.lse1.data != nullptr || a.lse2.data != nullptr) return nullptr;
    if (!softmax::few_rows(d.queries * 2 * (d.query_heads / d.key_heads))) return nullptr;
    const auto kernels = softmax::decode_kernels();
    for (int i = 0; i < kernels.count; ++i) {
      const KernelDescription &k = kernels.first[i].description;
      if (k.path == streams.path && k.dtype == streams.dtype && k.head_dim == 2 * d.head_dim &&
          k.value_dim == d.value_dim)
        return &kernels.first[i];
    }
  }
  return nullptr;
}

// Both streams as one attention of twice the heads.
void plan_joined(int32_t splits, const Dimensions &d, Workspace &carved, DecodePlan &plan) {
  softmax::DecodePlan &joined = plan.joined;
  joined = plan.stream[0];
  Dimensions wide = d;
  wide.query_heads *= 2;
  wide.head_dim *= 2;
  joined.problem.query_heads *= 2;
  joined.problem.group *= 2;
  joined.head_dim *= 2;
  joined.query = carve<uint16_t>(carved, d.batch, wide.query_heads, d.queries, wide.head_dim);
  softmax::plan_splits(*plan.joined_kernel, splits, wide, carved, joined);
  joined.output = carve<float>(carved, d.batch, wide.query_heads, d.queries, d.value_dim);
  joined.output_type = OutputType::kFloat32;
  for (int i = 0; i < 2; ++i) {
    plan.stream[i].output = joined.output;
    plan.stream[i].output.head_stride = 2 * joined.output.head_stride;
    plan.stream[i].output_type = OutputType::kFloat32;
  }
  if (plan.stream[1].output.data != nullptr)
    plan.stream[1].output.data = static_cast<float *>(plan.stream[1].output.data) + joined.output.head_stride;
}

// Everything that can be wrong is found here; `workspace` may be null when only the size is asked for.
template <class Arguments>
DecodeCall plan_decode(const sieve_context *context, const sieve_attention_problem *problem, const Arguments *arguments,
                       void *workspace) {
  const sieve_context &c = checked_context(context);
  const sieve_attention_problem p = versioned_copy("problem", problem);
  const Arguments a = versioned_copy("arguments", arguments);
  if constexpr (requires { a.reserved; }) require_zero("arguments.reserved", a.reserved);
  require_range("splits", a.splits, 0, kMostSplits);
  const Inputs inputs = inputs_of(a);
  DecodeCall result{};
  DecodePlan &plan = result.plan;
  softmax::DecodePlan &first = plan.stream[0];
  const Dimensions d =
      softmax::require_cache(inputs.query[0], inputs.key[0], inputs.value, a.page_table, a.page_table_width, first);
  require_second_stream(inputs);
  softmax::require_few_rows(p, inputs.query[0], d);
  const Call call = require_call(p, inputs, d);
  require_output({"output", &a.output}, inputs.dtype(), call.output);
  plan.subtraction = call.subtraction;
  plan.epilogue = call.epilogue;
  plan.output = view_of(a.output);
  plan.output_type = output_type_of(a.output);
  plan.stream[1] = first;  // pages
  const StreamLses lses = lses_of(a);
  for (int i = 0; i < inputs.streams; ++i) {
    softmax::DecodePlan &stream = plan.stream[i];
    plan_stream(c, inputs, call, i, stream);
    if (stream.page_table != nullptr) stream.key_rows = stream.page_size;
    if (lses.lse[i].tensor->data == nullptr) continue;
    require_row_values(lses.lse[i], d);
    require_positive_strides(lses.lse[i], "it is written");
    stream.lse = view_of(*lses.lse[i].tensor);
  }
  result.kernel = choose_kernel(decode_kernels(), c, inputs.operation, SIEVE_DIRECTION_DECODE, path_of(p, inputs),
                                inputs.dtype(), d);
  Workspace carved(workspace);
  plan.joined_kernel = find_joined(a, result.kernel->description, d);
  if (plan.joined_kernel != nullptr) {
    plan_joined(a.splits, d, carved, plan);
    result.workspace_bytes = carved.bytes();
    return result;
  }
  softmax::plan_splits(*result.kernel->streams, a.splits, d, carved, first);
  for (int i = 0; i < inputs.streams; ++i) {
    softmax::DecodePlan &stream = plan.stream[i];
    stream.splits = first.splits;
    stream.partial_outputs = first.partial_outputs;  // one launch after the other
    stream.partial_lses = first.partial_lses;
    stream.output = carve<float>(carved, d.batch, d.query_heads, d.queries, d.value_dim);
    stream.output_type = OutputType::kFloat32;
  }
  result.workspace_bytes = carved.bytes();
  return result;
}

template <class Arguments>
int32_t decode_workspace(const char *function, const sieve_context *context, const sieve_attention_problem *problem,
                         const Arguments *arguments, uint64_t *bytes) {
  return guarded(function, [&] {
    const DecodeCall call = plan_decode(context, problem, arguments, nullptr);
    require_pointer("bytes", bytes);
    *bytes = call.workspace_bytes;
  });
}

template <class Arguments>
int32_t decode(const char *function, const char *what, const sieve_context *context,
               const sieve_attention_problem *problem, const Arguments *arguments, void *workspace,
               uint64_t workspace_bytes, void *stream) {
  return guarded(function, [&] {
    const DecodeCall call = plan_decode(context, problem, arguments, workspace);
    require_workspace(workspace, workspace_bytes, call.workspace_bytes);
    const runtime::DeviceScope scope(context->device);
    runtime::check_launch(call.kernel->launch(*call.kernel, call.plan, stream), format("launching %s", what).c_str());
    log_launch(*context, what, call.plan.stream[0].problem, call.kernel->description);
  });
}

}  // namespace
}  // namespace sieve::differential

extern "C" {

int32_t sieve_diff_decode_workspace(const sieve_context *context, const sieve_attention_problem *problem,
                                    const sieve_diff_decode_arguments *arguments, uint64_t *bytes) {
  return sieve::differential::decode_workspace(__func__, context, problem, arguments, bytes);
}

int32_t sieve_diff_decode(const sieve_context *context, const sieve_attention_problem *problem,
                          const sieve_diff_decode_arguments *arguments, void *workspace, uint64_t workspace_bytes,
                          void *stream) {
  return sieve::differential::decode(__func__, "diff decode", context, problem, arguments, workspace, workspace_bytes,
                                     stream);
}

int32_t sieve_diff_v2_decode_workspace(const sieve_context *context, const sieve_attention_problem *problem,
                                       const sieve_diff_v2_decode_arguments *arguments, uint64_t *bytes) {
  return sieve::differential::decode_workspace(__func__, context, problem, arguments, bytes);
}

int32_t sieve_diff_v2_decode(const sieve_context *context, const sieve_attention_problem *problem,
                             const sieve_diff_v2_decode_arguments *arguments, void *workspace, uint64_t workspace_bytes,
                             void *stream) {
  return sieve::differential::decode(__func__, "diff_v2 decode", context, problem, arguments, workspace,
                                     workspace_bytes, stream);
}

}  // extern "C"
