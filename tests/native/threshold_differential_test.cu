// Threshold differential attention through the C ABI against float64 on the same device: for kernel developers, without
// .NET.
//
// Tolerance: two roundings to the element type (the weights before the value product, the output) bound the error of an
// output element by 2 u max|output| plus what cancels between weights; 4 u is asked for, u = 2^-9 (bf16) or 2^-12
// (fp16). A key whose score is within fp32 rounding of the threshold may be counted either way: such rows are few, none
// usually.
#include <algorithm>

#include "tests/native/support/check.h"
#include "tests/native/support/naive_threshold_differential.h"

namespace sieve::test {

sieve_context *context = nullptr;

struct Case {
  const char *name;
  NaiveProblem p;
};

struct Buffers {
  static constexpr size_t kGuard = 256;  // bytes before and after the output
  DeviceArray<uint16_t> q1, k1, q2, k2, v;
  DeviceArray<uint8_t> out;
  DeviceArray<int> survivors1, survivors2;

  explicit Buffers(const NaiveProblem &p)
      : q1(count(p, p.query_heads, p.queries)),
        k1(count(p, p.key_heads, p.keys)),
        q2(q1.count()),
        k2(k1.count()),
        v(k1.count()),
        out(2 * q1.count() + 2 * kGuard),
        survivors1(q1.count() / static_cast<size_t>(p.dim)),
        survivors2(survivors1.count()) {
    uint32_t seed = 1;
    for (DeviceArray<uint16_t> *array : {&q1, &k1, &q2, &k2, &v})
      array->write(random_elements(array->count(), p.dtype, seed++));
  }
  static size_t count(const NaiveProblem &p, int heads, int rows) {
    return static_cast<size_t>(p.batch) * static_cast<size_t>(heads) * static_cast<size_t>(rows) *
           static_cast<size_t>(p.dim);
  }
  void *output() const { return out.data() + kGuard; }
};

void run(const NaiveProblem &p, Buffers &b, int32_t path) {
  sieve_attention_problem problem{};
  problem.struct_size = sizeof problem;
  problem.causal = p.causal;
  problem.path = path;
  problem.query_alignment = SIEVE_QUERY_ALIGNMENT_OFFSET;
  problem.query_offset = p.offset;
  problem.window = p.window;
  problem.norm = p.rms ? SIEVE_NORM_RMS : SIEVE_NORM_NONE;
  problem.norm_eps = static_cast<float>(p.norm_eps);
  problem.output_scale = static_cast<float>(p.output_scale);
  sieve_tda_forward_arguments a{};
  a.struct_size = sizeof a;
  a.query1 = view(b.q1.data(), p.dtype, p.batch, p.query_heads, p.queries, p.dim);
  a.query2 = view(b.q2.data(), p.dtype, p.batch, p.query_heads, p.queries, p.dim);
  a.key1 = view(b.k1.data(), p.dtype, p.batch, p.key_heads, p.keys, p.dim);
  a.key2 = view(b.k2.data(), p.dtype, p.batch, p.key_heads, p.keys, p.dim);
  a.value = view(b.v.data(), p.dtype, p.batch, p.key_heads, p.keys, p.dim);
  a.output = view(b.output(), p.dtype, p.batch, p.query_heads, p.queries, p.dim);
  a.survivors1 = view(b.survivors1.data(), SIEVE_DTYPE_INT32, p.batch, p.query_heads, p.queries, 1);
  a.survivors2 = view(b.survivors2.data(), SIEVE_DTYPE_INT32, p.batch, p.query_heads, p.queries, 1);
  a.beta.value = static_cast<float>(p.beta);
  a.lambda.value = static_cast<float>(p.lambda);
  a.kappa = static_cast<float>(p.kappa);
  a.power = static_cast<float>(p.power);
  uint64_t bytes = 0;
  CHECK(sieve_tda_forward_workspace(context, &problem, &a, &bytes) == SIEVE_STATUS_OK);
  DeviceArray<uint8_t> workspace(bytes);
  workspace.fill(0xff);
  b.out.fill(0xff);
  b.survivors1.fill(0xff);
  b.survivors2.fill(0xff);
  const int32_t status = sieve_tda_forward(context, &problem, &a, workspace.data(), bytes, nullptr);
  if (status != SIEVE_STATUS_OK) std::fprintf(stderr, "%s\n", sieve_last_message());
  CHECK(status == SIEVE_STATUS_OK);
  check_cuda(cudaDeviceSynchronize(), "sieve_tda_forward");
}

void test(const Case &c, int32_t path) {
  const NaiveProblem &p = c.p;
  Buffers b(p);
  run(p, b, path);
  const std::vector<uint8_t> bits = b.out.read();
  const std::vector<int> s1 = b.survivors1.read(), s2 = b.survivors2.read();
  run(p, b, path);
  CHECK(bits == b.out.read());  // bitwise repeatable

  DeviceArray<double> reference(b.q1.count());
  DeviceArray<int> r1(s1.size()), r2(s2.size());
  naive_forward(p, b.q1.data(), b.k1.data(), b.q2.data(), b.k2.data(), b.v.data(), nullptr, nullptr, reference.data(),
                r1.data(), r2.data(), 0, p.queries);
  const std::vector<double> expected = reference.read();
  const std::vector<int> e1 = r1.read(), e2 = r2.read();
  double largest = 0, error = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    uint16_t element;
    std::memcpy(&element, &bits[Buffers::kGuard + 2 * i], 2);
    const double difference = std::fabs(from_bits(element, p.dtype) - expected[i]);
    if (!(difference <= error)) error = difference;  // NaN stays
    largest = std::max(largest, std::fabs(expected[i]));
  }
  size_t moved = 0;
  for (size_t i = 0; i < s1.size(); ++i)
    moved += static_cast<size_t>(std::abs(s1[i] - e1[i]) + std::abs(s2[i] - e2[i]));
  const double tolerance = 4 * (p.dtype == SIEVE_DTYPE_BFLOAT16 ? 1.0 / 512 : 1.0 / 4096) * largest;
  std::printf("%-8s %-44s max|out| %.3e  error %.3e  allowed %.3e  survivors moved %zu\n",
              path == SIEVE_PATH_HOPPER ? "hopper" : "generic", c.name, largest, error, tolerance, moved);
  CHECK(error <= tolerance);
  CHECK(moved <= s1.size() / 1000);
  for (size_t i = 0; i < Buffers::kGuard; ++i) CHECK(bits[i] == 0xff && bits[bits.size() - 1 - i] == 0xff);
}

// Packed sequences, or padded ones with their lengths in device memory, give bit for bit what each sequence gives
// alone.
void test_sequences(int32_t path, bool padded) {
  constexpr int kHeads = 2, kDim = 64, kCount = 3, kLongest = 300;
  const int lengths[kCount] = {77, 300, 1};
  const int total = padded ? kCount * kLongest : 77 + 300 + 1;
  const NaiveProblem all{padded ? kCount : 1,
                         kHeads,
                         kHeads,
                         padded ? kLongest : total,
                         padded ? kLongest : total,
                         kDim,
                         true,
                         0,
                         0,
                         0.5,
                         1,
                         0.4,
                         2,
                         false,
                         0,
                         1,
                         SIEVE_DTYPE_BFLOAT16};
  Buffers b(all);
  const size_t elements = b.q1.count();
  DeviceArray<uint16_t> together(elements), alone(elements);
  DeviceArray<int32_t> starts(kCount + 1), device_lengths(kCount);
  starts.write({0, 77, 377, 378});
  device_lengths.write({77, 300, 1});

  sieve_attention_problem problem{};
  problem.struct_size = sizeof problem;
  problem.causal = 1;
  problem.path = path;
  problem.output_scale = 1;
  sieve_tda_forward_arguments a{};
  a.struct_size = sizeof a;
  a.beta.value = 0.5f;
  a.lambda.value = 0.4f;
  a.kappa = 1;
  a.power = 2;
  DeviceArray<uint8_t> workspace(1 << 20);
  const auto launch = [&](uint16_t *output, int batch, int64_t rows, int64_t offset) {
    const auto at = [&](const DeviceArray<uint16_t> &array) {
      sieve_tensor t = view(array.data() + offset, SIEVE_DTYPE_BFLOAT16, batch, kHeads, rows, kDim);
      t.strides[1] = static_cast<int64_t>(all.queries) * kDim;
      t.strides[0] = kHeads * t.strides[1];
      return t;
    };
    a.query1 = at(b.q1);
    a.key1 = at(b.k1);
    a.query2 = at(b.q2);
    a.key2 = at(b.k2);
    a.value = at(b.v);
    a.output = a.query1;
    a.output.data = output + offset;
    CHECK(sieve_tda_forward(context, &problem, &a, workspace.data(), workspace.bytes(), nullptr) == SIEVE_STATUS_OK);
    check_cuda(cudaDeviceSynchronize(), "sequences");
  };
  together.fill(0xff);
  alone.fill(0xff);
  // Position i of a query is its row: with padded keys the end of the keys is not the end of the queries.
  problem.query_alignment = SIEVE_QUERY_ALIGNMENT_OFFSET;
  if (padded) {
    problem.key_lengths = device_lengths.data();
  } else {
    problem.query_starts = problem.key_starts = starts.data();
    problem.sequence_count = kCount;
    problem.longest_query = kLongest;
  }
  launch(together.data(), padded ? kCount : 1, padded ? kLongest : total, 0);
  problem.query_starts = problem.key_starts = problem.key_lengths = nullptr;
  problem.sequence_count = problem.longest_query = 0;
  const std::vector<uint16_t> joint = together.read();
  int64_t row = 0;
  for (int s = 0; s < kCount; ++s) {
    launch(alone.data(), 1, lengths[s], padded ? static_cast<int64_t>(s) * kHeads * kLongest * kDim : row * kDim);
    row += lengths[s];
  }
  const std::vector<uint16_t> separate = alone.read();
  size_t compared = 0, different = 0;
  for (size_t i = 0; i < elements; ++i) {
    if (separate[i] == 0xffff) continue;  // padding rows are nobody's
    ++compared;
    different += separate[i] != joint[i];
  }
  std::printf("%-8s %-44s %zu elements, %zu differ\n", path == SIEVE_PATH_HOPPER ? "hopper" : "generic",
              padded ? "padded sequences" : "packed sequences", compared, different);
  CHECK(compared == static_cast<size_t>(378) * kHeads * kDim);
  CHECK(different == 0);
}

}  // namespace sieve::test

int main() {
  using namespace sieve::test;
  sieve_context_options options{};
  options.struct_size = sizeof options;
  options.log_level = SIEVE_LOG_NONE;
  if (sieve_context_create(&options, &context) != SIEVE_STATUS_OK) {
    std::printf("skipped: %s\n", sieve_last_message());
    return 77;
  }
  constexpr int32_t kBf16 = SIEVE_DTYPE_BFLOAT16, kFp16 = SIEVE_DTYPE_FLOAT16;
  const Case cases[] = {
      {"bf16 D64 causal, grouped heads, 300 x 417",
       {2, 4, 2, 300, 417, 64, true, 117, 0, 0.5, 1, 0.3, 2, false, 0, 1, kBf16}},
      {"bf16 D64 window 37, beta < 0, cubic, norm",
       {1, 4, 4, 200, 200, 64, true, 0, 37, -0.2, 2, 0.7, 3, true, 1e-5, 0.5, kBf16}},
      {"bf16 D64 one row, power 2.5", {1, 2, 1, 1, 1000, 64, true, 999, 0, 0.8, 1, 0.5, 2.5, false, 0, 1, kBf16}},
      {"bf16 D64 one key", {1, 2, 1, 100, 1, 64, false, 0, 0, 0.8, 1, 0.5, 1, false, 0, 1, kBf16}},
      {"bf16 D64 not causal, window", {1, 2, 2, 129, 257, 64, false, 64, 50, 0.3, 1, -1.5, 2, false, 0, 1, kBf16}},
      {"bf16 D64 rows before every key", {1, 2, 2, 300, 200, 64, true, -100, 0, 0.4, 1, 0.5, 2, true, 0, 1, kBf16}},
      {"bf16 D128 causal, grouped heads", {2, 4, 2, 300, 417, 128, true, 117, 0, 0.5, 1, 0.3, 2, false, 0, 1, kBf16}},
      {"fp16 D128 not causal, linear", {2, 4, 2, 300, 417, 128, false, -5, 0, 0.5, 1, 0.3, 1, false, 0, 1, kFp16}},
      {"fp16 D64 offset -100, cubic", {1, 2, 1, 500, 500, 64, true, -100, 0, 0.9, 1, 0.3, 3, false, 0, 1, kFp16}},
      {"fp16 D64 beta -2: weights far above 1",
       {1, 2, 1, 130, 130, 64, true, 0, 0, -2, 1, 4, 3, false, 0, 1e-3, kFp16}},
      {"fp16 D64 huge beta: nothing survives",
       {1, 2, 1, 130, 130, 64, true, 0, 0, 50, 1, 0.5, 2, true, 1e-6, 1, kFp16}},
      {"bf16 D64 1024 rows", {1, 4, 1, 1024, 1024, 64, true, 0, 0, 0.9, 1, 0.3, 2, true, 1e-6, 1, kBf16}},
  };
  sieve_support_query query{
      sizeof query, SIEVE_OPERATION_TDA, SIEVE_DIRECTION_FORWARD, SIEVE_PATH_GENERIC, kBf16, 64, 64, 0};
  for (const int32_t path : {SIEVE_PATH_GENERIC, SIEVE_PATH_HOPPER}) {
    query.path = path;
    if (sieve_support(context, &query) != SIEVE_STATUS_OK) {
      std::printf("not run: %s\n", sieve_last_message());
      continue;
    }
    for (const Case &c : cases) test(c, path);
    test_sequences(path, false);
    test_sequences(path, true);
  }
  CHECK(sieve_context_destroy(context) == SIEVE_STATUS_OK);
  return finish();
}
