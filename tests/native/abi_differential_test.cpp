// Checks of the entry points of differential attention that need no device, for abi_test.cpp.
#include <limits>

#include "abi/context.h"
#include "abi/kernel_table.h"
#include "tests/native/support/check.h"

namespace sieve::test {

namespace {

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr int32_t kInvalid = SIEVE_STATUS_INVALID_ARGUMENT, kUnsupported = SIEVE_STATUS_UNSUPPORTED;

const sieve_context *context;

// Memory that is never touched: only sizes and pointers are looked at.
sieve_tensor tensor(int64_t batch, int64_t heads, int64_t rows, int64_t channels,
                    int32_t dtype = SIEVE_DTYPE_BFLOAT16) {
  return {reinterpret_cast<void *>(0x1000),
          {batch, heads, rows, channels},
          {heads * rows * channels, rows * channels, channels, 1},
          dtype,
          0};
}

sieve_tensor row_values(int64_t heads) {
  return tensor(1, heads, 100, 1, SIEVE_DTYPE_FLOAT32);
}

float *some_floats() {
  return reinterpret_cast<float *>(0x1000);
}

sieve_attention_problem valid_problem() {
  sieve_attention_problem problem{};
  problem.struct_size = sizeof problem;
  problem.causal = 1;
  problem.output_scale = 1;
  return problem;
}

struct Forward {
  sieve_attention_problem problem = valid_problem();
  sieve_diff_forward_arguments arguments{};
  Forward() {
    arguments.struct_size = sizeof arguments;
    arguments.query1 = arguments.query2 = tensor(1, 4, 100, 64);
    arguments.key1 = arguments.key2 = tensor(1, 2, 130, 64);
    arguments.value = tensor(1, 2, 130, 128);
    arguments.output = tensor(1, 4, 100, 128);
    arguments.lambda.value = 0.3f;
  }
  int32_t workspace(uint64_t *bytes) const {
    return sieve_diff_forward_workspace(context, &problem, &arguments, bytes);
  }
};

struct Backward {
  sieve_attention_problem problem = valid_problem();
  sieve_diff_backward_arguments arguments{};
  Backward() {
    const Forward forward;
    arguments.struct_size = sizeof arguments;
    arguments.query1 = arguments.query2 = arguments.query1_gradient = forward.arguments.query1;
    arguments.key1 = arguments.key2 = forward.arguments.key1;
    arguments.value = arguments.value_gradient = forward.arguments.value;
    arguments.lse1 = arguments.lse2 = row_values(4);
    arguments.output1 = arguments.output2 = arguments.output_gradient = forward.arguments.output;
    arguments.lambda = forward.arguments.lambda;
  }
  int32_t workspace(uint64_t *bytes) const {
    return sieve_diff_backward_workspace(context, &problem, &arguments, bytes);
  }
};

struct Decode {
  sieve_attention_problem problem = valid_problem();
  sieve_diff_decode_arguments arguments{};
  Decode() {
    arguments.struct_size = sizeof arguments;
    arguments.query1 = arguments.query2 = arguments.output = tensor(3, 8, 2, 64);
    arguments.key1 = arguments.key2 = arguments.value = tensor(3, 2, 4096, 64);
  }
  int32_t workspace(uint64_t *bytes) const { return sieve_diff_decode_workspace(context, &problem, &arguments, bytes); }
};

// Groups of two signals and a noise head; the noise of the last lies on another key head.
struct GroupedForward {
  sieve_attention_problem problem = valid_problem();
  sieve_diff_v2_forward_arguments arguments{};
  GroupedForward() {
    arguments.struct_size = sizeof arguments;
    arguments.signals = 2;
    arguments.query = tensor(1, 6, 100, 64);
    arguments.key = arguments.value = tensor(1, 3, 130, 64);
    arguments.lambda_logit = row_values(4);
    arguments.output = tensor(1, 4, 100, 64);
  }
  int32_t workspace(uint64_t *bytes) const {
    return sieve_diff_v2_forward_workspace(context, &problem, &arguments, bytes);
  }
};

struct GroupedBackward {
  sieve_attention_problem problem = valid_problem();
  sieve_diff_v2_backward_arguments arguments{};
  GroupedBackward() {
    const GroupedForward forward;
    arguments.struct_size = sizeof arguments;
    arguments.signals = 2;
    arguments.query = arguments.query_gradient = arguments.outputs = forward.arguments.query;
    arguments.key = arguments.value = forward.arguments.key;
    arguments.lambda_logit = forward.arguments.lambda_logit;
    arguments.lse = row_values(6);
    arguments.output_gradient = forward.arguments.output;
  }
  int32_t workspace(uint64_t *bytes) const {
    return sieve_diff_v2_backward_workspace(context, &problem, &arguments, bytes);
  }
};

struct GroupedDecode {
  sieve_attention_problem problem = valid_problem();
  sieve_diff_v2_decode_arguments arguments{};
  GroupedDecode() {
    arguments.struct_size = sizeof arguments;
    arguments.signals = 1;
    arguments.query = tensor(3, 8, 2, 64);
    arguments.key = arguments.value = tensor(3, 2, 4096, 64);
    arguments.lambda_logit = tensor(3, 4, 2, 1, SIEVE_DTYPE_FLOAT32);
    arguments.output = tensor(3, 4, 2, 64);
  }
  int32_t workspace(uint64_t *bytes) const {
    return sieve_diff_v2_decode_workspace(context, &problem, &arguments, bytes);
  }
};

// Applies a change to a valid call and expects the refusal to name the argument, its value and what is allowed.
template <class Call, typename Change, typename... Texts>
void refuses(int line, int32_t status, Change change, Texts... texts) {
  Call call;
  change(call);
  uint64_t bytes = 77;
  check_failure(call.workspace(&bytes), status, __FILE__, line, texts...);
  check(bytes == 77, "a failing call writes nothing", __FILE__, line);
}
#define REFUSES(CALL, status, change, ...) \
  refuses<CALL>(                           \
      __LINE__, status, [](CALL &c) { change; }, __VA_ARGS__)

void test_forward_refusals() {
  REFUSES(Forward, kInvalid, c.arguments.struct_size = 8, "arguments.struct_size is 8", "allowed");
  REFUSES(Forward, kInvalid, c.arguments.reserved = 1, "arguments.reserved is 1", "allowed: 0");
  REFUSES(Forward, kInvalid, c.arguments.query2.data = nullptr, "query2.data is NULL", "allowed");
  REFUSES(Forward, kInvalid, c.arguments.query2.sizes[2] = 99, "query2 has shape", "allowed: [1, 4, 100, 64]");
  REFUSES(Forward, kInvalid, c.arguments.key2.dtype = SIEVE_DTYPE_FLOAT16, "key2.dtype is float16",
          "allowed: bfloat16");
  REFUSES(Forward, kInvalid, c.arguments.key2.sizes[1] = 4, "key2 has shape", "allowed: [1, 2, 130, 64]");
  REFUSES(Forward, kInvalid, c.arguments.output = tensor(1, 4, 100, 64), "output has shape",
          "allowed: [1, 4, 100, 128]");
  REFUSES(Forward, kInvalid, c.arguments.lse2 = row_values(3), "lse2 has shape", "allowed: [1, 4, 100, 1]");
  REFUSES(Forward, kInvalid, c.arguments.output1 = tensor(1, 4, 100, 128), "output2.data is NULL",
          "absent exactly where output1 is");
  REFUSES(Forward, kInvalid, c.arguments.output2 = tensor(1, 4, 100, 128), "output2.data is given",
          "absent exactly where output1 is");
  REFUSES(
      Forward, kInvalid,
      (c.arguments.output1 = tensor(1, 4, 100, 128), c.arguments.output2 = tensor(1, 4, 100, 128, SIEVE_DTYPE_FLOAT32)),
      "output2.dtype is float32", "allowed: bfloat16");
  REFUSES(Forward, kInvalid, c.arguments.lambda.value = kNaN, "lambda.value is nan", "allowed: a finite number");
  REFUSES(Forward, kInvalid, (c.arguments.lambda.device = some_floats(), c.arguments.lambda.head_stride = 2),
          "lambda.head_stride is 2", "allowed: 0 to 1");
  REFUSES(Forward, kInvalid, c.problem.row_factor = SIEVE_ROW_FACTOR_SSMAX, "problem.row_factor is 1",
          "allowed: 0 to 0");
  REFUSES(Forward, kInvalid, c.problem.row_first.value = 1, "problem.row_first", "diff has no row factor");
  REFUSES(Forward, kInvalid, c.problem.row_factors = row_values(4), "problem.row_factors is given",
          "diff has no row factor");
  REFUSES(Forward, kUnsupported, c.problem.alibi_slopes = some_floats(), "problem.alibi_slopes is given",
          "allowed: NULL", "diff");
  REFUSES(Forward, kInvalid, c.problem.scale = -1, "problem.scale is -1", "allowed: larger than 0");
  REFUSES(Forward, kInvalid, c.problem.gate = row_values(2), "problem.gate has shape", "allowed: [1, 4, 100, 1]");
}

void test_backward_refusals() {
  REFUSES(Backward, kInvalid, c.arguments.lse1.data = nullptr, "lse1.data is NULL", "allowed");
  REFUSES(Backward, kInvalid, c.arguments.output2.data = nullptr, "output2.data is NULL", "allowed");
  REFUSES(Backward, kInvalid, c.arguments.output2.dtype = SIEVE_DTYPE_FLOAT32, "output2.dtype is float32",
          "allowed: bfloat16");
  REFUSES(Backward, kInvalid, c.arguments.output_gradient.dtype = SIEVE_DTYPE_FLOAT32,
          "output_gradient.dtype is float32", "allowed: bfloat16");
  REFUSES(Backward, kInvalid, c.arguments.key2_gradient = tensor(1, 4, 130, 64), "key2_gradient has shape",
          "allowed: [1, 2, 130, 64]");
  REFUSES(Backward, kInvalid, c.arguments.gate_gradient = row_values(4), "gate_gradient is given", "no gate");
  REFUSES(Backward, kInvalid, c.arguments.gain_gradient = some_floats(), "gain_gradient is given",
          "allowed: NULL without a norm");
  REFUSES(Backward, kInvalid, (c.arguments.query1_gradient.data = c.arguments.value_gradient.data = nullptr),
          "query1_gradient and all other gradients are absent", "at least one");
}

void test_decode_refusals() {
  REFUSES(Decode, kInvalid, c.arguments.splits = -1, "splits is -1", "allowed: 0 to 1024");
  REFUSES(Decode, kInvalid, c.arguments.key2.sizes[2] = 4095, "key2 has shape", "allowed: [3, 2, 4096, 64]");
  REFUSES(Decode, kInvalid, c.arguments.page_table_width = 5, "page_table_width is 5", "allowed: 0 to 0");
  REFUSES(Decode, kInvalid, c.arguments.query1 = c.arguments.query2 = c.arguments.output = tensor(3, 8, 17, 64),
          "query1 has 17 rows of 4 heads a key head", "at most 64");
}

void test_grouped_refusals() {
  REFUSES(GroupedForward, kInvalid, c.arguments.signals = 0, "signals is 0", "allowed: 1 to");
  REFUSES(GroupedForward, kInvalid, c.arguments.signals = 3, "query has 6 heads",
          "allowed: a multiple of signals + 1 = 4");
  REFUSES(GroupedForward, kInvalid, c.arguments.key.sizes[1] = 4, "key has 4 heads", "allowed: a divisor of the 6");
  REFUSES(GroupedForward, kInvalid, c.arguments.lambda_logit = row_values(6), "lambda_logit has shape",
          "allowed: [1, 4, 100, 1]");
  REFUSES(GroupedForward, kInvalid, c.arguments.output = tensor(1, 6, 100, 64), "output has shape",
          "allowed: [1, 4, 100, 64]");
  REFUSES(GroupedForward, kInvalid, c.arguments.outputs = tensor(1, 4, 100, 64), "outputs has shape",
          "allowed: [1, 6, 100, 64]");
  REFUSES(GroupedForward, kInvalid, c.arguments.lse = row_values(4), "lse has shape", "allowed: [1, 6, 100, 1]");
  REFUSES(GroupedForward, kInvalid, c.problem.gate = row_values(6), "problem.gate has shape",
          "allowed: [1, 4, 100, 1]");
  REFUSES(GroupedForward, kInvalid, c.problem.row_factors = row_values(4), "diff_v2 has no row factor");
  REFUSES(GroupedBackward, kInvalid, c.arguments.lambda_logit_gradient = row_values(6),
          "lambda_logit_gradient has shape", "allowed: [1, 4, 100, 1]");
  REFUSES(GroupedBackward, kInvalid, c.arguments.query_gradient.data = nullptr,
          "query_gradient and all other gradients are absent", "at least one");
  REFUSES(GroupedDecode, kInvalid, c.arguments.reserved = 1, "arguments.reserved is 1", "allowed: 0");
  REFUSES(GroupedDecode, kInvalid, c.arguments.signals = 2, "query has 8 heads",
          "allowed: a multiple of signals + 1 = 3");
}

bool has_kernels() {
  int32_t count = 0;
  CHECK(sieve_kernel_count(&count) == SIEVE_STATUS_OK);
  for (int32_t i = 0; i < count; ++i)
    if (kernel_at(i).operation == SIEVE_OPERATION_DIFF) return true;
  return false;
}

// Every direction has a plan; the outputs of the streams are workspace where the caller does not want them.
void test_plans() {
  if (!has_kernels()) return;
  Forward forward;
  forward.problem.path = SIEVE_PATH_GENERIC;
  uint64_t bytes = 0;
  CHECK(forward.workspace(&bytes) == SIEVE_STATUS_OK);
  CHECK(bytes == 2 * 4 * 100 * 128 * 4);
  forward.arguments.output1 = forward.arguments.output2 = tensor(1, 4, 100, 128, SIEVE_DTYPE_FLOAT32);
  CHECK(forward.workspace(&bytes) == SIEVE_STATUS_OK);
  CHECK(bytes == 0);
  CHECK(Backward().workspace(&bytes) == SIEVE_STATUS_OK);
  CHECK(Decode().workspace(&bytes) == SIEVE_STATUS_OK);
  CHECK(GroupedForward().workspace(&bytes) == SIEVE_STATUS_OK);
  CHECK(GroupedBackward().workspace(&bytes) == SIEVE_STATUS_OK);
  CHECK(GroupedDecode().workspace(&bytes) == SIEVE_STATUS_OK);
  REFUSES(Backward, kUnsupported,
          (c.arguments.value = c.arguments.value_gradient = tensor(1, 2, 130, 256),
           c.arguments.output1 = c.arguments.output2 = c.arguments.output_gradient = tensor(1, 4, 100, 256)),
          "diff backward", "value_dim 256", "nearest supported is diff backward");
}

}  // namespace

void test_differential(const sieve_context *device) {
  context = device;
  test_forward_refusals();
  test_backward_refusals();
  test_decode_refusals();
  test_grouped_refusals();
  test_plans();
}

}  // namespace sieve::test
