// Checks of the entry points of threshold differential decode that need no device, for abi_test.cpp.
#include <cmath>
#include <limits>

#include "abi/context.h"
#include "abi/kernel_table.h"
#include "operators/threshold_differential/decode_choice.h"
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

struct Decode {
  sieve_attention_problem problem{};
  sieve_tda_cache cache{};
  sieve_tda_decode_arguments arguments{};
  Decode() {
    problem.struct_size = sizeof problem;
    problem.causal = 1;
    problem.output_scale = 1;
    fill_cache(3, 4096);
    arguments.struct_size = sizeof arguments;
    arguments.query1 = arguments.query2 = arguments.output = tensor(3, 8, 2, 64);
    arguments.beta.value = 1;
    arguments.lambda.value = 0.5f;
    arguments.kappa = 1;
    arguments.power = 2;
  }
  void fill_cache(int64_t entries, int64_t rows) {
    cache.struct_size = sizeof cache;
    cache.screen = SIEVE_TDA_SCREEN_INT4;
    cache.key1 = cache.key2 = cache.value = tensor(entries, 2, rows, 64);
    cache.inverse_norms1 = cache.inverse_norms2 = tensor(entries, 2, rows, 1, SIEVE_DTYPE_FLOAT32);
    cache.images1 = cache.images2 = tensor(entries, 2, (rows + 15) / 16, 144, SIEVE_DTYPE_INT32);
  }
  void make_paged() {
    fill_cache(50, 64);
    cache.page_table = reinterpret_cast<const int32_t *>(0x1000);
    cache.page_table_width = 64;
  }
  int32_t call(uint64_t *bytes) {
    arguments.cache = &cache;
    return sieve_tda_decode_workspace(context, &problem, &arguments, bytes);
  }
};

struct Append : Decode {
  sieve_tda_append_arguments append{};
  Append() {
    append.struct_size = sizeof append;
    append.batch = 3;
    append.rows = 2;
    append.new_key1 = append.new_key2 = append.new_value = tensor(3, 2, 2, 64);
  }
  int32_t call(uint64_t *) {
    append.cache = &cache;
    return sieve_tda_append(context, &append, nullptr);
  }
};

// Applies a change to a valid call and expects the refusal to name the argument, its value and what is allowed.
template <class Call, typename Change, typename... Texts>
void refuses(int line, int32_t status, Change change, Texts... texts) {
  Call call;
  change(call);
  uint64_t bytes = 77;
  check_failure(call.call(&bytes), status, __FILE__, line, texts...);
  check(bytes == 77, "a failing call writes nothing", __FILE__, line);
}
#define REFUSES(CALL, status, change, ...) \
  refuses<CALL>(                           \
      __LINE__, status, [](CALL &c) { change; }, __VA_ARGS__)

void test_decode_refusals() {
  REFUSES(Decode, kInvalid, c.arguments.struct_size = 8, "arguments.struct_size is 8", "allowed");
  REFUSES(Decode, kInvalid, c.cache.struct_size = 8, "cache.struct_size is 8", "allowed");
  REFUSES(Decode, kInvalid, c.arguments.splits = -1, "splits is -1", "0");
  REFUSES(Decode, kInvalid, c.cache.screen = 3, "cache.screen is 3", "0 to 2");
  REFUSES(Decode, kInvalid, c.arguments.query2.data = nullptr, "query2", "both or neither");
  REFUSES(Decode, kInvalid, c.cache.key2 = tensor(3, 2, 4095, 64), "cache.key2");
  REFUSES(Decode, kInvalid, c.cache.inverse_norms1.data = nullptr, "cache.inverse_norms1");
  REFUSES(Decode, kInvalid, c.cache.inverse_norms2.dtype = SIEVE_DTYPE_BFLOAT16, "cache.inverse_norms2.dtype");
  REFUSES(Decode, kInvalid, c.cache.images1.sizes[3] = 143, "cache.images1", "143", "144");
  REFUSES(Decode, kInvalid, c.cache.screen = SIEVE_TDA_SCREEN_INT8, "cache.images1", "144", "272");
  REFUSES(Decode, kInvalid, c.cache.screen = SIEVE_TDA_SCREEN_NONE, "cache.images1", "the cache has no screen");
  REFUSES(Decode, kInvalid, c.cache.page_table_width = 5, "cache.page_table_width is 5", "0");
  REFUSES(Decode, kUnsupported,
          (c.make_paged(), c.cache.key1.sizes[2] = c.cache.key2.sizes[2] = c.cache.value.sizes[2] = 40),
          "pages of 40 keys", "multiple of 16");
  REFUSES(Decode, kInvalid, (c.arguments.query1 = c.arguments.query2 = c.arguments.output = tensor(3, 8, 17, 64)),
          "17 rows of 4 heads", "at most 64");
  REFUSES(Decode, kInvalid, c.problem.scale = 1, "problem.scale is 1", "cosines");
  REFUSES(Decode, kInvalid, c.arguments.beta.value = kNaN, "beta");
  REFUSES(Decode, kInvalid, c.arguments.kappa = 0, "kappa is 0", "larger than 0");
  REFUSES(Decode, kInvalid, c.arguments.power = 0.5f, "power is 0.5", "1 and larger");
  REFUSES(Decode, kInvalid, c.arguments.survivors1 = tensor(3, 8, 2, 1), "survivors1.dtype");
}

void test_append_refusals() {
  REFUSES(Append, kInvalid, c.append.struct_size = 8, "arguments.struct_size is 8", "allowed");
  REFUSES(Append, kInvalid, c.append.batch = 0, "batch is 0", "1");
  REFUSES(Append, kInvalid, c.append.rows = 4097, "rows is 4097", "4096");
  REFUSES(Append, kInvalid, c.append.new_key2.data = nullptr, "new_key2");
  REFUSES(Append, kInvalid, c.append.new_key1.data = nullptr, "new_key2", "new_key1 is absent");
  REFUSES(Append, kInvalid, c.append.new_value = tensor(3, 2, 3, 64), "new_value");
  REFUSES(Append, kUnsupported, c.cache.key1.dtype = SIEVE_DTYPE_FLOAT32, "cache.key1.dtype is float32");
}

void test_plan() {
  bool found = false;
  for (int i = 0; i < kernel_count(); ++i)
    found =
        found || (kernel_at(i).operation == SIEVE_OPERATION_TDA && kernel_at(i).direction == SIEVE_DIRECTION_DECODE);
  if (!found) return;
  Decode call;
  uint64_t bytes = 0;
  call.arguments.splits = 3;  // 3 x 4 warps x 48 rows of 64 channels
  CHECK(call.call(&bytes) == SIEVE_STATUS_OK);
  CHECK(bytes == 3 * 4 * 48 * 64 * 4);
  call.make_paged();
  CHECK(call.call(&bytes) == SIEVE_STATUS_OK);
  CHECK(bytes == 3 * 4 * 48 * 64 * 4);
}

// Near the best splits of LADDER.md, for 132 multiprocessors: the fewest that leave at most 5 % of the places empty.
void test_choice() {
  using namespace threshold_differential;
  const auto splits = [](Screen screen, int64_t heads, int64_t keys) {
    return decode_splits(heads, keys, decode_places(screen, heads, 132));
  };
  CHECK(splits(Screen::kNone, 64, 65536) == 4);
  CHECK(splits(Screen::kInt8, 64, 65536) == 4);
  CHECK(splits(Screen::kInt4, 64, 65536) == 6);
  CHECK(splits(Screen::kNone, 8, 131072) == 32);
  CHECK(splits(Screen::kInt4, 8, 131072) == 48);
  CHECK(splits(Screen::kNone, 2, 131072) == 63);
  CHECK(splits(Screen::kInt4, 2, 131072) == 63);
  CHECK(splits(Screen::kInt4, 8, 8192) == 16);
  CHECK(screen_that_pays(Screen::kInt4, 32) == Screen::kInt4);
  CHECK(screen_that_pays(Screen::kInt8, 33) == Screen::kNone);
}

}  // namespace

void test_tda_decode(const sieve_context *device) {
  context = device;
  test_decode_refusals();
  test_append_refusals();
  test_plan();
  test_choice();
}

}  // namespace sieve::test
