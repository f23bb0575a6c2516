// Checks of the entry points of softmax attention that need no device, for abi_test.cpp.
#include <cmath>
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

sieve_tensor row_values() {
  return tensor(1, 4, 100, 1, SIEVE_DTYPE_FLOAT32);
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
  sieve_softmax_forward_arguments arguments{};
  Forward() {
    arguments.struct_size = sizeof arguments;
    arguments.query = tensor(1, 4, 100, 64);
    arguments.key = tensor(1, 2, 130, 64);
    arguments.value = tensor(1, 2, 130, 32);
    arguments.output = tensor(1, 4, 100, 32);
    arguments.lse = row_values();
  }
  int32_t workspace(uint64_t *bytes) const {
    return sieve_softmax_forward_workspace(context, &problem, &arguments, bytes);
  }
};

struct Backward {
  sieve_attention_problem problem = valid_problem();
  sieve_softmax_backward_arguments arguments{};
  Backward() {
    const Forward forward;
    arguments.struct_size = sizeof arguments;
    arguments.query = arguments.query_gradient = forward.arguments.query;
    arguments.key = arguments.key_gradient = forward.arguments.key;
    arguments.value = arguments.value_gradient = forward.arguments.value;
    arguments.output = arguments.output_gradient = forward.arguments.output;
    arguments.lse = forward.arguments.lse;
  }
  int32_t workspace(uint64_t *bytes) const {
    return sieve_softmax_backward_workspace(context, &problem, &arguments, bytes);
  }
};

struct Decode {
  sieve_attention_problem problem = valid_problem();
  sieve_softmax_decode_arguments arguments{};
  Decode() {
    arguments.struct_size = sizeof arguments;
    arguments.query = tensor(3, 8, 2, 64);
    arguments.key = arguments.value = tensor(3, 2, 4096, 64);
    arguments.output = arguments.query;
  }
  void make_paged() {
    arguments.key = arguments.value = tensor(50, 2, 64, 64);
    arguments.page_table = reinterpret_cast<const int32_t *>(0x1000);
    arguments.page_table_width = 64;
  }
  int32_t workspace(uint64_t *bytes) const {
    return sieve_softmax_decode_workspace(context, &problem, &arguments, bytes);
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
  REFUSES(Forward, kInvalid, c.problem.struct_size = 8, "problem.struct_size is 8", "allowed");
  REFUSES(Forward, kInvalid, c.arguments.struct_size = 8, "arguments.struct_size is 8", "allowed");
  REFUSES(Forward, kInvalid, c.arguments.reserved = 1, "arguments.reserved is 1", "allowed: 0");
  REFUSES(Forward, kInvalid, c.arguments.query.data = nullptr, "query.data is NULL", "allowed");
  REFUSES(Forward, kUnsupported, c.arguments.query.dtype = SIEVE_DTYPE_FLOAT32, "query.dtype is float32",
          "allowed: float16, bfloat16");
  REFUSES(Forward, kInvalid, c.arguments.key.sizes[3] = 32, "key has shape [1, 2, 130, 32]",
          "allowed: [1, any, any, 64]");
  REFUSES(Forward, kInvalid, c.arguments.key.sizes[1] = 3, "key has 3 heads", "allowed: a divisor of the 4");
  REFUSES(Forward, kInvalid, c.arguments.key.dtype = SIEVE_DTYPE_FLOAT16, "key.dtype is float16", "allowed: bfloat16");
  REFUSES(Forward, kInvalid, c.arguments.value.sizes[2] = 129, "value has shape", "allowed: [1, 2, 130, any]");
  REFUSES(Forward, kInvalid, c.arguments.value.strides[2] = 33, "value.strides[2] is 33", "allowed: a multiple of 8");
  REFUSES(Forward, kInvalid, c.arguments.output = tensor(1, 4, 100, 64), "output has shape",
          "allowed: [1, 4, 100, 32]");
  REFUSES(Forward, kInvalid, c.arguments.output.dtype = SIEVE_DTYPE_FLOAT16, "output.dtype is float16",
          "allowed: bfloat16");
  REFUSES(Forward, kInvalid, c.arguments.output.strides[1] = 0, "output.strides[1] is 0", "allowed: 1 and larger");
  REFUSES(Forward, kInvalid, c.arguments.lse.sizes[2] = 99, "lse has shape", "allowed: [1, 4, 100, 1]");
  REFUSES(Forward, kInvalid, c.arguments.lse.dtype = SIEVE_DTYPE_BFLOAT16, "lse.dtype is bfloat16", "allowed: float32");
  REFUSES(Forward, kInvalid, c.arguments.lse.strides[1] = 0, "lse.strides[1] is 0", "allowed: 1 and larger");
}

void test_problem_refusals() {
  REFUSES(Forward, kInvalid, c.problem.causal = 2, "problem.causal is 2", "allowed: 0 to 1");
  REFUSES(Forward, kInvalid, c.problem.scale = -1, "problem.scale is -1", "allowed: larger than 0", "before scaling");
  REFUSES(Forward, kInvalid, c.problem.scale = kNaN, "problem.scale is nan", "allowed: a finite number");
  REFUSES(Forward, kInvalid, c.problem.scale = HUGE_VALF, "problem.scale is inf", "allowed: a finite number");
  REFUSES(Forward, kInvalid, c.problem.row_factor = 4, "problem.row_factor is 4", "allowed: 0 to 3");
  REFUSES(Forward, kInvalid, c.problem.row_first.value = 1, "problem.row_first is given", "allowed: zero", "ssmax");
  REFUSES(Forward, kInvalid, (c.problem.row_factor = SIEVE_ROW_FACTOR_SSMAX, c.problem.row_first.value = kNaN),
          "problem.row_first.value is nan", "allowed: a finite number");
  REFUSES(Forward, kInvalid, (c.problem.row_factor = SIEVE_ROW_FACTOR_SSMAX, c.problem.row_second.value = 1),
          "problem.row_second is given", "allowed: zero", "asentmax");
  REFUSES(Forward, kInvalid, (c.problem.row_factor = SIEVE_ROW_FACTOR_ASENTMAX, c.problem.row_second.head_stride = 1),
          "problem.row_second.head_stride is 1", "allowed: 0");
  REFUSES(Forward, kInvalid, c.problem.row_factors = row_values(), "problem.row_factors is given", "vector");
  REFUSES(Forward, kInvalid, c.problem.row_factor = SIEVE_ROW_FACTOR_VECTOR, "problem.row_factors.data is NULL",
          "allowed: device memory of shape [1, 4, 100, 1]");
  REFUSES(Forward, kInvalid,
          (c.problem.row_factor = SIEVE_ROW_FACTOR_VECTOR, c.problem.row_factors = tensor(1, 4, 100, 1)),
          "problem.row_factors.dtype is bfloat16", "allowed: float32");
  REFUSES(Forward, kUnsupported, c.problem.alibi_slopes = some_floats(), "problem.alibi_slopes is given",
          "allowed: NULL", "distance bias");
}

void test_backward_refusals() {
  REFUSES(Backward, kInvalid, c.arguments.reserved = 1, "arguments.reserved is 1", "allowed: 0");
  REFUSES(Backward, kUnsupported, c.problem.norm = SIEVE_NORM_RMS, "problem.norm is 1", "allowed: 0", "backward");
  REFUSES(Backward, kInvalid, c.problem.scale = -1, "problem.scale is -1", "allowed");
  REFUSES(Backward, kInvalid, c.arguments.output.data = nullptr, "output.data is NULL", "allowed");
  REFUSES(Backward, kInvalid, c.arguments.output.dtype = SIEVE_DTYPE_FLOAT16, "output.dtype is float16",
          "allowed: bfloat16");
  REFUSES(Backward, kInvalid, c.arguments.lse.data = nullptr, "lse.data is NULL", "allowed");
  REFUSES(Backward, kInvalid, c.arguments.output_gradient.data = nullptr, "output_gradient.data is NULL", "allowed");
  REFUSES(Backward, kInvalid, c.arguments.output_gradient.dtype = SIEVE_DTYPE_FLOAT32,
          "output_gradient.dtype is float32", "allowed: bfloat16");
  REFUSES(Backward, kInvalid, c.arguments.query_gradient.sizes[3] = 32, "query_gradient has shape",
          "allowed: [1, 4, 100, 64]");
  REFUSES(Backward, kInvalid, c.arguments.key_gradient.sizes[1] = 4, "key_gradient has shape",
          "allowed: [1, 2, 130, 64]");
  REFUSES(Backward, kInvalid, c.arguments.value_gradient.dtype = SIEVE_DTYPE_FLOAT16, "value_gradient.dtype is float16",
          "allowed: bfloat16");
  REFUSES(Backward, kInvalid, c.arguments.key_gradient.strides[1] = 0, "key_gradient.strides[1] is 0",
          "allowed: 1 and larger");
  REFUSES(Backward, kInvalid, c.arguments.row_factor_gradient = row_values(), "row_factor_gradient is given",
          "no row factor");
  REFUSES(Backward, kInvalid, c.arguments.gate_gradient = row_values(), "gate_gradient is given", "no gate");
  REFUSES(Backward, kInvalid, (c.problem.gate = row_values(), c.arguments.gate_gradient = tensor(1, 4, 100, 1)),
          "gate_gradient.dtype is bfloat16", "allowed: float32");
  REFUSES(Backward, kInvalid, c.arguments.row_first_gradient = some_floats(), "row_first_gradient is given", "ssmax");
  REFUSES(Backward, kInvalid,
          (c.problem.row_factor = SIEVE_ROW_FACTOR_SSMAX, c.arguments.row_second_gradient = some_floats()),
          "row_second_gradient is given", "asentmax");
  REFUSES(Backward, kInvalid,
          (c.arguments.query_gradient.data = c.arguments.key_gradient.data = c.arguments.value_gradient.data = nullptr),
          "query_gradient and all other gradients are absent", "at least one");
}

void test_decode_refusals() {
  REFUSES(Decode, kInvalid, c.arguments.splits = -1, "splits is -1", "allowed: 0 to 1024");
  REFUSES(Decode, kInvalid, c.arguments.key.sizes[0] = 2, "key has shape [2, 2, 4096, 64]",
          "allowed: [3, any, any, 64]");
  REFUSES(Decode, kInvalid, c.arguments.page_table_width = 5, "page_table_width is 5", "allowed: 0 to 0");
  REFUSES(Decode, kUnsupported,
          (c.make_paged(), c.arguments.key.sizes[2] = c.arguments.value.sizes[2] = 24,
           c.arguments.key.strides[1] = c.arguments.value.strides[1] = 24 * 64),
          "key has pages of 24 keys", "allowed: a multiple of 16");
  REFUSES(Decode, kInvalid, (c.make_paged(), c.arguments.page_table_width = 0), "page_table_width is 0",
          "allowed: 1 to");
  REFUSES(Decode, kInvalid, (c.make_paged(), c.arguments.value.sizes[0] = 49), "value has shape [49, 2, 64, 64]",
          "allowed: [50, 2, 64, any]");
  REFUSES(Decode, kInvalid, c.arguments.query = c.arguments.output = tensor(3, 8, 17, 64),
          "query has 17 rows of 4 heads a key head", "at most 64");
  REFUSES(Decode, kInvalid, c.problem.query_starts = c.problem.key_starts = reinterpret_cast<const int32_t *>(0x1000),
          "problem.query_starts", "decode has no packed sequences");
  REFUSES(Decode, kInvalid, c.arguments.output.sizes[3] = 32, "output has shape", "allowed: [3, 8, 2, 64]");
  REFUSES(Decode, kInvalid, c.arguments.lse = row_values(), "lse has shape", "allowed: [3, 8, 2, 1]");
}

// The first kernel of a direction, or null: a build may have none.
bool has_kernels(int32_t direction) {
  int32_t count = 0;
  CHECK(sieve_kernel_count(&count) == SIEVE_STATUS_OK);
  for (int32_t i = 0; i < count; ++i) {
    const KernelDescription &kernel = kernel_at(i);
    if (kernel.operation == SIEVE_OPERATION_SOFTMAX && kernel.direction == direction) return true;
  }
  return false;
}

void test_forward_plan() {
  if (!has_kernels(SIEVE_DIRECTION_FORWARD)) return;
  Forward call;
  uint64_t bytes = 0;
  call.problem.path = SIEVE_PATH_GENERIC;
  CHECK(call.workspace(&bytes) == SIEVE_STATUS_OK);
  CHECK(bytes == 0);
  if (SIEVE_WITH_SM90) {
    call.problem.path = SIEVE_PATH_AUTOMATIC;
    CHECK(call.workspace(&bytes) == SIEVE_STATUS_OK);
    CHECK(bytes == 256);  // the counter of tiles
    CHECK_FAILURE(sieve_softmax_forward(context, &call.problem, &call.arguments, nullptr, 0, nullptr), kInvalid,
                  "workspace is NULL");
    call.arguments.key.strides[1] = 0;
    CHECK(call.workspace(&bytes) == SIEVE_STATUS_OK);
    CHECK(bytes == 0);  // a repeating tensor takes the generic path
    call.problem.path = SIEVE_PATH_HOPPER;
    CHECK_FAILURE(call.workspace(&bytes), kInvalid, "key has a stride of 0", "positive strides");
  }
  REFUSES(Forward, kUnsupported, (c.arguments.query = tensor(1, 4, 100, 80), c.arguments.key = tensor(1, 2, 130, 80)),
          "head_dim 80", "nearest supported is softmax forward");
}

void test_backward_plan() {
  if (!has_kernels(SIEVE_DIRECTION_BACKWARD)) return;
  Backward call;
  uint64_t whole = 0, packed = 0;
  CHECK(call.workspace(&whole) == SIEVE_STATUS_OK);
  call.problem.query_starts = call.problem.key_starts = reinterpret_cast<const int32_t *>(0x1000);
  call.problem.sequence_count = 3;
  call.problem.longest_query = 90;
  CHECK(call.workspace(&packed) == SIEVE_STATUS_OK);
  CHECK(packed > 2 * whole);  // 100 rows in three sequences touch three tiles, in one sequence one
}

void test_decode_plan() {
  if (!has_kernels(SIEVE_DIRECTION_DECODE)) return;
  Decode call;
  uint64_t bytes = 0;
  call.arguments.splits = 1;
  CHECK(call.workspace(&bytes) == SIEVE_STATUS_OK);
  CHECK(bytes == 0);
  call.arguments.splits = 4;  // 4 x 3 x 8 x 2 rows of 64 channels, and one float each
  CHECK(call.workspace(&bytes) == SIEVE_STATUS_OK);
  CHECK(bytes == 4 * 48 * 64 * 4 + 4 * 48 * 4);
  call.make_paged();
  CHECK(call.workspace(&bytes) == SIEVE_STATUS_OK);
  CHECK(bytes == 4 * 48 * 64 * 4 + 4 * 48 * 4);
}

}  // namespace

void test_softmax(const sieve_context *device) {
  context = device;
  test_forward_refusals();
  test_problem_refusals();
  test_backward_refusals();
  test_decode_refusals();
  test_forward_plan();
  test_backward_plan();
  test_decode_plan();
}

}  // namespace sieve::test
