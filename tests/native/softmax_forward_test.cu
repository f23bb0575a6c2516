// Softmax attention, forward, through the C ABI against float64 on the same device: for kernel developers, without
// .NET.
//
// Tolerance: twice the error of a plain evaluation, which rounds weights and output to the element type and is exact
// otherwise.
#include <algorithm>

#include "tests/native/support/check.h"
#include "tests/native/support/naive_softmax.h"

namespace sieve::test {

sieve_context *context = nullptr;

// How the elements of a test lie in memory.
enum class Layout { kHeadsFirst, kRowsFirst };

// A 16-bit (or, for outputs, float) tensor with room around it.
struct TestTensor {
  static constexpr size_t kGuard = 256;  // bytes before and after
  DeviceArray<uint8_t> memory;
  sieve_tensor view;

  TestTensor(int64_t batch, int64_t heads, int64_t rows, int64_t channels, int32_t dtype, Layout layout)
      : memory(2 * kGuard + bytes(dtype) * static_cast<size_t>(batch * heads * rows * (channels + 8))) {
    const int64_t pitch = channels == 1 ? 1 : channels + 8;  // a gap of eight elements after every row
    view = {memory.data() + kGuard, {batch, heads, rows, channels}, {}, dtype, 0};
    view.strides[0] = heads * rows * pitch;
    view.strides[1] = layout == Layout::kHeadsFirst ? rows * pitch : pitch;
    view.strides[2] = layout == Layout::kHeadsFirst ? pitch : heads * pitch;
    view.strides[3] = 1;
    memory.fill(0xff);
  }
  static size_t bytes(int32_t dtype) { return dtype == SIEVE_DTYPE_FLOAT32 ? 4 : 2; }

  template <typename Visitor>
  void for_each(Visitor visit) const {
    size_t i = 0;
    for (int64_t b = 0; b < view.sizes[0]; ++b)
      for (int64_t h = 0; h < view.sizes[1]; ++h)
        for (int64_t r = 0; r < view.sizes[2]; ++r)
          for (int64_t c = 0; c < view.sizes[3]; ++c)
            visit(i++, static_cast<size_t>(b * view.strides[0] + h * view.strides[1] + r * view.strides[2] + c));
  }
  void randomize(uint32_t seed) {
    const std::vector<uint16_t> values = random_elements(
        static_cast<size_t>(view.sizes[0] * view.sizes[1] * view.sizes[2] * view.sizes[3]), view.dtype, seed);
    std::vector<uint8_t> bits = memory.read();
    for_each([&](size_t i, size_t at) { std::memcpy(&bits[kGuard + 2 * at], &values[i], 2); });
    memory.write(bits);
  }
  // Every element as a double, in the order of the sizes; everything else must still be 0xff.
  std::vector<double> read_and_check_gaps() const {
    std::vector<uint8_t> bits = memory.read();
    std::vector<double> values;
    for_each([&](size_t, size_t at) {
      uint8_t *place = &bits[kGuard + bytes(view.dtype) * at];
      float single;
      uint16_t half;
      std::memcpy(&single, place, view.dtype == SIEVE_DTYPE_FLOAT32 ? 4 : 2);
      std::memcpy(&half, place, 2);
      values.push_back(view.dtype == SIEVE_DTYPE_FLOAT32 ? static_cast<double>(single) : from_bits(half, view.dtype));
      std::memset(place, 0xff, bytes(view.dtype));
    });
    CHECK(std::all_of(bits.begin(), bits.end(), [](uint8_t byte) { return byte == 0xff; }));
    return values;
  }
  NaiveTensor naive() const {
    return {static_cast<const uint16_t *>(view.data), view.strides[0], view.strides[1], view.strides[2]};
  }
};

struct Options {
  Layout layout = Layout::kHeadsFirst;
  bool float_output = false;
  bool gain = false;
  bool gate = false;
  std::vector<int32_t> key_lengths = {};
};

// One problem in device memory, and its launch.
struct Setup {
  NaiveSoftmax p;
  TestTensor query, key, value, output, lse;
  DeviceArray<float> factors, gate, gain;
  DeviceArray<int32_t> key_lengths;
  DeviceArray<uint8_t> workspace{4096};
  sieve_attention_problem problem{};
  sieve_softmax_forward_arguments arguments{};

  Setup(const NaiveSoftmax &problem_, const Options &o)
      : p(problem_),
        query(p.batch, p.query_heads, p.queries, p.head_dim, p.dtype, o.layout),
        key(p.batch, p.key_heads, p.keys, p.head_dim, p.dtype, o.layout),
        value(p.batch, p.key_heads, p.keys, p.value_dim, p.dtype, o.layout),
        output(p.batch, p.query_heads, p.queries, p.value_dim, o.float_output ? SIEVE_DTYPE_FLOAT32 : p.dtype,
               o.layout),
        lse(p.batch, p.query_heads, p.queries, 1, SIEVE_DTYPE_FLOAT32, o.layout),
        factors(rows()),
        gate(rows()),
        gain(static_cast<size_t>(p.value_dim)),
        key_lengths(static_cast<size_t>(p.batch)) {
    query.randomize(1);
    key.randomize(2);
    value.randomize(3);
    std::mt19937 generator(4);
    std::normal_distribution<float> normal;
    for (DeviceArray<float> *array : {&factors, &gate, &gain}) {
      std::vector<float> values(array->count());
      for (float &x : values) x = normal(generator);
      array->write(values);
    }
    problem.struct_size = sizeof problem;
    problem.causal = p.causal;
    problem.query_alignment = SIEVE_QUERY_ALIGNMENT_OFFSET;
    problem.query_offset = p.offset;
    problem.window = p.window;
    problem.scale = static_cast<float>(p.scale);
    problem.row_factor = p.row_factor;
    problem.row_first.value = static_cast<float>(p.row_first);
    problem.row_second.value = static_cast<float>(p.row_second);
    if (p.row_factor == SIEVE_ROW_FACTOR_VECTOR)
      problem.row_factors =
          sieve::test::view(factors.data(), SIEVE_DTYPE_FLOAT32, p.batch, p.query_heads, p.queries, 1);
    problem.norm = p.rms ? SIEVE_NORM_RMS : SIEVE_NORM_NONE;
    problem.norm_eps = static_cast<float>(p.norm_eps);
    problem.norm_gain = o.gain ? gain.data() : nullptr;
    problem.output_scale = static_cast<float>(p.output_scale);
    if (o.gate)
      problem.gate = sieve::test::view(gate.data(), SIEVE_DTYPE_FLOAT32, p.batch, p.query_heads, p.queries, 1);
    if (!o.key_lengths.empty()) {
      key_lengths.write(o.key_lengths);
      problem.key_lengths = key_lengths.data();
    }
    arguments = {sizeof arguments, 0, query.view, key.view, value.view, output.view, lse.view};
  }
  size_t rows() const { return static_cast<size_t>(p.batch) * static_cast<size_t>(p.query_heads * p.queries); }

  void launch(int32_t path, void *stream = nullptr) {
    problem.path = path;
    uint64_t bytes = 0;
    CHECK(sieve_softmax_forward_workspace(context, &problem, &arguments, &bytes) == SIEVE_STATUS_OK);
    CHECK(bytes <= workspace.bytes());
    if (sieve_softmax_forward(context, &problem, &arguments, workspace.data(), workspace.bytes(), stream) !=
        SIEVE_STATUS_OK) {
      std::printf("%s\n", sieve_last_message());
      CHECK(false);
    }
  }
  void poison() {
    output.memory.fill(0xff);
    lse.memory.fill(0xff);
    workspace.fill(0xff);
  }
  void reference(bool rounded, std::vector<double> &out, std::vector<double> &logs) {
    NaiveSoftmax n = p;
    n.rounded = rounded;
    if (n.scale == 0) n.scale = 1 / std::sqrt(static_cast<double>(p.head_dim));
    DeviceArray<double> device_out(rows() * static_cast<size_t>(p.value_dim)), device_lse(rows());
    naive_softmax(n, query.naive(), key.naive(), value.naive(), problem.key_lengths,
                  p.row_factor == SIEVE_ROW_FACTOR_VECTOR ? factors.data() : nullptr, problem.norm_gain,
                  static_cast<const float *>(problem.gate.data), device_out.data(), device_lse.data());
    out = device_out.read();
    logs = device_lse.read();
  }
};

const char *path_name(int32_t path) {
  return path == SIEVE_PATH_HOPPER ? "hopper" : "generic";
}

double largest_difference(const std::vector<double> &a, const std::vector<double> &b) {
  double largest = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    if (a[i] == b[i]) continue;  // also two infinities
    const double difference = std::fabs(a[i] - b[i]);
    if (!(difference <= largest)) largest = difference;  // NaN stays
  }
  return largest;
}

void test_case(const char *name, const NaiveSoftmax &p, const Options &options, int32_t path, bool quiet = false) {
  Setup s(p, options);
  s.poison();
  s.launch(path);
  check_cuda(cudaDeviceSynchronize(), name);
  const std::vector<double> out = s.output.read_and_check_gaps(), lse = s.lse.read_and_check_gaps();
  std::vector<double> exact, logs, plain, unused;
  s.reference(false, exact, logs);
  s.reference(true, plain, unused);
  double largest = 0;
  for (const double x : exact) largest = std::max(largest, std::fabs(x));
  const double error = largest_difference(out, exact), allowed = 2 * largest_difference(plain, exact) + 1e-6 * largest;
  double lse_error = 0;
  for (size_t i = 0; i < lse.size(); ++i)
    if (lse[i] != logs[i]) {
      const double e = std::fabs(lse[i] - logs[i]) / (1 + std::fabs(logs[i]));
      if (!(e <= lse_error)) lse_error = e;
    }
  const bool good = error <= allowed && lse_error <= 2e-5;
  if (!quiet || !good)
    std::printf("%-8s %-52s max|out| %.2e  error %.2e  allowed %.2e  lse %.1e%s\n", path_name(path), name, largest,
                error, allowed, lse_error, good ? "" : "  FAILED");
  CHECK(error <= allowed);
  CHECK(lse_error <= 2e-5);
}

NaiveSoftmax square(int length, int dim, int32_t dtype) {
  return {1, 2, 1, length, length, dim, dim, true, 0, 0, 0, 0, 0, 0, false, 0, 1, dtype, false};
}

// Every length and pair of dims that the issue of odd sizes asks for.
void test_sizes(int32_t path) {
  constexpr int kDims[] = {32, 64, 96, 128, 256};
  int runs = 0;
  const auto wanted = [&](int32_t dtype, const std::string &rest) {
    return chosen(std::string(path_name(path)) + " sizes: " + (dtype == SIEVE_DTYPE_BFLOAT16 ? "bf16 " : "fp16 ") +
                  rest);
  };
  for (const int32_t dtype : {SIEVE_DTYPE_BFLOAT16, SIEVE_DTYPE_FLOAT16}) {
    for (const int length : {1, 17, 113, 239, 799, 1023, 1024})
      for (const int dim : kDims) {
        if (dtype == SIEVE_DTYPE_FLOAT16 && length > 239) continue;
        if (!wanted(dtype, "D" + std::to_string(dim) + ", length " + std::to_string(length))) continue;
        test_case("sizes, causal", square(length, dim, dtype), {}, path, true);
        NaiveSoftmax p = square(length, dim, dtype);  // not causal, other numbers of keys and queries
        p.causal = false;
        p.keys = std::max(1, length - 5);
        test_case("sizes, full", p, {}, path, true);
        runs += 2;
      }
    for (const int head_dim : kDims)
      for (const int value_dim : kDims) {
        sieve_support_query query{
            sizeof query, SIEVE_OPERATION_SOFTMAX, SIEVE_DIRECTION_FORWARD, path, dtype, head_dim, value_dim, 0};
        if (sieve_support(context, &query) != SIEVE_STATUS_OK) continue;
        if (!wanted(dtype, "D" + std::to_string(head_dim) + " Dv" + std::to_string(value_dim))) continue;
        NaiveSoftmax p = square(200, head_dim, dtype);
        p.value_dim = value_dim;
        p.rms = true;  // over the true channels
        test_case("dims", p, {Layout::kRowsFirst, false, true}, path, true);
        ++runs;
      }
  }
  if (wanted(SIEVE_DTYPE_BFLOAT16, "D128, length 4224"))
    test_case("length 4224", square(4224, 128, SIEVE_DTYPE_BFLOAT16), {}, path);
  std::printf("%-8s %d sizes\n", path_name(path), runs);
}

void test_cases(int32_t path) {
  constexpr int32_t kBf16 = SIEVE_DTYPE_BFLOAT16, kFp16 = SIEVE_DTYPE_FLOAT16;
  const auto test = [&](const char *name, const NaiveSoftmax &p, const Options &o = {}) {
    if (chosen(std::string(path_name(path)) + " cases: " + name)) test_case(name, p, o, path);
  };
  constexpr int kSsmax = SIEVE_ROW_FACTOR_SSMAX, kAsentmax = SIEVE_ROW_FACTOR_ASENTMAX,
                kVector = SIEVE_ROW_FACTOR_VECTOR;
  test("bf16 D64 grouped heads, 300 x 417",
       {2, 4, 2, 300, 417, 64, 64, true, 117, 0, 0, 0, 0, 0, false, 0, 1, kBf16, false});
  test("bf16 D128 8 heads a key head, rows first",
       {2, 16, 2, 129, 257, 128, 128, true, 128, 0, 0, 0, 0, 0, false, 0, 1, kBf16, false}, {Layout::kRowsFirst});
  test("bf16 D64 window 37", {1, 4, 4, 500, 500, 64, 64, true, 0, 37, 0, 0, 0, 0, false, 0, 1, kBf16, false});
  test("bf16 D128 window 200, offset 30",
       {1, 2, 2, 700, 700, 128, 128, true, 30, 200, 0, 0, 0, 0, false, 0, 1, kBf16, false});
  test("bf16 D128 not causal, window",
       {1, 2, 2, 300, 400, 128, 128, false, 40, 50, 0, 0, 0, 0, false, 0, 1, kBf16, false});
  test("bf16 D64 rows before every key",
       {1, 2, 2, 300, 200, 64, 64, true, -100, 0, 0, 0, 0, 0, true, 0, 1, kBf16, false});
  test("fp16 D96 offset beyond the keys",
       {1, 2, 2, 300, 200, 96, 96, true, 500, 0, 0, 0, 0, 0, false, 0, 1, kFp16, false});
  test("bf16 D128 scale 2: sharp", {1, 2, 2, 400, 400, 128, 128, true, 0, 0, 2, 0, 0, 0, false, 0, 1, kBf16, false});
  test("fp16 D128 scale 2: sharp", {1, 2, 2, 400, 400, 128, 128, true, 0, 0, 2, 0, 0, 0, false, 0, 1, kFp16, false});
  test("bf16 D64 Dv128 ssmax", {1, 4, 2, 300, 300, 64, 128, true, 0, 0, 0, kSsmax, 0.4, 0, false, 0, 1, kBf16, false});
  test("bf16 D128 asentmax",
       {1, 4, 2, 300, 350, 128, 128, true, 50, 0, 0, kAsentmax, 0.3, 1.5, false, 0, 1, kBf16, false});
  test("fp16 D64 vector of factors, both signs",
       {2, 4, 2, 300, 300, 64, 64, true, 0, 0, 0, kVector, 0, 0, false, 0, 1, kFp16, false});
  test("bf16 D64 norm, gain, scale, gate",
       {2, 4, 2, 200, 200, 64, 64, true, 0, 0, 0, 0, 0, 0, true, 1e-5, 0.5, kBf16, false},
       {Layout::kRowsFirst, false, true, true});
  test("bf16 D128 float32 output, gate",
       {1, 4, 2, 200, 200, 128, 128, true, 0, 0, 0, 0, 0, 0, false, 0, -2, kBf16, false},
       {Layout::kHeadsFirst, true, false, true});
  test("bf16 D128 key lengths 100, 1, 0, 333",
       {4, 2, 2, 150, 333, 128, 128, false, 0, 0, 0, 0, 0, 0, false, 0, 1, kBf16, false},
       {Layout::kHeadsFirst, false, false, false, {100, 1, 0, 333}});
  test("bf16 D256 grouped heads", {1, 4, 2, 300, 417, 256, 256, true, 117, 0, 0, 0, 0, 0, false, 0, 1, kBf16, false});
  test("fp16 D128 Dv256", {1, 4, 2, 300, 417, 128, 256, true, 117, 0, 0, 0, 0, 0, false, 0, 1, kFp16, false});
}

}  // namespace sieve::test

#include "tests/native/softmax_forward_properties.h"

int main(int count, char **arguments) {
  using namespace sieve::test;
  read_arguments(count, arguments);
  sieve_context_options options{};
  options.struct_size = sizeof options;
  options.log_level = SIEVE_LOG_NONE;
  if (sieve_context_create(&options, &context) != SIEVE_STATUS_OK) {
    std::printf("skipped: %s\n", sieve_last_message());
    return 77;
  }
  sieve_support_query query{sizeof query,
                            SIEVE_OPERATION_SOFTMAX,
                            SIEVE_DIRECTION_FORWARD,
                            SIEVE_PATH_GENERIC,
                            SIEVE_DTYPE_BFLOAT16,
                            64,
                            64,
                            0};
  for (const int32_t path : {SIEVE_PATH_GENERIC, SIEVE_PATH_HOPPER}) {
    query.path = path;
    if (sieve_support(context, &query) != SIEVE_STATUS_OK) {
      std::printf("not run: %s\n", sieve_last_message());
      continue;
    }
    test_cases(path);
    test_sizes(path);
    test_properties(path);
  }
  CHECK(sieve_context_destroy(context) == SIEVE_STATUS_OK);
  return finish();
}
