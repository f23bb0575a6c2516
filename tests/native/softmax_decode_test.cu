// Decode of softmax attention through the C ABI against float64 on the same device, on both paths: for kernel
// developers, without .NET.
//
// Rule: the largest error of an output is at most twice that of a plain evaluation in the element type, plus half a
// unit of the largest output. Everything of the cache that no row sees (behind the valid keys, before the window, pages
// of nobody) is NaN, outputs lie between guard bytes and begin as 0xff.
#include <algorithm>
#include <cstring>
#include <string>

#include "tests/native/support/check.h"
#include "tests/native/support/naive_softmax_decode.h"

namespace sieve::test {

sieve_context *context = nullptr;

constexpr int32_t kBf16 = SIEVE_DTYPE_BFLOAT16, kFp16 = SIEVE_DTYPE_FLOAT16;

struct Case {
  const char *name;
  int32_t dtype;
  int batch, query_heads, key_heads, queries, keys, dim, value_dim;
  std::vector<int> lengths;  // empty: all keys
  bool causal = true;
  int64_t window = 0;
  bool align_end = true;
  int64_t offset = 0;
  int page_size = 0;
  int row_factor = SIEVE_ROW_FACTOR_NONE;
  float row_first = 0, row_second = 0;
  bool norm = false, gate = false;
  float output_scale = 1;
  bool float32_output = false;
  bool interleaved = false;  // memory order [batch, rows, heads, channels]
};

sieve_tensor strided(void *data, int32_t dtype, int64_t batch, int64_t heads, int64_t rows, int64_t channels,
                     bool interleaved) {
  sieve_tensor t = view(data, dtype, batch, heads, rows, channels);
  if (interleaved) {
    t.strides[1] = channels;
    t.strides[2] = heads * channels;
  }
  return t;
}

size_t product(std::initializer_list<int64_t> sizes) {
  size_t result = 1;
  for (const int64_t size : sizes) result *= static_cast<size_t>(size);
  return result;
}

// The tensors of a case. Pages are a shuffled copy of the contiguous cache, so both hold the same keys.
struct Inputs {
  const Case &c;
  int width;  // pages of an entry
  int pages;  // a few more than needed
  DeviceArray<uint16_t> q, k, v, paged_k, paged_v;
  DeviceArray<int32_t> lengths, table;
  DeviceArray<float> gain, gate, factors;

  explicit Inputs(const Case &problem, uint32_t seed = 1)
      : c(problem),
        width(c.page_size == 0 ? 0 : (c.keys + c.page_size - 1) / c.page_size),
        pages(c.page_size == 0 ? 1 : c.batch * width + 3),
        q(product({c.batch, c.query_heads, c.queries, c.dim})),
        k(product({c.batch, c.key_heads, c.keys, c.dim})),
        v(product({c.batch, c.key_heads, c.keys, c.value_dim})),
        paged_k(product({pages, c.key_heads, std::max(c.page_size, 1), c.dim})),
        paged_v(product({pages, c.key_heads, std::max(c.page_size, 1), c.value_dim})),
        lengths(static_cast<size_t>(c.batch)),
        table(static_cast<size_t>(std::max(c.batch * width, 1))),
        gain(static_cast<size_t>(c.value_dim)),
        gate(product({c.batch, c.query_heads, c.queries})),
        factors(gate.count()) {
    q.write(random_elements(q.count(), c.dtype, seed));
    std::vector<uint16_t> key = random_elements(k.count(), c.dtype, seed + 1);
    std::vector<uint16_t> value = random_elements(v.count(), c.dtype, seed + 2);
    for (int b = 0; b < c.batch; ++b) {
      const int64_t length = c.lengths.empty() ? c.keys : std::min(c.lengths[static_cast<size_t>(b)], c.keys);
      const int64_t position = c.align_end ? length - c.queries : c.offset;
      const int64_t first = c.window > 0 ? position - c.window + 1 : 0;
      const int64_t end = c.causal ? std::min(length, position + c.queries) : length;
      for (int64_t row = 0; row < c.keys; ++row)
        if (row < first || row >= end) poison(key, c.dim, b, row), poison(value, c.value_dim, b, row);
    }
    k.write(key);
    v.write(value);
    std::vector<int32_t> all = c.lengths;
    all.resize(static_cast<size_t>(c.batch), c.keys);
    lengths.write(all);
    std::mt19937 generator(seed + 3);
    std::normal_distribution<float> normal;
    for (DeviceArray<float> *array : {&gain, &gate, &factors}) {
      std::vector<float> values(array->count());
      for (float &x : values) x = normal(generator);
      array->write(values);
    }
    if (c.page_size > 0) make_pages(key, value, generator);
  }

  size_t index(int channels, int64_t b, int64_t head, int64_t row) const {
    const int64_t step = c.interleaved ? row * c.key_heads + head : head * c.keys + row;
    return static_cast<size_t>((b * c.key_heads * c.keys + step) * channels);
  }
  void poison(std::vector<uint16_t> &data, int channels, int64_t b, int64_t row) const {
    for (int head = 0; head < c.key_heads; ++head)
      std::fill_n(data.begin() + static_cast<int64_t>(index(channels, b, head, row)), channels, uint16_t{0xffff});
  }

  void make_pages(const std::vector<uint16_t> &key, const std::vector<uint16_t> &value, std::mt19937 &generator) {
    std::vector<int32_t> order(static_cast<size_t>(pages));
    for (int i = 0; i < pages; ++i) order[static_cast<size_t>(i)] = i;
    std::shuffle(order.begin(), order.end(), generator);
    std::vector<int32_t> names(order.begin(), order.begin() + c.batch * width);
    std::vector<uint16_t> pk(paged_k.count(), 0xffff), pv(paged_v.count(), 0xffff);
    for (int b = 0; b < c.batch; ++b)
      for (int64_t row = 0; row < c.keys; ++row)
        for (int head = 0; head < c.key_heads; ++head) {
          const int64_t page = names[static_cast<size_t>(b * width + row / c.page_size)];
          const int64_t target = c.interleaved ? (page * c.page_size + row % c.page_size) * c.key_heads + head
                                               : (page * c.key_heads + head) * c.page_size + row % c.page_size;
          std::copy_n(&key[index(c.dim, b, head, row)], c.dim, &pk[static_cast<size_t>(target * c.dim)]);
          std::copy_n(&value[index(c.value_dim, b, head, row)], c.value_dim,
                      &pv[static_cast<size_t>(target * c.value_dim)]);
        }
    paged_k.write(pk);
    paged_v.write(pv);
    // Numbers behind the valid keys are not to be read: an impossible page.
    for (int b = 0; b < c.batch; ++b) {
      const int length = c.lengths.empty() ? c.keys : c.lengths[static_cast<size_t>(b)];
      for (int page = (length + c.page_size - 1) / c.page_size; page < width; ++page)
        names[static_cast<size_t>(b * width + page)] = 1 << 30;
    }
    table.write(names);
  }
};

struct Call {
  sieve_attention_problem problem{};
  sieve_softmax_decode_arguments a{};

  Call(const Inputs &in, bool paged, int32_t path, int32_t splits) {
    const Case &c = in.c;
    problem.struct_size = sizeof problem;
    problem.causal = c.causal;
    problem.path = path;
    problem.query_alignment = c.align_end ? SIEVE_QUERY_ALIGNMENT_END : SIEVE_QUERY_ALIGNMENT_OFFSET;
    problem.query_offset = c.offset;
    problem.window = c.window;
    problem.key_lengths = in.lengths.data();
    problem.row_factor = c.row_factor;
    problem.row_first.value = c.row_first;
    problem.row_second.value = c.row_second;
    if (c.row_factor == SIEVE_ROW_FACTOR_VECTOR)
      problem.row_factors = view(in.factors.data(), SIEVE_DTYPE_FLOAT32, c.batch, c.query_heads, c.queries, 1);
    if (c.norm) {
      problem.norm = SIEVE_NORM_RMS;
      problem.norm_eps = 1e-5f;
      problem.norm_gain = in.gain.data();
    }
    if (c.gate) problem.gate = view(in.gate.data(), SIEVE_DTYPE_FLOAT32, c.batch, c.query_heads, c.queries, 1);
    problem.output_scale = c.output_scale;
    a.struct_size = sizeof a;
    a.splits = splits;
    a.query = strided(in.q.data(), c.dtype, c.batch, c.query_heads, c.queries, c.dim, c.interleaved);
    const int64_t entries = paged ? in.pages : c.batch, rows = paged ? c.page_size : c.keys;
    a.key = strided(paged ? in.paged_k.data() : in.k.data(), c.dtype, entries, c.key_heads, rows, c.dim, c.interleaved);
    a.value = strided(paged ? in.paged_v.data() : in.v.data(), c.dtype, entries, c.key_heads, rows, c.value_dim,
                      c.interleaved);
    if (paged) {
      a.page_table = in.table.data();
      a.page_table_width = in.width;
    }
  }
};

constexpr size_t kGuard = 256;  // bytes before and after an output

struct Outputs {
  std::vector<uint8_t> out, lse;  // without guards
  bool operator==(const Outputs &) const = default;
};

// Results of a case in device memory, and how a call writes them.
struct Target {
  const Case &c;
  size_t bytes_per_element;
  DeviceArray<uint8_t> out, lse;

  explicit Target(const Case &problem)
      : c(problem),
        bytes_per_element(c.float32_output ? 4 : 2),
        out(bytes_per_element * product({c.batch, c.query_heads, c.queries, c.value_dim}) + 2 * kGuard),
        lse(4 * product({c.batch, c.query_heads, c.queries}) + 2 * kGuard) {}

  void attach(Call &call) {
    out.fill(0xff);
    lse.fill(0xff);
    call.a.output = strided(out.data() + kGuard, c.float32_output ? static_cast<int32_t>(SIEVE_DTYPE_FLOAT32) : c.dtype,
                            c.batch, c.query_heads, c.queries, c.value_dim, c.interleaved);
    call.a.lse = view(lse.data() + kGuard, SIEVE_DTYPE_FLOAT32, c.batch, c.query_heads, c.queries, 1);
  }
  static std::vector<uint8_t> inside(const DeviceArray<uint8_t> &array) {
    const std::vector<uint8_t> bytes = array.read();
    bool intact = true;
    for (size_t i = 0; i < kGuard; ++i) intact = intact && bytes[i] == 0xff && bytes[bytes.size() - 1 - i] == 0xff;
    CHECK(intact);
    return {bytes.begin() + kGuard, bytes.end() - kGuard};
  }
  Outputs read() const { return {inside(out), inside(lse)}; }
};

struct WorkspaceMemory {
  DeviceArray<uint8_t> memory;
  static uint64_t size(const Call &call) {
    uint64_t bytes = 0;
    CHECK(sieve_softmax_decode_workspace(context, &call.problem, &call.a, &bytes) == SIEVE_STATUS_OK);
    return std::max<uint64_t>(bytes, 256);
  }
  explicit WorkspaceMemory(const Call &call) : memory(size(call)) { memory.fill(0xff); }
};

void launch(const Call &call, const WorkspaceMemory &workspace, cudaStream_t stream = nullptr) {
  const int32_t status =
      sieve_softmax_decode(context, &call.problem, &call.a, workspace.memory.data(), workspace.memory.bytes(), stream);
  if (status != SIEVE_STATUS_OK) std::fprintf(stderr, "%s\n", sieve_last_message());
  CHECK(status == SIEVE_STATUS_OK);
}

Outputs run(const Inputs &in, bool paged, int32_t path, int32_t splits) {
  Call call(in, paged, path, splits);
  Target target(in.c);
  target.attach(call);
  const WorkspaceMemory workspace(call);
  launch(call, workspace);
  check_cuda(cudaDeviceSynchronize(), in.c.name);
  return target.read();
}

NaiveDecodeResult reference(const Inputs &in) {
  const Case &c = in.c;
  const Call call(in, false, SIEVE_PATH_AUTOMATIC, 1);
  return naive_decode({c.batch,
                       c.query_heads,
                       c.key_heads,
                       c.queries,
                       c.keys,
                       c.dim,
                       c.value_dim,
                       c.causal,
                       c.window,
                       c.align_end,
                       c.offset,
                       1 / std::sqrt(static_cast<double>(c.dim)),
                       c.row_factor,
                       static_cast<double>(c.row_first),
                       static_cast<double>(c.row_second),
                       c.norm,
                       c.norm ? 1e-5 : 0,
                       static_cast<double>(c.output_scale),
                       c.dtype,
                       in.lengths.data(),
                       nullptr,
                       0,
                       1,
                       c.norm ? in.gain.data() : nullptr,
                       c.gate ? in.gate.data() : nullptr,
                       in.factors.data(),
                       call.a.query,
                       call.a.key,
                       call.a.value});
}

struct Error {
  double out = 0, plain = 0, lse = 0, largest = 0;
};

// Output element of row (b, head, query), whatever the memory order.
double element(const Case &c, const Outputs &o, int64_t b, int64_t head, int64_t query, int64_t channel) {
  const int64_t row =
      c.interleaved ? (b * c.queries + query) * c.query_heads + head : (b * c.query_heads + head) * c.queries + query;
  const size_t index = static_cast<size_t>(row * c.value_dim + channel);
  if (c.float32_output) {
    float value;
    std::memcpy(&value, &o.out[4 * index], 4);
    return static_cast<double>(value);
  }
  uint16_t bits;
  std::memcpy(&bits, &o.out[2 * index], 2);
  return from_bits(bits, c.dtype);
}

double lse_of(const Outputs &o, size_t row) {
  float value;
  std::memcpy(&value, &o.lse[4 * row], 4);
  return static_cast<double>(value);
}

Error compare(const Case &c, const Outputs &o, const NaiveDecodeResult &expected) {
  Error e;
  const auto raise = [](double &most, double value) {
    if (!(value <= most)) most = value;  // NaN stays
  };
  size_t row = 0;
  for (int b = 0; b < c.batch; ++b)
    for (int head = 0; head < c.query_heads; ++head)
      for (int query = 0; query < c.queries; ++query, ++row) {
        for (int channel = 0; channel < c.value_dim; ++channel) {
          const size_t i = row * static_cast<size_t>(c.value_dim) + static_cast<size_t>(channel);
          raise(e.out, std::fabs(element(c, o, b, head, query, channel) - expected.out[i]));
          raise(e.plain, std::fabs(expected.plain[i] - expected.out[i]));
          e.largest = std::max(e.largest, std::fabs(expected.out[i]));
        }
        const double lse = lse_of(o, row);
        if (std::isinf(expected.lse[row]))
          CHECK(lse == expected.lse[row]);
        else
          raise(e.lse, std::fabs(lse - expected.lse[row]) / std::max(1.0, std::fabs(expected.lse[row])));
      }
  return e;
}

void test(const Inputs &in, const NaiveDecodeResult &expected, int32_t path) {
  const Case &c = in.c;
  Error worst;
  std::string failed;
  for (const int32_t splits : {0, 1, 2, 3, 7, 16, 64}) {
    for (const bool paged : {false, true}) {
      if (paged && c.page_size == 0) continue;
      const Outputs first = run(in, paged, path, splits);
      const Error e = compare(c, first, expected);
      const double allowed = 2 * e.plain + e.largest * (c.dtype == kBf16 ? 1.0 / 1024 : 1.0 / 8192);
      if (!(e.out <= allowed) || !(e.lse <= 1e-5)) failed += " " + std::to_string(splits) + (paged ? "p" : "");
      if (!(e.out <= worst.out)) worst.out = e.out;
      if (!(e.lse <= worst.lse)) worst.lse = e.lse;
      worst.plain = e.plain;
      worst.largest = e.largest;
      if (!(first == run(in, paged, path, splits))) failed += " repeat" + std::to_string(splits);
      // Whole pages may hold more keys than the contiguous cache has rows, and more splits may then be chosen for them.
      if (paged && splits != 0 && !(first == run(in, false, path, splits))) failed += " paged!=contiguous" + std::to_string(splits);
    }
  }
  std::printf("%-8s %-52s max|out| %.2e error %.2e plain %.2e lse %.1e%s%s\n",
              path == SIEVE_PATH_HOPPER ? "hopper" : "generic", c.name, worst.largest, worst.out, worst.plain,
              worst.lse, failed.empty() ? "" : "  FAILED:", failed.c_str());
  CHECK(failed.empty());
}

// Step t of a decode gives what row t of the whole sequence gives: entry b holds the first lengths[b] keys of one
// cache.
void test_steps(int32_t path) {
  const std::vector<int> steps = {1, 17, 113, 239, 799, 1023, 1024, 4224};
  const int count = static_cast<int>(steps.size()), keys = 4224;
  const Case c{"every step is a row of the prefill", kBf16, count, 4, 2, 1, keys, 64, 64, steps};
  const Inputs in(c);
  // One cache and one query for all entries.
  std::vector<uint16_t> key = random_elements(in.k.count(), kBf16, 5), value = random_elements(in.v.count(), kBf16, 6);
  std::vector<uint16_t> query = random_elements(in.q.count(), kBf16, 7);
  for (int b = 1; b < count; ++b) {
    const auto repeat = [&](std::vector<uint16_t> &data) {
      const auto part = static_cast<int64_t>(data.size()) / count;
      std::copy_n(data.begin(), part, data.begin() + b * part);
    };
    repeat(key), repeat(value);
  }
  in.k.write(key);
  in.v.write(value);
  in.q.write(query);
  const Outputs o = run(in, false, path, 0);
  double error = 0, plain = 0;
  for (int b = 0; b < count; ++b) {
    // The prefill has steps[b] rows; only its last row is evaluated, at its place by the offset.
    NaiveDecode p{1,
                  4,
                  2,
                  1,
                  keys,
                  64,
                  64,
                  true,
                  0,
                  false,
                  steps[static_cast<size_t>(b)] - 1,
                  1 / 8.0,
                  0,
                  0,
                  0,
                  false,
                  0,
                  1,
                  kBf16,
                  nullptr,
                  nullptr,
                  0,
                  1,
                  nullptr,
                  nullptr,
                  nullptr,
                  view(in.q.data() + b * 4 * 64, kBf16, 1, 4, 1, 64),
                  view(in.k.data(), kBf16, 1, 2, keys, 64),
                  view(in.v.data(), kBf16, 1, 2, keys, 64)};
    const NaiveDecodeResult row = naive_decode(p);
    for (size_t i = 0; i < row.out.size(); ++i) {
      const double x = element(c, o, b, static_cast<int64_t>(i / 64), 0, static_cast<int64_t>(i % 64));
      error = std::max(error, std::fabs(x - row.out[i]));
      plain = std::max(plain, std::fabs(row.plain[i] - row.out[i]));
    }
  }
  std::printf("%-8s %-52s error %.2e plain %.2e\n", path == SIEVE_PATH_HOPPER ? "hopper" : "generic", c.name, error,
              plain);
  CHECK(error <= 2 * plain);
}

// A captured graph replays with grown caches.
void test_graph(int32_t path, bool paged) {
  Case c{"captured graph, grown caches", kBf16, 3, 8, 2, 2, 3000, 128, 128, {1500, 0, 2999}};
  c.page_size = 64;
  Case grown = c;
  grown.lengths = {1501, 77, 3000};
  const Inputs after(grown);
  Call call(after, paged, path, 0);
  Target target(grown);
  target.attach(call);
  const WorkspaceMemory workspace(call);
  cudaStream_t stream;
  cudaGraph_t graph;
  cudaGraphExec_t exec;
  check_cuda(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "stream");
  check_cuda(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "capture");
  launch(call, workspace, stream);
  check_cuda(cudaStreamEndCapture(stream, &graph), "end of capture");
  check_cuda(cudaGraphInstantiate(&exec, graph, 0), "instantiate");
  bool equal = true;
  for (const std::vector<int> &lengths : {c.lengths, grown.lengths, c.lengths, grown.lengths}) {
    check_cuda(cudaMemcpy(after.lengths.data(), lengths.data(), 12, cudaMemcpyHostToDevice), "lengths");
    target.attach(call);
    check_cuda(cudaDeviceSynchronize(), "before the replay");
    check_cuda(cudaGraphLaunch(exec, stream), "replay");
    check_cuda(cudaStreamSynchronize(stream), "replay");
    const Outputs replayed = target.read();
    Call direct(after, paged, path, 0);
    Target second(grown);
    second.attach(direct);
    launch(direct, workspace);
    check_cuda(cudaDeviceSynchronize(), "direct");
    equal = equal && replayed == second.read();
  }
  const Error e = compare(grown, target.read(), reference(after));
  std::printf("%-8s %-52s error %.2e plain %.2e replays %s\n", path == SIEVE_PATH_HOPPER ? "hopper" : "generic",
              paged ? "captured graph, grown caches, paged" : c.name, e.out, e.plain, equal ? "equal" : "DIFFER");
  CHECK(equal);
  CHECK(e.out <= 2 * e.plain + e.largest / 1024);
  cudaGraphExecDestroy(exec);
  cudaGraphDestroy(graph);
  cudaStreamDestroy(stream);
}

// NaN in a query row, in a key and in a value that only some rows see: it stays with the rows that see it.
void test_nan(int32_t path) {
  Case c{"NaN stays with the rows that see it", kBf16, 2, 8, 2, 4, 700, 128, 128, {600, 700}};
  const Inputs in(c);
  const NaiveDecodeResult clean = reference(in);
  std::vector<uint16_t> q = in.q.read(), k = in.k.read(), v = in.v.read();
  q[static_cast<size_t>(((0 * 8 + 1) * 4 + 2) * 128 + 5)] = 0xffff;  // entry 0, head 1, row 2
  v[in.index(128, 0, 1, 598) + 7] = 0x7fc0;  // entry 0, key head 1: seen by rows 2 and 3; channel 7
  k[in.index(128, 1, 0, 699) + 9] = 0x7fc0;  // entry 1, key head 0: seen by row 3
  in.q.write(q);
  in.k.write(k);
  in.v.write(v);
  size_t wrong = 0;
  for (const int32_t splits : {1, 5, 0}) {
    const Outputs o = run(in, false, path, splits);
    for (int b = 0; b < 2; ++b)
      for (int head = 0; head < 8; ++head)
        for (int query = 0; query < 4; ++query)
          for (int channel = 0; channel < 128; ++channel) {
            const bool nan = (b == 0 && head == 1 && query == 2) ||
                             (b == 0 && head >= 4 && query >= 2 && channel == 7) || (b == 1 && head < 4 && query == 3);
            const double x = element(c, o, b, head, query, channel);
            const size_t i = static_cast<size_t>(((b * 8 + head) * 4 + query) * 128 + channel);
            wrong += nan ? !std::isnan(x) : !(std::fabs(x - clean.out[i]) < 0.02);
          }
  }
  std::printf("%-8s %-52s %zu elements wrong\n", path == SIEVE_PATH_HOPPER ? "hopper" : "generic", c.name, wrong);
  CHECK(wrong == 0);
}

// Element offsets beyond 2^31, by the stride of heads and by that of rows.
void test_far(int32_t path) {
  constexpr int64_t kFar = (int64_t{1} << 31) + 4096, kFarRow = (int64_t{1} << 21) + 4096;
  size_t free_bytes = 0, total_bytes = 0;
  check_cuda(cudaMemGetInfo(&free_bytes, &total_bytes), "memory");
  if (free_bytes < static_cast<size_t>(6 * kFar)) {
    std::printf("not run: offsets beyond 2^31 need %lld free bytes\n", static_cast<long long>(6 * kFar));
    return;
  }
  const Case c{"element offsets beyond 2^31", kBf16, 1, 4, 2, 1, 1100, 64, 64, {}};
  const Inputs in(c);
  const Outputs near = run(in, false, path, 4);
  DeviceArray<uint16_t> far(static_cast<size_t>(1024 * kFarRow));
  size_t wrong = 0;
  for (const bool by_row : {false, true}) {
    const int64_t head_stride = by_row ? 64 : kFar, row_stride = by_row ? kFarRow : 64;
    Call call(in, false, path, 4);
    Target target(c);
    target.attach(call);
    const WorkspaceMemory workspace(call);
    for (sieve_tensor *t : {&call.a.key, &call.a.value}) {
      const auto *source = static_cast<const uint16_t *>(t->data);
      // Keys and values take turns in the far memory: here they are the same tensor.
      if (t == &call.a.key)
        for (int head = 0; head < 2; ++head)
          check_cuda(cudaMemcpy2D(far.data() + head * head_stride, static_cast<size_t>(row_stride) * 2,
                                  source + head * 1100 * 64, 128, 128, by_row ? 1024 : 1100, cudaMemcpyDeviceToDevice),
                     "far copy");
      t->data = far.data();
      t->strides[0] = kFar;
      t->strides[1] = head_stride;
      t->strides[2] = row_stride;
      if (by_row) t->sizes[2] = 1024;
    }
    const std::vector<int> length = {by_row ? 1024 : 1100};
    check_cuda(cudaMemcpy(in.lengths.data(), length.data(), 4, cudaMemcpyHostToDevice), "length");
    launch(call, workspace);
    check_cuda(cudaDeviceSynchronize(), "far");
    const Outputs o = target.read();
    Call same(in, false, path, 4);
    Target expected(c);
    expected.attach(same);
    same.a.value = same.a.key;
    if (by_row) same.a.key.sizes[2] = same.a.value.sizes[2] = 1024;
    launch(same, workspace);
    check_cuda(cudaDeviceSynchronize(), "near");
    wrong += !(o == expected.read());
  }
  std::printf("%-8s %-52s %zu of 2 differ\n", path == SIEVE_PATH_HOPPER ? "hopper" : "generic", c.name, wrong);
  CHECK(wrong == 0);
}

void test_repeats(int32_t path) {
  Case c{"200 launches are bitwise equal", kBf16, 4, 32, 8, 2, 4096, 128, 128, {4096, 2500, 1, 2049}};
  c.page_size = 64;
  const Inputs in(c);
  const Outputs first = run(in, true, path, 9);
  Call call(in, true, path, 9);
  Target target(c);
  target.attach(call);
  const WorkspaceMemory workspace(call);
  int different = 0;
  for (int i = 0; i < 200; ++i) {
    target.attach(call);
    launch(call, workspace);
    check_cuda(cudaDeviceSynchronize(), "repeat");
    different += !(target.read() == first);
  }
  std::printf("%-8s %-52s %d differ\n", path == SIEVE_PATH_HOPPER ? "hopper" : "generic", c.name, different);
  CHECK(different == 0);
}

}  // namespace sieve::test

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
  const std::vector<int> rule = {1, 17, 113, 239, 799, 1023, 1024, 4224, 0};
  std::vector<Case> cases = {
      {"bf16 D128 group 4, lengths of the rules", kBf16, 9, 8, 2, 1, 4224, 128, 128, rule},
      {"fp16 D64 group 16, lengths of the rules", kFp16, 9, 16, 1, 1, 4224, 64, 64, rule},
      {"bf16 D64 group 1", kBf16, 2, 3, 3, 1, 1000, 64, 64, {1000, 999}},
      {"bf16 D128 group 32, 2 new rows (64 packed)", kBf16, 2, 32, 1, 2, 2000, 128, 128, {2000, 1}},
      {"fp16 D128 group 4, 8 new rows (32 packed)", kFp16, 2, 8, 2, 8, 2000, 128, 128, {2000, 5}},
      {"bf16 D64 group 3, 16 new rows (48 packed)", kBf16, 2, 6, 2, 16, 1111, 64, 64, {1111, 300}},
      {"bf16 D256 group 8, 2 new rows", kBf16, 2, 8, 1, 2, 1500, 256, 256, {1500, 700}},
      {"fp16 D256 group 8, 8 new rows (64 packed)", kFp16, 1, 8, 1, 8, 777, 256, 256, {}},
      {"bf16 D32", kBf16, 2, 4, 2, 1, 500, 32, 32, {500, 99}},
      {"fp16 D96, Dv 32", kFp16, 2, 4, 2, 3, 500, 96, 32, {500, 99}},
      {"bf16 D32, Dv 128", kBf16, 2, 4, 2, 1, 500, 32, 128, {500, 99}},
      {"bf16 D64, Dv 256", kBf16, 2, 4, 2, 1, 500, 64, 256, {500, 99}},
      {"bf16 D256, Dv 96", kBf16, 2, 4, 2, 1, 500, 256, 96, {500, 99}},
  };
  const auto add = [&](Case c, auto change) {
    change(c);
    cases.push_back(c);
  };
  const Case base{"", kBf16, 3, 8, 2, 4, 1300, 128, 128, {1300, 640, 3}};
  add(base, [](Case &c) {
    c.name = "window 100, 4 new rows";
    c.window = 100;
  });
  add(base, [](Case &c) {
    c.name = "not causal";
    c.causal = false;
  });
  add(base, [](Case &c) {
    c.name = "offset 500, window 70";
    c.align_end = false;
    c.offset = 500;
    c.window = 70;
  });
  add(base, [](Case &c) {
    c.name = "rows before every key";
    c.align_end = false;
    c.offset = -2;
  });
  add(base, [](Case &c) {
    c.name = "norm, gate, scale, fp32 output";
    c.norm = c.gate = c.float32_output = true;
    c.output_scale = 0.7f;
  });
  add(base, [](Case &c) {
    c.name = "norm, gate, interleaved heads";
    c.norm = c.gate = c.interleaved = true;
  });
  add(base, [](Case &c) {
    c.name = "ssmax";
    c.row_factor = SIEVE_ROW_FACTOR_SSMAX;
    c.row_first = 0.4f;
  });
  add(base, [](Case &c) {
    c.name = "ssmax, negative";
    c.row_factor = SIEVE_ROW_FACTOR_SSMAX;
    c.row_first = -0.3f;
  });
  add(base, [](Case &c) {
    c.name = "asentmax";
    c.row_factor = SIEVE_ROW_FACTOR_ASENTMAX;
    c.row_first = 0.3f;
    c.row_second = 0.8f;
  });
  add(base, [](Case &c) {
    c.name = "factors of both signs";
    c.row_factor = SIEVE_ROW_FACTOR_VECTOR;
  });
  for (const int page : {16, 48, 64, 128, 256})
    add(base, [&](Case &c) {
      static const char *const names[] = {"pages of 16", "pages of 48", "pages of 64", "pages of 128", "pages of 256"};
      c.name = names[page == 16 ? 0 : page == 48 ? 1 : page == 64 ? 2 : page == 128 ? 3 : 4];
      c.page_size = page;
    });
  add(base, [](Case &c) {
    c.name = "D64, pages of 16, fp16";
    c.page_size = 16;
    c.dim = c.value_dim = 64;
    c.dtype = kFp16;
  });
  add(base, [](Case &c) {
    c.name = "D64, pages of 80, interleaved";
    c.page_size = 80;
    c.dim = c.value_dim = 64;
    c.interleaved = true;
  });
  add(base, [](Case &c) {
    c.name = "D256, pages of 16, window 33";
    c.page_size = 16;
    c.dim = c.value_dim = 256;
    c.window = 33;
  });
  add(base, [](Case &c) {
    c.name = "D96, Dv 64, pages of 32";
    c.page_size = 32;
    c.dim = 96;
    c.value_dim = 64;
  });

  std::vector<int32_t> paths;
  for (const int32_t path : {SIEVE_PATH_GENERIC, SIEVE_PATH_HOPPER}) {
    const sieve_support_query query{
        sizeof query, SIEVE_OPERATION_SOFTMAX, SIEVE_DIRECTION_DECODE, path, kBf16, 64, 64, 0};
    if (sieve_support(context, &query) == SIEVE_STATUS_OK)
      paths.push_back(path);
    else
      std::printf("not run: %s\n", sieve_last_message());
  }
  const auto wanted = [](int32_t path, const char *group, const char *name) {
    return chosen(std::string(path == SIEVE_PATH_HOPPER ? "hopper " : "generic ") + group + ": " + name);
  };
  for (const Case &c : cases) {
    std::vector<int32_t> chosen_paths;
    for (const int32_t path : paths)
      if (wanted(path, "cases", c.name)) chosen_paths.push_back(path);
    if (chosen_paths.empty()) continue;
    const Inputs in(c);
    const NaiveDecodeResult expected = reference(in);
    for (const int32_t path : chosen_paths) test(in, expected, path);
  }
  for (const int32_t path : paths) {
    if (wanted(path, "properties", "steps")) test_steps(path);
    if (wanted(path, "properties", "graph")) test_graph(path, false);
    if (wanted(path, "properties", "graph, paged")) test_graph(path, true);
    if (wanted(path, "properties", "NaN")) test_nan(path);
    if (wanted(path, "properties", "far")) test_far(path);
    if (wanted(path, "properties", "repeats")) test_repeats(path);
  }
  CHECK(sieve_context_destroy(context) == SIEVE_STATUS_OK);
  return finish();
}
