// Every check of the C ABI that needs no device: validation runs on a context that no device stands behind.
#include <cmath>
#include <limits>

#include "abi/context.h"
#include "tests/native/support/check.h"

namespace sieve::test {
void test_differential(const sieve_context *context);  // abi_differential_test.cpp
void test_softmax(const sieve_context *context);       // abi_softmax_test.cpp
void test_tda_backward(const sieve_context *context);  // abi_tda_backward_test.cpp
void test_tda_decode(const sieve_context *context);    // abi_tda_decode_test.cpp
}  // namespace sieve::test

namespace {

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

// A valid call on memory that is never touched: only sizes and pointers are looked at.
struct Call {
  sieve_attention_problem problem{};
  sieve_tda_forward_arguments arguments{};

  Call() {
    problem.struct_size = sizeof problem;
    problem.causal = 1;
    problem.output_scale = 1;
    arguments.struct_size = sizeof arguments;
    arguments.query1 = tensor(4, 100, 64);
    arguments.query2 = tensor(4, 100, 64);
    arguments.key1 = tensor(2, 130, 64);
    arguments.key2 = tensor(2, 130, 64);
    arguments.value = tensor(2, 130, 64);
    arguments.output = tensor(4, 100, 64);
    arguments.beta.value = 1;
    arguments.lambda.value = 0.5f;
    arguments.kappa = 1;
    arguments.power = 2;
  }

  static sieve_tensor tensor(int64_t heads, int64_t rows, int64_t channels, int32_t dtype = SIEVE_DTYPE_BFLOAT16) {
    return {reinterpret_cast<void *>(0x1000),
            {1, heads, rows, channels},
            {heads * rows * channels, rows * channels, channels, 1},
            dtype,
            0};
  }

  int32_t workspace(const sieve_context *context, uint64_t *bytes) const {
    return sieve_tda_forward_workspace(context, &problem, &arguments, bytes);
  }
};

sieve_context fake_context;

// Applies a change to a valid call and expects the refusal to name the argument, its value and what is allowed.
template <typename Change, typename... Texts>
void refuses(int line, int32_t status, Change change, Texts... texts) {
  Call call;
  change(call);
  uint64_t bytes = 77;
  sieve::test::check_failure(call.workspace(&fake_context, &bytes), status, __FILE__, line, texts...);
  sieve::test::check(bytes == 77, "a failing call writes nothing", __FILE__, line);
}
#define REFUSES(status, change, ...) \
  refuses(                           \
      __LINE__, status, [](Call &c) { change; }, __VA_ARGS__)

void test_refusals() {
  constexpr int32_t kInvalid = SIEVE_STATUS_INVALID_ARGUMENT;
  REFUSES(kInvalid, c.problem.struct_size = 8, "problem.struct_size is 8", "allowed");
  REFUSES(kInvalid, c.arguments.struct_size = 4000, "arguments.struct_size is 4000", "allowed");
  REFUSES(kInvalid, c.arguments.query1.data = nullptr, "query1.data is NULL", "allowed");
  REFUSES(kInvalid, c.arguments.query1.sizes[2] = 0, "query1 has shape [1, 4, any, 64]", "allowed");
  REFUSES(SIEVE_STATUS_UNSUPPORTED, c.arguments.query1.dtype = SIEVE_DTYPE_FLOAT32, "query1.dtype is float32",
          "allowed: float16, bfloat16");
  REFUSES(kInvalid, c.arguments.key1.sizes[3] = 32, "key1 has shape [1, 2, 130, 32]", "allowed: [1, any, any, 64]");
  REFUSES(kInvalid, c.arguments.key1.dtype = SIEVE_DTYPE_FLOAT16, "key1.dtype is float16", "allowed: bfloat16");
  REFUSES(kInvalid, (c.arguments.key1.sizes[1] = 3), "key1 has 3 heads", "allowed: a divisor of the 4 query heads");
  REFUSES(kInvalid, c.arguments.value.sizes[2] = 129, "value has shape [1, 2, 129, 64]", "allowed: [1, 2, 130, any]");
  REFUSES(kInvalid, c.arguments.query2.sizes[2] = 99, "query2 has shape", "allowed: [1, 4, 100, 64]");
  REFUSES(kInvalid, (c.arguments.query2.data = nullptr, c.arguments.key2.data = nullptr), "query2.data is NULL",
          "lambda is the value 0");
  REFUSES(kInvalid, c.arguments.value.strides[3] = 2, "value.strides[3] is 2", "allowed: 1");
  REFUSES(kInvalid, c.arguments.value.strides[2] = 65, "value.strides[2] is 65", "allowed: a multiple of 8");
  REFUSES(kInvalid, c.arguments.query1.data = reinterpret_cast<void *>(0x1008), "query1.data is 0x1008",
          "divisible by 16");
  REFUSES(kInvalid, c.arguments.output.sizes[3] = 128, "output has shape", "allowed: [1, 4, 100, 64]");
  REFUSES(kInvalid, c.arguments.output.dtype = SIEVE_DTYPE_FLOAT16, "output.dtype is float16", "allowed: bfloat16");
  REFUSES(kInvalid, c.arguments.survivors1 = Call::tensor(4, 100, 1), "survivors1.dtype is bfloat16", "allowed: int32");
  REFUSES(kInvalid, c.arguments.output.strides[2] = 0, "output.strides[2] is 0", "allowed: 1 and larger");
  REFUSES(kInvalid, c.arguments.beta.value = kNaN, "beta.value is nan", "allowed: a finite number");
  REFUSES(kInvalid, c.arguments.lambda.value = -HUGE_VALF, "lambda.value is -inf", "allowed: a finite number");
  REFUSES(kInvalid, c.arguments.beta.head_stride = 1, "beta.head_stride is 1", "allowed: 0");
  REFUSES(kInvalid, c.arguments.kappa = 0, "kappa is 0", "allowed: larger than 0");
  REFUSES(kInvalid, c.arguments.power = 0.5f, "power is 0.5", "allowed: 1 and larger");
  REFUSES(kInvalid, c.problem.causal = 2, "problem.causal is 2", "allowed: 0 to 1");
  REFUSES(kInvalid, c.problem.query_offset = 5, "problem.query_offset is 5", "allowed: 0");
  REFUSES(kInvalid, c.problem.window = -1, "problem.window is -1", "allowed: 0");
  REFUSES(kInvalid, c.problem.path = 9, "problem.path is 9", "allowed: 0 to 2");
  REFUSES(kInvalid, c.problem.scale = 1, "problem.scale is 1", "cosines");
  REFUSES(kInvalid, c.problem.row_factor = SIEVE_ROW_FACTOR_SSMAX, "problem.row_factor is 1", "allowed: 0");
  REFUSES(kInvalid, c.problem.norm_eps = 1e-5f, "problem.norm_eps is 1e-05", "allowed: 0 without a norm");
  REFUSES(kInvalid, (c.problem.norm = SIEVE_NORM_RMS, c.problem.norm_eps = -1), "problem.norm_eps is -1",
          "allowed: 0 and larger");
  REFUSES(kInvalid, c.problem.output_scale = kNaN, "problem.output_scale is nan", "allowed: a finite number");
  REFUSES(kInvalid, c.problem.gate = Call::tensor(2, 100, 1, SIEVE_DTYPE_FLOAT32), "problem.gate has shape",
          "allowed: [1, 4, 100, 1]");
  REFUSES(kInvalid, c.problem.query_starts = reinterpret_cast<int32_t *>(0x100), "key_starts", "both or neither");
  REFUSES(kInvalid, c.problem.sequence_count = 3, "problem.sequence_count is 3", "allowed: 0 to 0");
}

void test_handles() {
  Call call;
  uint64_t bytes = 0;
  CHECK_FAILURE(call.workspace(nullptr, &bytes), SIEVE_STATUS_INVALID_ARGUMENT, "sieve_tda_forward_workspace",
                "context is NULL");
  sieve_context stranger;
  CHECK_FAILURE(call.workspace(&stranger, &bytes), SIEVE_STATUS_INVALID_ARGUMENT, "is not alive");
  CHECK(sieve_context_destroy(nullptr) == SIEVE_STATUS_OK);
  auto *heap = new sieve_context();
  sieve::register_context(heap);
  CHECK(sieve_context_destroy(heap) == SIEVE_STATUS_OK);
  CHECK_FAILURE(sieve_context_destroy(heap), SIEVE_STATUS_INVALID_ARGUMENT, "is not alive");
  CHECK_FAILURE(sieve_device_count(nullptr), SIEVE_STATUS_INVALID_ARGUMENT, "count is NULL");
}

void test_kernels() {
  int32_t count = 0;
  CHECK(sieve_kernel_count(&count) == SIEVE_STATUS_OK);
  sieve_kernel_info info{};
  CHECK_FAILURE(sieve_kernel_describe(count, &info), SIEVE_STATUS_INVALID_ARGUMENT, "index is");
  sieve_support_query query{sizeof query,
                            SIEVE_OPERATION_TDA,
                            SIEVE_DIRECTION_FORWARD,
                            SIEVE_PATH_AUTOMATIC,
                            SIEVE_DTYPE_BFLOAT16,
                            64,
                            64,
                            0};
  Call call;
  uint64_t bytes = 0;
  if (count == 0) {
    CHECK_FAILURE(sieve_support(&fake_context, &query), SIEVE_STATUS_UNAVAILABLE, "no CUDA kernels");
    CHECK_FAILURE(call.workspace(&fake_context, &bytes), SIEVE_STATUS_UNAVAILABLE, "no CUDA kernels");
    return;
  }
  info.struct_size = sizeof info;
  CHECK(sieve_kernel_describe(0, &info) == SIEVE_STATUS_OK);
  CHECK(sieve_support(&fake_context, &query) == SIEVE_STATUS_OK);
  query.head_dim = 96;
  CHECK_FAILURE(sieve_support(&fake_context, &query), SIEVE_STATUS_UNSUPPORTED, "head_dim 96",
                "nearest supported is tda forward");
  query.head_dim = 64;
  query.operation = SIEVE_OPERATION_ENTMAX;
  CHECK_FAILURE(sieve_support(&fake_context, &query), SIEVE_STATUS_UNSUPPORTED, "entmax forward", "nearest");
  query.operation = SIEVE_OPERATION_TDA;
  fake_context.capability = 80;
  query.path = SIEVE_PATH_HOPPER;
  CHECK_FAILURE(sieve_support(&fake_context, &query), SIEVE_STATUS_UNSUPPORTED, "path hopper", "nearest");
  REFUSES(SIEVE_STATUS_UNSUPPORTED,
          (c.arguments.value = Call::tensor(2, 130, 256), c.arguments.output = Call::tensor(4, 100, 256)),
          "value_dim 256", "nearest supported");

  // Machine code of Hopper alone does not run on later devices.
  fake_context.capability = 100;
  CHECK_FAILURE(sieve_support(&fake_context, &query), SIEVE_STATUS_UNSUPPORTED, "path hopper",
                "compute capability 10.0");
  fake_context.capability = 80;

  // Two views: inverse norms of 4 x 100 query rows and 2 x 130 key rows, each rounded up to 256 bytes.
  CHECK(call.workspace(&fake_context, &bytes) == SIEVE_STATUS_OK);
  CHECK(bytes == 2 * (1792 + 1280));
  if (SIEVE_WITH_SM90) {
    fake_context.capability = 90;
    CHECK(call.workspace(&fake_context, &bytes) == SIEVE_STATUS_OK);
    CHECK(bytes == 2 * (1792 + 1280) + 256);  // the counter of tiles
    call.arguments.value.strides[1] = 0;
    CHECK(call.workspace(&fake_context, &bytes) == SIEVE_STATUS_OK);
    CHECK(bytes == 2 * (1792 + 1280));  // a repeating tensor takes the generic path
    call.problem.path = SIEVE_PATH_HOPPER;
    CHECK_FAILURE(call.workspace(&fake_context, &bytes), SIEVE_STATUS_INVALID_ARGUMENT, "value has a stride of 0",
                  "positive strides");
    call = Call();
    fake_context.capability = 80;
  }
  call.arguments.lambda.value = 0;
  CHECK(call.workspace(&fake_context, &bytes) == SIEVE_STATUS_OK);
  CHECK(bytes == 1792 + 1280);
  call.arguments.survivors2 = Call::tensor(4, 100, 1, SIEVE_DTYPE_INT32);
  CHECK(call.workspace(&fake_context, &bytes) == SIEVE_STATUS_OK);
  CHECK(bytes == 2 * (1792 + 1280));
  CHECK_FAILURE(sieve_tda_forward(&fake_context, &call.problem, &call.arguments, nullptr, 0, nullptr),
                SIEVE_STATUS_INVALID_ARGUMENT, "workspace is NULL");
  CHECK_FAILURE(sieve_tda_forward(&fake_context, &call.problem, &call.arguments, reinterpret_cast<void *>(0x1004),
                                  bytes, nullptr),
                SIEVE_STATUS_INVALID_ARGUMENT, "workspace is 0x1004", "divisible by 256");
  CHECK_FAILURE(sieve_tda_forward(&fake_context, &call.problem, &call.arguments, reinterpret_cast<void *>(0x1000),
                                  bytes - 1, nullptr),
                SIEVE_STATUS_WORKSPACE_TOO_SMALL, "workspace_bytes is 6143", "at least 6144");
}

void test_products() {
  double operations = 0;
  CHECK_FAILURE(sieve_products_run(&fake_context, 9, SIEVE_DTYPE_BFLOAT16, &operations, nullptr),
                SIEVE_STATUS_INVALID_ARGUMENT, "path is 9", "allowed: 0 to 2");
  CHECK_FAILURE(sieve_products_run(&fake_context, 0, SIEVE_DTYPE_FLOAT32, &operations, nullptr),
                SIEVE_STATUS_INVALID_ARGUMENT, "dtype is 3", "allowed: 1 to 2");
  CHECK_FAILURE(sieve_products_run(&fake_context, 0, SIEVE_DTYPE_BFLOAT16, nullptr, nullptr),
                SIEVE_STATUS_INVALID_ARGUMENT, "operations is NULL");
  fake_context.capability = 80;
  CHECK_FAILURE(sieve_products_run(&fake_context, SIEVE_PATH_HOPPER, SIEVE_DTYPE_BFLOAT16, &operations, nullptr),
                SIEVE_STATUS_UNSUPPORTED, "path is 2", "compute capability 8.0");
  CHECK(operations == 0);
}

}  // namespace

int main() {
  fake_context.capability = 90;
  sieve::register_context(&fake_context);
  fake_context.multiprocessors = 132;
  test_refusals();
  sieve::test::test_differential(&fake_context);
  sieve::test::test_softmax(&fake_context);
  sieve::test::test_tda_backward(&fake_context);
  sieve::test::test_tda_decode(&fake_context);
  test_handles();
  test_kernels();
  test_products();
  return sieve::test::finish();
}
