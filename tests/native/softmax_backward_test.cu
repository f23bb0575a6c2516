// The backward kernels of softmax attention, each of them, through the C ABI against float64 on the same device.
//
// Tolerance: the error of a gradient is at most three times that of a plain evaluation in the element type (largest
// element; one rounding of the largest value is added, for tensors of few elements) and at most twice in the mean
// square. Around every gradient lie guard bytes and, with strides, gaps; everything is poisoned before the call.
#include <cmath>
#include <cstring>
#include <span>
#include <string>

#include "operators/softmax/problem.h"
#include "tests/native/support/check.h"
#include "tests/native/support/gradient_check.h"
#include "tests/native/support/naive_softmax_backward.h"

namespace sieve::test {

sieve_context *context = nullptr;

enum class Bad { kNothing, kQuery, kKey, kValue, kOutputGradient };

struct Case {
  const char *name;
  int batch = 1, query_heads = 2, key_heads = 2, queries = 128, keys = 128;
  bool causal = true, at_end = true;
  long long offset = 0, window = 0;
  int factor = SIEVE_ROW_FACTOR_NONE;
  bool gate = false;
  float output_scale = 1;
  bool lengths = false, packed = false, strided = false, floats = false, bitwise = false;
  Bad bad = Bad::kNothing;
};

struct Sequence {
  int64_t batch, query_row, key_row;
  int queries, keys;
};

std::vector<Sequence> sequences_of(const Case &c) {
  std::vector<Sequence> list;
  if (c.packed) {
    // Uneven lengths, one of them empty on either side.
    const int queries[] = {77, 0, c.queries - 77 - 1 - 60, 1, 60}, keys[] = {77, 5, c.keys - 77 - 5 - 33 - 9, 33, 9};
    int64_t query_row = 0, key_row = 0;
    for (int i = 0; i < 5; ++i) {
      list.push_back({0, query_row, key_row, queries[i], keys[i]});
      query_row += queries[i];
      key_row += keys[i];
    }
    return list;
  }
  for (int b = 0; b < c.batch; ++b)
    list.push_back({b, 0, 0, c.queries, c.lengths ? std::max(0, c.keys - 1 - b * (c.keys / 2 + 7)) : c.keys});
  return list;
}

struct Results {
  std::vector<double> lse, output, gate, factor, query, key, value;
};

struct Run {
  const Case &c;
  int32_t dtype, path;
  int head_dim, value_dim;
  std::vector<Sequence> sequences;
  std::vector<Results> exact, rounded;

  void reference(const Tensor &q, const Tensor &k, const Tensor &v, const Tensor &g, const DeviceArray<float> &factors,
                 const DeviceArray<float> &gate) {
    for (const Sequence &s : sequences) {
      for (const bool plain : {false, true}) {
        const size_t rows = static_cast<size_t>(c.query_heads) * static_cast<size_t>(std::max(s.queries, 1)),
                     keys = static_cast<size_t>(c.key_heads) * static_cast<size_t>(std::max(s.keys, 1)),
                     dim = static_cast<size_t>(head_dim), wide = static_cast<size_t>(value_dim);
        DeviceArray<double> lse(rows), output(rows * wide), delta(rows), gates(rows), factor(rows), query(rows * dim),
            key(keys * dim), value(keys * wide);
        // Sequences without queries or keys write nothing.
        for (DeviceArray<double> *array : {&lse, &output, &delta, &gates, &factor, &query, &key, &value})
          array->fill(0);
        const long long scalar = s.batch * c.query_heads * c.queries + s.query_row;
        NaiveSequence p{q.rows_from(s.batch, s.query_row),
                        k.rows_from(s.batch, s.key_row),
                        v.rows_from(s.batch, s.key_row),
                        g.rows_from(s.batch, s.query_row),
                        s.queries,
                        s.keys,
                        head_dim,
                        value_dim,
                        c.query_heads,
                        c.query_heads / c.key_heads,
                        c.causal,
                        c.at_end ? s.keys - s.queries : c.offset,
                        c.window,
                        1 / std::sqrt(static_cast<double>(head_dim)),
                        static_cast<double>(c.output_scale),
                        c.factor,
                        static_cast<double>(kFirst),
                        static_cast<double>(kSecond),
                        factors.data() + scalar,
                        c.gate ? gate.data() + scalar : nullptr,
                        c.queries,
                        plain,
                        lse.data(),
                        output.data(),
                        delta.data(),
                        gates.data(),
                        factor.data(),
                        query.data(),
                        key.data(),
                        value.data()};
        naive_softmax_backward(p, dtype);
        (plain ? rounded : exact)
            .push_back(
                {lse.read(), output.read(), gates.read(), factor.read(), query.read(), key.read(), value.read()});
      }
    }
  }
  static constexpr float kFirst = 0.4f, kSecond = 0.7f;
};

void test(const Case &c, const KernelDescription &kernel, int repeats = 1) {
  Run run{c, kernel.dtype, kernel.path, kernel.head_dim, kernel.value_dim, sequences_of(c), {}, {}};
  const int32_t dtype = kernel.dtype, gradient_type = c.floats ? static_cast<int32_t>(SIEVE_DTYPE_FLOAT32) : dtype;
  const auto query_like = [&](int dim, int32_t type) {
    return Tensor(c.batch, c.query_heads, c.queries, dim, type, c.strided);
  };
  const auto key_like = [&](int dim, int32_t type) {
    return Tensor(c.batch, c.key_heads, c.keys, dim, type, c.strided);
  };
  const auto row_values = [&] { return Tensor(c.batch, c.query_heads, c.queries, 1, SIEVE_DTYPE_FLOAT32, false); };
  Tensor q = query_like(run.head_dim, dtype), k = key_like(run.head_dim, dtype), v = key_like(run.value_dim, dtype),
         g = query_like(run.value_dim, dtype), o = query_like(run.value_dim, gradient_type), lse = row_values();
  Tensor dq = query_like(run.head_dim, gradient_type), dk = key_like(run.head_dim, gradient_type),
         dv = key_like(run.value_dim, gradient_type), dn = row_values(), dgate = row_values();
  uint32_t seed = 1;
  for (Tensor *t : {&q, &k, &v, &g}) t->randomize(seed++);
  if (c.bad == Bad::kQuery) poison_row(q, 0, 1, c.queries / 2);
  if (c.bad == Bad::kKey) poison_row(k, 0, 0, c.keys / 2);
  if (c.bad == Bad::kValue) poison_row(v, 0, 0, c.keys / 2);
  if (c.bad == Bad::kOutputGradient) poison_row(g, 0, 1, c.queries / 2);
  const size_t rows =
      static_cast<size_t>(c.batch) * static_cast<size_t>(c.query_heads) * static_cast<size_t>(c.queries);
  DeviceArray<float> factors(rows), gate(rows);
  std::mt19937 generator(9);
  std::normal_distribution<float> normal;
  std::vector<float> values(rows);
  for (float &x : values) x = 1 + 0.3f * normal(generator);
  factors.write(values);
  for (float &x : values) x = 2 * normal(generator);
  if (c.gate) values[rows / 3] = -200, values[rows / 2] = 90;  // the sigmoid underflows, and is 1
  gate.write(values);
  run.reference(q, k, v, g, factors, gate);

  std::vector<uint8_t> o_copy = o.memory.read(), lse_copy = lse.memory.read();
  for (size_t s = 0; s < run.sequences.size(); ++s) {
    const Sequence &at = run.sequences[s];
    for (int h = 0; h < c.query_heads; ++h)
      for (int r = 0; r < at.queries; ++r) {
        const size_t row = static_cast<size_t>(h) * static_cast<size_t>(at.queries) + static_cast<size_t>(r);
        lse.set(lse_copy, lse.at(at.batch, h, at.query_row + r, 0), run.exact[s].lse[row]);
        for (int d = 0; d < run.value_dim; ++d)
          o.set(o_copy, o.at(at.batch, h, at.query_row + r, d),
                run.exact[s].output[row * static_cast<size_t>(run.value_dim) + static_cast<size_t>(d)]);
      }
  }
  o.memory.write(o_copy);
  lse.memory.write(lse_copy);

  std::vector<int32_t> query_starts, key_starts, lengths;
  int longest = 0;
  for (const Sequence &s : run.sequences) {
    query_starts.push_back(static_cast<int32_t>(s.query_row));
    key_starts.push_back(static_cast<int32_t>(s.key_row));
    lengths.push_back(s.keys);
    longest = std::max(longest, s.queries);
  }
  query_starts.push_back(c.queries);
  key_starts.push_back(c.keys);
  DeviceArray<int32_t> d_query_starts(query_starts.size()), d_key_starts(key_starts.size()), d_lengths(lengths.size());
  d_query_starts.write(query_starts);
  d_key_starts.write(key_starts);
  d_lengths.write(lengths);
  DeviceArray<float> parameters(static_cast<size_t>(2 * c.query_heads));
  parameters.fill(0xff);

  sieve_attention_problem problem{};
  problem.struct_size = sizeof problem;
  problem.causal = c.causal;
  problem.path = run.path;
  problem.query_alignment = c.at_end ? SIEVE_QUERY_ALIGNMENT_END : SIEVE_QUERY_ALIGNMENT_OFFSET;
  problem.query_offset = c.at_end ? 0 : c.offset;
  problem.window = c.window;
  problem.output_scale = c.output_scale;
  problem.row_factor = c.factor;
  const bool has_first = c.factor == SIEVE_ROW_FACTOR_SSMAX || c.factor == SIEVE_ROW_FACTOR_ASENTMAX;
  const bool has_second = c.factor == SIEVE_ROW_FACTOR_ASENTMAX;
  if (has_first) problem.row_first.value = Run::kFirst;
  if (has_second) problem.row_second.value = Run::kSecond;
  if (c.factor == SIEVE_ROW_FACTOR_VECTOR)
    problem.row_factors = view(factors.data(), SIEVE_DTYPE_FLOAT32, c.batch, c.query_heads, c.queries, 1);
  if (c.gate) problem.gate = view(gate.data(), SIEVE_DTYPE_FLOAT32, c.batch, c.query_heads, c.queries, 1);
  problem.repeatability = c.bitwise ? SIEVE_REPEATABILITY_BITWISE : SIEVE_REPEATABILITY_FASTEST;
  if (c.packed) {
    problem.query_starts = d_query_starts.data();
    problem.key_starts = d_key_starts.data();
    problem.sequence_count = static_cast<int32_t>(run.sequences.size());
    problem.longest_query = longest;
  }
  if (c.lengths) problem.key_lengths = d_lengths.data();
  sieve_softmax_backward_arguments a{};
  a.struct_size = sizeof a;
  a.query = q.view();
  a.key = k.view();
  a.value = v.view();
  a.output = o.view();
  a.lse = lse.view();
  a.output_gradient = g.view();
  a.query_gradient = dq.view();
  a.key_gradient = dk.view();
  a.value_gradient = dv.view();
  if (c.factor != SIEVE_ROW_FACTOR_NONE) a.row_factor_gradient = dn.view();
  if (c.gate) a.gate_gradient = dgate.view();
  if (has_first) a.row_first_gradient = parameters.data();
  if (has_second) a.row_second_gradient = parameters.data() + c.query_heads;

  uint64_t bytes = 0;
  CHECK(sieve_softmax_backward_workspace(context, &problem, &a, &bytes) == SIEVE_STATUS_OK);
  DeviceArray<uint8_t> workspace(bytes + 512);
  std::vector<uint8_t> first[3];
  for (int repeat = 0; repeat < repeats; ++repeat) {
    workspace.fill(0xff);
    const int32_t status = sieve_softmax_backward(context, &problem, &a, workspace.data(), bytes, nullptr);
    if (status != SIEVE_STATUS_OK) std::fprintf(stderr, "%s: %s\n", c.name, sieve_last_message());
    CHECK(status == SIEVE_STATUS_OK);
    check_cuda(cudaDeviceSynchronize(), "sieve_softmax_backward");
    if (status != SIEVE_STATUS_OK) return;
    for (int i = 0; i < 3; ++i) {
      std::vector<uint8_t> now = (i == 0 ? dq : i == 1 ? dk : dv).memory.read();
      if (repeat == 0)
        first[i] = now;
      else
        CHECK(first[i] == now);
    }
  }
  uint8_t guard[512];
  check_cuda(cudaMemcpy(guard, workspace.data() + bytes, 512, cudaMemcpyDeviceToHost), "guard");
  for (const uint8_t x : guard) CHECK(x == 0xff);

  Comparison results[5] = {{"dq"}, {"dk"}, {"dv"}, {"dn"}, {"dgate"}};
  std::vector<uint8_t> dn_copy = dn.memory.read(), dgate_copy = dgate.memory.read();
  std::vector<double> first_sum(static_cast<size_t>(c.query_heads)), first_size(first_sum), second_sum(first_sum),
      second_size(first_sum);
  for (size_t s = 0; s < run.sequences.size(); ++s) {
    const Sequence &at = run.sequences[s];
    const Results &e = run.exact[s], &p = run.rounded[s];
    for (int h = 0; h < c.query_heads; ++h)
      for (int r = 0; r < at.queries; ++r) {
        const size_t row = static_cast<size_t>(h) * static_cast<size_t>(at.queries) + static_cast<size_t>(r);
        const size_t dim = row * static_cast<size_t>(run.head_dim), head = static_cast<size_t>(h);
        compare(results[0], dq, first[0], at.batch, h, at.query_row + r, &e.query[dim], &p.query[dim]);
        if (c.factor != SIEVE_ROW_FACTOR_NONE)
          compare(results[3], dn, dn_copy, at.batch, h, at.query_row + r, &e.factor[row], &p.factor[row]);
        if (c.gate) compare(results[4], dgate, dgate_copy, at.batch, h, at.query_row + r, &e.gate[row], &p.gate[row]);
        const long long position = r + (c.at_end ? at.keys - at.queries : c.offset);
        const long long low = c.window > 0 ? std::max(position - c.window + 1, 0ll) : 0;
        const long long high = c.causal ? std::min<long long>(position + 1, at.keys) : at.keys;
        const double visible = std::log(static_cast<double>(std::max(high - low, 1ll)));
        const double log_position = std::log(static_cast<double>(std::max(position, 0ll)) + 2);
        const double power = std::pow(log_position, static_cast<double>(Run::kSecond));
        const double one = e.factor[row] * (c.factor == SIEVE_ROW_FACTOR_SSMAX ? visible : power);
        const double two = e.factor[row] * static_cast<double>(Run::kFirst) * power * std::log(log_position);
        first_sum[head] += one;
        first_size[head] += std::fabs(one);
        second_sum[head] += two;
        second_size[head] += std::fabs(two);
      }
    for (int h = 0; h < c.key_heads; ++h)
      for (int r = 0; r < at.keys; ++r) {
        const size_t row = static_cast<size_t>(h) * static_cast<size_t>(at.keys) + static_cast<size_t>(r);
        const size_t dim = row * static_cast<size_t>(run.head_dim), wide = row * static_cast<size_t>(run.value_dim);
        compare(results[1], dk, first[1], at.batch, h, at.key_row + r, &e.key[dim], &p.key[dim]);
        compare(results[2], dv, first[2], at.batch, h, at.key_row + r, &e.value[wide], &p.value[wide]);
      }
    // Keys behind the valid ones: exactly 0.
    const std::vector<double> zeros(static_cast<size_t>(std::max(run.head_dim, run.value_dim)));
    for (int h = 0; c.lengths && h < c.key_heads; ++h)
      for (int r = at.keys; r < c.keys; ++r) {
        compare(results[1], dk, first[1], at.batch, h, r, zeros.data(), zeros.data());
        compare(results[2], dv, first[2], at.batch, h, r, zeros.data(), zeros.data());
      }
  }
  const double unit = dtype == SIEVE_DTYPE_BFLOAT16 ? 1.0 / 128 : 1.0 / 1024;
  const std::vector<float> sums = parameters.read();
  bool parameters_good = true;
  for (size_t h = 0; h < first_sum.size() && c.bad == Bad::kNothing; ++h) {
    if (has_first) parameters_good &= std::fabs(static_cast<double>(sums[h]) - first_sum[h]) <= unit * first_size[h];
    if (has_second)
      parameters_good &=
          std::fabs(static_cast<double>(sums[h + first_sum.size()]) - second_sum[h]) <= unit * second_size[h];
  }
  bool good = parameters_good && all_poison(first[0]) && all_poison(first[1]) && all_poison(first[2]);
  for (const Comparison &r : results) good = good && r.good(dtype);
  if (!good || std::getenv("SIEVE_TEST_VERBOSE") != nullptr) {
    std::printf("%s %s %s D%d/%d: %s, guards %d%d%d, parameters %d\n", good ? "    ok" : "FAILED",
                run.path == SIEVE_PATH_HOPPER ? "hopper" : "generic", dtype == SIEVE_DTYPE_BFLOAT16 ? "bf16" : "fp16",
                run.head_dim, run.value_dim, c.name, all_poison(first[0]), all_poison(first[1]), all_poison(first[2]),
                parameters_good);
    for (const Comparison &r : results)
      if (r.count > 0)
        std::printf("         %-5s max %.2e  error %.2e (plain %.2e)  rms %.2e (plain %.2e)%s\n", r.name.c_str(),
                    r.largest, r.error, r.plain, std::sqrt(r.squares / static_cast<double>(r.count)),
                    std::sqrt(r.plain_squares / static_cast<double>(r.count)),
                    r.bad_values ? "  NaN in wrong rows" : "");
  }
  CHECK(good);
}

// Heads more than 2^31 elements apart give bit for bit what heads side by side give.
void test_far(const KernelDescription &kernel) {
  constexpr int64_t kHeads = 2, kRows = 300, kFar = (int64_t{1} << 31) + 4096;
  const int64_t dim = kernel.head_dim, size = kRows * dim;
  size_t free_bytes = 0, total_bytes = 0;
  check_cuda(cudaMemGetInfo(&free_bytes, &total_bytes), "cudaMemGetInfo");
  const size_t elements = static_cast<size_t>(kFar + 8 * size);
  if (free_bytes < 2 * elements + (size_t{1} << 30)) {
    std::printf("not run: offsets beyond 2^31 need %zu MB of device memory\n", 2 * elements >> 20);
    return;
  }
  DeviceArray<uint16_t> far(elements), near(static_cast<size_t>(8 * kHeads * size));
  DeviceArray<float> lse(kHeads * kRows);
  lse.write(std::vector<float>(kHeads * kRows, 5.0f));
  near.write(random_elements(near.count(), kernel.dtype, 3));
  for (int64_t tensor = 0; tensor < 8; ++tensor)
    for (int64_t head = 0; head < kHeads; ++head)
      check_cuda(cudaMemcpy(far.data() + tensor * size + head * kFar, near.data() + (tensor * kHeads + head) * size,
                            static_cast<size_t>(2 * size), cudaMemcpyDeviceToDevice),
                 "copy");
  sieve_attention_problem problem{};
  problem.struct_size = sizeof problem;
  problem.causal = 1;
  problem.path = kernel.path;
  problem.output_scale = 1;
  problem.repeatability = SIEVE_REPEATABILITY_BITWISE;
  for (const bool is_far : {false, true}) {
    const auto tensor = [&](int64_t index) {
      uint16_t *data = is_far ? far.data() + index * size : near.data() + index * kHeads * size;
      sieve_tensor t = view(data, kernel.dtype, 1, kHeads, kRows, dim);
      if (is_far) t.strides[1] = kFar;
      return t;
    };
    sieve_softmax_backward_arguments a{};
    a.struct_size = sizeof a;
    a.query = tensor(0);
    a.key = tensor(1);
    a.value = tensor(2);
    a.output = tensor(3);
    a.output_gradient = tensor(4);
    a.query_gradient = tensor(5);
    a.key_gradient = tensor(6);
    a.value_gradient = tensor(7);
    a.lse = view(lse.data(), SIEVE_DTYPE_FLOAT32, 1, kHeads, kRows, 1);
    uint64_t bytes = 0;
    CHECK(sieve_softmax_backward_workspace(context, &problem, &a, &bytes) == SIEVE_STATUS_OK);
    DeviceArray<uint8_t> workspace(bytes);
    CHECK(sieve_softmax_backward(context, &problem, &a, workspace.data(), bytes, nullptr) == SIEVE_STATUS_OK);
    check_cuda(cudaDeviceSynchronize(), "far");
  }
  const std::vector<uint16_t> expected = near.read();
  for (int64_t tensor = 0; tensor < 8; ++tensor)
    for (int64_t head = 0; head < kHeads; ++head) {
      std::vector<uint16_t> found(static_cast<size_t>(size));
      check_cuda(
          cudaMemcpy(found.data(), far.data() + tensor * size + head * kFar, 2 * found.size(), cudaMemcpyDeviceToHost),
          "copy");
      CHECK(std::equal(found.begin(), found.end(), expected.begin() + (tensor * kHeads + head) * size));
    }
}

constexpr int kSsmax = SIEVE_ROW_FACTOR_SSMAX, kAsentmax = SIEVE_ROW_FACTOR_ASENTMAX, kVector = SIEVE_ROW_FACTOR_VECTOR;

const Case kCases[] = {
    {.name = "one row, one key", .queries = 1, .keys = 1},
    {.name = "17 causal", .queries = 17, .keys = 17},
    {.name = "113 x 203", .queries = 113, .keys = 203},
    {.name = "239 full", .queries = 239, .keys = 239, .causal = false},
    {.name = "799 x 3 full", .queries = 799, .keys = 3, .causal = false},
    {.name = "3 x 799", .queries = 3, .keys = 799},
    {.name = "rows before every key: 300 x 200", .queries = 300, .keys = 200},
    {.name = "offset -100", .queries = 300, .keys = 300, .at_end = false, .offset = -100},
    {.name = "offset 400, beyond the keys", .queries = 100, .keys = 300, .at_end = false, .offset = 400, .window = 150},
    {.name = "window 37", .queries = 500, .keys = 500, .window = 37},
    {.name = "window 200, full, offset 50",
     .queries = 400,
     .keys = 300,
     .causal = false,
     .at_end = false,
     .offset = 50,
     .window = 200},
    {.name = "grouped heads, batch 2, 1023 x 1024",
     .batch = 2,
     .query_heads = 4,
     .key_heads = 2,
     .queries = 1023,
     .keys = 1024},
    {.name = "one key head of 8", .query_heads = 8, .key_heads = 1, .queries = 300, .keys = 300},
    {.name = "packed", .query_heads = 4, .key_heads = 2, .queries = 600, .keys = 700, .packed = true},
    {.name = "packed, full, bitwise", .queries = 600, .keys = 700, .causal = false, .packed = true, .bitwise = true},
    {.name = "lengths", .batch = 3, .queries = 300, .keys = 400, .lengths = true},
    {.name = "lengths, full, strided",
     .batch = 3,
     .queries = 300,
     .keys = 400,
     .causal = false,
     .lengths = true,
     .strided = true},
    {.name = "strided, float32 gradients",
     .batch = 2,
     .query_heads = 4,
     .key_heads = 2,
     .queries = 300,
     .keys = 300,
     .strided = true,
     .floats = true},
    {.name = "gate, output scale 3", .queries = 300, .keys = 300, .gate = true, .output_scale = 3},
    {.name = "gate, output scale -0.5, packed",
     .queries = 600,
     .keys = 600,
     .gate = true,
     .output_scale = -0.5f,
     .packed = true},
    {.name = "output scale 0", .queries = 100, .keys = 100, .output_scale = 0},
    {.name = "ssmax", .queries = 300, .keys = 300, .factor = kSsmax},
    {.name = "asentmax, packed, grouped",
     .query_heads = 4,
     .key_heads = 2,
     .queries = 600,
     .keys = 700,
     .factor = kAsentmax,
     .packed = true},
    {.name = "vector, window, batch 2", .batch = 2, .queries = 300, .keys = 300, .window = 100, .factor = kVector},
    {.name = "ssmax, rows without keys, gate", .queries = 300, .keys = 200, .factor = kSsmax, .gate = true},
    {.name = "NaN in a query", .queries = 300, .keys = 300, .bad = Bad::kQuery},
    {.name = "NaN in a key", .queries = 300, .keys = 300, .bad = Bad::kKey},
    {.name = "NaN in a value", .queries = 300, .keys = 300, .bad = Bad::kValue},
    {.name = "NaN in an output gradient", .queries = 300, .keys = 300, .bad = Bad::kOutputGradient},
    {.name = "NaN in a key, window, grouped",
     .query_heads = 4,
     .queries = 500,
     .keys = 500,
     .window = 70,
     .bad = Bad::kKey},
    {.name = "NaN in a query, window", .queries = 500, .keys = 500, .window = 70, .bad = Bad::kQuery},
    {.name = "NaN in an output gradient, window",
     .queries = 500,
     .keys = 500,
     .window = 70,
     .bad = Bad::kOutputGradient},
    {.name = "NaN in a key, full", .queries = 300, .keys = 300, .causal = false, .bad = Bad::kKey},
};
const Case kLongCases[] = {
    {.name = "4224 causal", .query_heads = 1, .key_heads = 1, .queries = 4224, .keys = 4224},
    {.name = "1024 x 4224 causal", .query_heads = 2, .key_heads = 1, .queries = 1024, .keys = 4224},
};
const Case kRepeatedCases[] = {
    {.name = "bitwise, causal", .query_heads = 4, .key_heads = 2, .queries = 1500, .keys = 1500, .bitwise = true},
    {.name = "bitwise, full, window",
     .query_heads = 4,
     .key_heads = 4,
     .queries = 1000,
     .keys = 1200,
     .causal = false,
     .window = 500,
     .bitwise = true},
};
const Case kMixedCases[] = {
    {.name = "mixed dims, causal", .query_heads = 4, .key_heads = 2, .queries = 300, .keys = 417},
    {.name = "mixed dims, float32, gate, vector",
     .queries = 200,
     .keys = 200,
     .factor = kVector,
     .gate = true,
     .floats = true},
};

}  // namespace sieve::test

int main(int count, char **arguments) {
  using namespace sieve::test;
  read_arguments(count, arguments, 200);
  sieve_context_options options{};
  options.struct_size = sizeof options;
  options.log_level = SIEVE_LOG_NONE;
  if (sieve_context_create(&options, &context) != SIEVE_STATUS_OK) {
    std::printf("skipped: %s\n", sieve_last_message());
    return 77;
  }
  const auto kernels = sieve::softmax::backward_kernels();
  for (int i = 0; i < kernels.count; ++i) {
    const sieve::KernelDescription &kernel = kernels.first[i].description;
    const sieve_support_query query{sizeof query, kernel.operation, kernel.direction, kernel.path,
                                    kernel.dtype, kernel.head_dim,  kernel.value_dim, 0};
    if (sieve_support(context, &query) != SIEVE_STATUS_OK) {
      std::printf("not run: %s\n", sieve_last_message());
      continue;
    }
    const int before = failures, cases = choice.cases;
    // A case is called "hopper bf16 D64/64, cases: window 37".
    const std::string name = std::string(kernel.path == SIEVE_PATH_HOPPER ? "hopper" : "generic") +
                             (kernel.dtype == SIEVE_DTYPE_BFLOAT16 ? " bf16" : " fp16") + " D" +
                             std::to_string(kernel.head_dim) + "/" + std::to_string(kernel.value_dim);
    const auto run = [&](const char *group, std::span<const Case> list, int repeats = 1) {
      for (const Case &c : list)
        if (chosen(name + ", " + group + ": " + c.name)) test(c, kernel, repeats);
    };
    run("mixed", kMixedCases);
    if (kernel.head_dim == kernel.value_dim) {
      run("cases", kCases);
      run("repeated", kRepeatedCases, choice.repeats);
      if (kernel.dtype == SIEVE_DTYPE_BFLOAT16) run("long", kLongCases);
      if (chosen(name + ", far heads")) test_far(kernel);
    }
    if (choice.cases == cases) continue;
    std::printf("%s %s\n", failures == before ? "passed" : "FAILED", name.c_str());
    std::fflush(stdout);
  }
  CHECK(sieve_context_destroy(context) == SIEVE_STATUS_OK);
  return finish();
}
