// Checks of the entry points of threshold differential backward that need no device, for abi_test.cpp.
#include <cmath>
#include <limits>

#include "abi/context.h"
#include "abi/kernel_table.h"
#include "tests/native/support/check.h"

namespace sieve::test {

namespace {

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

struct Backward {
  sieve_attention_problem problem{};
  sieve_tda_backward_arguments arguments{};
  Backward() {
    problem.struct_size = sizeof problem;
    problem.causal = 1;
    problem.output_scale = 1;
    sieve_tda_backward_arguments &a = arguments;
    a.struct_size = sizeof a;
    a.query1 = a.query2 = a.output_gradient = a.query1_gradient = a.query2_gradient = tensor(2, 4, 300, 64);
    a.key1 = a.key2 = a.value = a.key1_gradient = a.key2_gradient = a.value_gradient = tensor(2, 2, 500, 64);
    a.survivor_tiles = tensor(2, 4, 5, 1, SIEVE_DTYPE_INT32);
    a.beta.value = 1;
    a.lambda.value = 0.5f;
    a.kappa = 1;
    a.power = 2;
  }
  int32_t call(uint64_t *bytes) { return sieve_tda_backward_workspace(context, &problem, &arguments, bytes); }
};

// Applies a change to a valid call and expects the refusal to name the argument, its value and what is allowed.
template <typename Change, typename... Texts>
void refuses(int line, int32_t status, Change change, Texts... texts) {
  Backward call;
  change(call);
  uint64_t bytes = 77;
  check_failure(call.call(&bytes), status, __FILE__, line, texts...);
  check(bytes == 77, "a failing call writes nothing", __FILE__, line);
}
#define REFUSES(status, change, ...) \
  refuses(                           \
      __LINE__, status, [](Backward &c) { change; }, __VA_ARGS__)

void test_refusals() {
  static float memory;
  REFUSES(kInvalid, c.arguments.struct_size = 8, "arguments.struct_size is 8", "allowed");
  REFUSES(kInvalid, c.arguments.screen = SIEVE_TDA_SCREEN_INT4, "arguments.screen is 2", "0 to 1");
  REFUSES(kInvalid, c.arguments.query2.data = nullptr, "query2");
  REFUSES(kInvalid, c.arguments.output_gradient.data = nullptr, "output_gradient");
  REFUSES(kInvalid, c.arguments.output_gradient = tensor(2, 4, 300, 32), "output_gradient");
  REFUSES(kInvalid, c.arguments.output_gradient.dtype = SIEVE_DTYPE_FLOAT16, "output_gradient.dtype is float16");
  REFUSES(kInvalid, c.arguments.survivor_tiles.sizes[2] = 4, "survivor_tiles", "4", "5");
  REFUSES(kInvalid, c.arguments.key1_gradient = tensor(2, 4, 500, 64), "key1_gradient");
  REFUSES(kInvalid, c.arguments.value_gradient.strides[1] = 0, "value_gradient", "it is written");
  REFUSES(kInvalid, c.arguments.gate_gradient = tensor(2, 4, 300, 1, SIEVE_DTYPE_FLOAT32), "gate_gradient",
          "the problem has no gate");
  REFUSES(kInvalid, c.arguments.norm_gain_gradient = &memory, "norm_gain_gradient", "no norm");
  REFUSES(kInvalid, (c.arguments.query2 = c.arguments.key2 = {}, c.arguments.lambda.value = 0), "query2_gradient",
          "no second view");
  REFUSES(kInvalid,
          (c.arguments.query2 = c.arguments.key2 = c.arguments.query2_gradient = c.arguments.key2_gradient = {},
           c.arguments.lambda.value = 0, c.arguments.lambda_gradient = &memory),
          "lambda_gradient", "no second view");
  REFUSES(kInvalid,
          (c.arguments.query1_gradient = c.arguments.query2_gradient = c.arguments.key1_gradient =
               c.arguments.key2_gradient = c.arguments.value_gradient = {}),
          "query1_gradient and all other gradients are absent", "at least one");
  REFUSES(kInvalid, c.problem.scale = 1, "problem.scale is 1", "cosines");
  REFUSES(kInvalid, c.arguments.kappa = 0, "kappa is 0", "larger than 0");
  REFUSES(kInvalid, c.arguments.power = 0.5f, "power is 0.5", "1 and larger");
}

// What the workspace holds.
void test_plan() {
  bool found = false;
  for (int i = 0; i < kernel_count(); ++i)
    found =
        found || (kernel_at(i).operation == SIEVE_OPERATION_TDA && kernel_at(i).direction == SIEVE_DIRECTION_BACKWARD);
  if (!found) return;
  const auto rounded = [](uint64_t bytes) { return (bytes + 255) / 256 * 256; };
  Backward call;
  call.problem.path = SIEVE_PATH_GENERIC;
  uint64_t bytes = 0;
  CHECK(call.call(&bytes) == SIEVE_STATUS_OK);
  const uint64_t rows = rounded(2 * 4 * 300 * 4), keys = rounded(2 * 2 * 500 * 4);
  CHECK(bytes == 2 * rows + 2 * keys + 2 * rows);  // inverse norms of two views; thresholds, factors
  call.arguments.survivor_tiles = {};
  CHECK(call.call(&bytes) == SIEVE_STATUS_OK);
  CHECK(bytes == 4 * rows + 2 * keys + rounded(2 * 4 * 5 * 4));
  call.problem.norm = SIEVE_NORM_RMS;
  CHECK(call.call(&bytes) == SIEVE_STATUS_OK);
  CHECK(bytes ==
        4 * rows + 2 * keys + rounded(2 * 4 * 5 * 4) + rounded(2 * 4 * 300 * 64 * 4) + rounded(2 * 4 * 300 * 64 * 2));
  call.problem.path = SIEVE_PATH_HOPPER;  // there is none of this direction
  CHECK_FAILURE(call.call(&bytes), kUnsupported, "tda backward, path hopper",
                "nearest supported is tda backward generic");
}

}  // namespace

void test_tda_backward(const sieve_context *device) {
  context = device;
  test_refusals();
  test_plan();
}

}  // namespace sieve::test
