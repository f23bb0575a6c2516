// Caches, calls and results of threshold differential decode for native tests.
//
// What a cache does not hold yet is 0xff (NaN), page numbers behind the valid keys are impossible, outputs and
// workspaces lie between guard bytes and begin as 0xff.
#pragma once

#include <algorithm>
#include <cstring>
#include <string>

#include "tests/native/support/check.h"
#include "tests/native/support/naive_threshold_differential_decode.h"

namespace sieve::test {

inline sieve_context *context = nullptr;

constexpr int32_t kBf16 = SIEVE_DTYPE_BFLOAT16, kFp16 = SIEVE_DTYPE_FLOAT16;
constexpr int32_t kScreens[] = {SIEVE_TDA_SCREEN_NONE, SIEVE_TDA_SCREEN_INT8, SIEVE_TDA_SCREEN_INT4};
constexpr const char *kScreenNames[] = {"exact", "int8", "int4"};

struct Case {
  const char *name;
  int32_t dtype;
  int batch, query_heads, key_heads, queries, keys, dim, value_dim;
  std::vector<int> lengths;  // empty: all keys
  float beta = 0.6f, lambda = 0.3f, kappa = 1, power = 2;
  int views = 2;
  bool causal = true;
  int64_t window = 0;
  bool align_end = true;
  int64_t offset = 0;
  int page_size = 0;
  bool norm = false, gate = false;
  float output_scale = 1;
  bool float32_output = false;
  bool interleaved = false;  // the cache's memory order is [entries, rows, heads, channels]

  int length(int b) const { return lengths.empty() ? keys : std::min(lengths[static_cast<size_t>(b)], keys); }
};

inline size_t product(std::initializer_list<int64_t> sizes) {
  size_t result = 1;
  for (const int64_t size : sizes) result *= static_cast<size_t>(size);
  return result;
}

inline sieve_tensor strided(void *data, int32_t dtype, int64_t batch, int64_t heads, int64_t rows, int64_t channels,
                            bool interleaved) {
  sieve_tensor t = view(data, dtype, batch, heads, rows, channels);
  if (interleaved) {
    t.strides[1] = channels;
    t.strides[2] = heads * channels;
  }
  return t;
}

// Queries, and the keys and values that enter the caches, aligned to their end.
struct Inputs {
  const Case &c;
  DeviceArray<uint16_t> q1, q2, k1, k2, v;
  DeviceArray<int32_t> lengths;
  DeviceArray<float> gain, gate, beta;

  explicit Inputs(const Case &problem, uint32_t seed = 1)
      : c(problem),
        q1(product({c.batch, c.query_heads, c.queries, c.dim})),
        q2(q1.count()),
        k1(product({c.batch, c.key_heads, c.keys, c.dim})),
        k2(k1.count()),
        v(product({c.batch, c.key_heads, c.keys, c.value_dim})),
        lengths(static_cast<size_t>(c.batch)),
        gain(static_cast<size_t>(c.value_dim)),
        gate(product({c.batch, c.query_heads, c.queries})),
        beta(1) {
    for (DeviceArray<uint16_t> *array : {&q1, &q2, &k1, &k2, &v})
      array->write(random_elements(array->count(), c.dtype, seed++));
    std::vector<int32_t> all;
    for (int b = 0; b < c.batch; ++b) all.push_back(c.length(b));
    lengths.write(all);
    std::mt19937 generator(seed);
    std::normal_distribution<float> normal;
    for (DeviceArray<float> *array : {&gain, &gate}) {
      std::vector<float> values(array->count());
      for (float &x : values) x = normal(generator);
      array->write(values);
    }
    beta.write({c.beta});
  }

  // Index of key j of an entry in k1, k2 (of channel 0).
  size_t key_index(int b, int head, int j, int channels) const {
    return product({(static_cast<int64_t>(b) * c.key_heads + head) * c.keys + c.keys - c.length(b) + j, channels});
  }
};

// A cache filled by sieve_tda_append.
struct CacheMemory {
  const Case &c;
  bool paged;
  int width, entries, rows;
  DeviceArray<uint16_t> k1, k2, v;
  DeviceArray<float> norms1, norms2;
  DeviceArray<int32_t> images1, images2, table;
  sieve_tda_cache cache{};

  static int words(const Case &c, int32_t screen) {
    const int dim = c.dim <= 64 ? 64 : 128;
    return (screen == SIEVE_TDA_SCREEN_INT8 ? 4 : 2) * dim + 16;
  }

  CacheMemory(const Case &problem, bool is_paged, int32_t screen)
      : c(problem),
        paged(is_paged),
        width(paged ? (c.keys + c.page_size - 1) / c.page_size : 0),
        entries(paged ? c.batch * width + 3 : c.batch),
        rows(paged ? c.page_size : c.keys),
        k1(product({entries, c.key_heads, rows, c.dim})),
        k2(k1.count()),
        v(product({entries, c.key_heads, rows, c.value_dim})),
        norms1(product({entries, c.key_heads, rows})),
        norms2(norms1.count()),
        images1(product({entries, c.key_heads, (rows + 15) / 16, words(c, screen)})),
        images2(images1.count()),
        table(static_cast<size_t>(std::max(c.batch * width, 1))) {
    for (DeviceArray<uint16_t> *array : {&k1, &k2, &v}) array->fill(0xff);
    for (DeviceArray<float> *array : {&norms1, &norms2}) array->fill(0xff);
    for (DeviceArray<int32_t> *array : {&images1, &images2}) array->fill(0xff);
    cache.struct_size = sizeof cache;
    cache.screen = screen;
    cache.key1 = strided(k1.data(), c.dtype, entries, c.key_heads, rows, c.dim, c.interleaved);
    cache.value = strided(v.data(), c.dtype, entries, c.key_heads, rows, c.value_dim, c.interleaved);
    cache.inverse_norms1 = strided(norms1.data(), SIEVE_DTYPE_FLOAT32, entries, c.key_heads, rows, 1, c.interleaved);
    const auto images = [&](DeviceArray<int32_t> &array) {
      return strided(array.data(), SIEVE_DTYPE_INT32, entries, c.key_heads, (rows + 15) / 16, words(c, screen),
                     c.interleaved);
    };
    if (screen != SIEVE_TDA_SCREEN_NONE) cache.images1 = images(images1);
    if (c.views == 2) {
      cache.key2 = strided(k2.data(), c.dtype, entries, c.key_heads, rows, c.dim, c.interleaved);
      cache.inverse_norms2 = strided(norms2.data(), SIEVE_DTYPE_FLOAT32, entries, c.key_heads, rows, 1, c.interleaved);
      if (screen != SIEVE_TDA_SCREEN_NONE) cache.images2 = images(images2);
    }
    if (!paged) return;
    std::vector<int32_t> order(static_cast<size_t>(entries));
    for (int i = 0; i < entries; ++i) order[static_cast<size_t>(i)] = i;
    std::mt19937 generator(7);
    std::shuffle(order.begin(), order.end(), generator);
    order.resize(table.count());
    for (int b = 0; b < c.batch; ++b)  // numbers behind the valid keys are not to be read: an impossible page
      for (int page = (c.length(b) + c.page_size - 1) / c.page_size; page < width; ++page)
        order[static_cast<size_t>(b * width + page)] = 1 << 30;
    table.write(order);
    cache.page_table = table.data();
    cache.page_table_width = width;
  }

  sieve_tda_append_arguments arguments(const Inputs &in, const int32_t *lengths, int64_t count) const {
    sieve_tda_append_arguments a{};
    a.struct_size = sizeof a;
    a.batch = c.batch;
    a.cache = &cache;
    a.rows = count;
    a.key_lengths = lengths;
    const auto last = [&](const DeviceArray<uint16_t> &array, int channels) {
      sieve_tensor t = view(array.data(), c.dtype, c.batch, c.key_heads, c.keys, channels);
      t.data = static_cast<uint16_t *>(t.data) + (c.keys - count) * channels;
      t.sizes[2] = count;
      return t;
    };
    a.new_key1 = last(in.k1, c.dim);
    if (c.views == 2) a.new_key2 = last(in.k2, c.dim);
    a.new_value = last(in.v, c.value_dim);
    return a;
  }
  static void append(const sieve_tda_append_arguments &a, cudaStream_t stream = nullptr) {
    const int32_t status = sieve_tda_append(context, &a, stream);
    if (status != SIEVE_STATUS_OK) std::fprintf(stderr, "%s\n", sieve_last_message());
    CHECK(status == SIEVE_STATUS_OK);
  }
  void fill(const Inputs &in) const { append(arguments(in, in.lengths.data(), c.keys)); }
};

struct Call {
  sieve_attention_problem problem{};
  sieve_tda_decode_arguments a{};

  Call(const Inputs &in, const CacheMemory &memory, int32_t splits) {
    const Case &c = in.c;
    problem.struct_size = sizeof problem;
    problem.causal = c.causal;
    problem.query_alignment = c.align_end ? SIEVE_QUERY_ALIGNMENT_END : SIEVE_QUERY_ALIGNMENT_OFFSET;
    problem.query_offset = c.offset;
    problem.window = c.window;
    problem.key_lengths = in.lengths.data();
    if (c.norm) {
      problem.norm = SIEVE_NORM_RMS;
      problem.norm_eps = 1e-5f;
      problem.norm_gain = in.gain.data();
    }
    if (c.gate) problem.gate = view(in.gate.data(), SIEVE_DTYPE_FLOAT32, c.batch, c.query_heads, c.queries, 1);
    problem.output_scale = c.output_scale;
    a.struct_size = sizeof a;
    a.splits = splits;
    a.query1 = view(in.q1.data(), c.dtype, c.batch, c.query_heads, c.queries, c.dim);
    if (c.views == 2) a.query2 = view(in.q2.data(), c.dtype, c.batch, c.query_heads, c.queries, c.dim);
    a.cache = &memory.cache;
    a.beta.device = in.beta.data();
    a.lambda.value = c.lambda;
    a.kappa = c.kappa;
    a.power = c.power;
  }
};

constexpr size_t kGuard = 256;  // bytes before and after an output

struct Outputs {
  std::vector<uint8_t> out;  // without guards
  std::vector<int> survivors[2];
  bool operator==(const Outputs &other) const {
    return out == other.out && survivors[0] == other.survivors[0] && survivors[1] == other.survivors[1];
  }
};

// Results of a case in device memory, and how a call writes them.
struct Target {
  const Case &c;
  size_t bytes_per_element;
  DeviceArray<uint8_t> out;
  DeviceArray<int> survivors1, survivors2;

  explicit Target(const Case &problem)
      : c(problem),
        bytes_per_element(c.float32_output ? 4 : 2),
        out(bytes_per_element * product({c.batch, c.query_heads, c.queries, c.value_dim}) + 2 * kGuard),
        survivors1(product({c.batch, c.query_heads, c.queries})),
        survivors2(survivors1.count()) {}

  void attach(Call &call) {
    out.fill(0xff);
    survivors1.fill(0xff);
    survivors2.fill(0xff);
    call.a.output = view(out.data() + kGuard, c.float32_output ? static_cast<int32_t>(SIEVE_DTYPE_FLOAT32) : c.dtype,
                         c.batch, c.query_heads, c.queries, c.value_dim);
    call.a.survivors1 = view(survivors1.data(), SIEVE_DTYPE_INT32, c.batch, c.query_heads, c.queries, 1);
    if (c.views == 2)
      call.a.survivors2 = view(survivors2.data(), SIEVE_DTYPE_INT32, c.batch, c.query_heads, c.queries, 1);
  }
  Outputs read() const {
    const std::vector<uint8_t> bytes = out.read();
    bool intact = true;
    for (size_t i = 0; i < kGuard; ++i) intact = intact && bytes[i] == 0xff && bytes[bytes.size() - 1 - i] == 0xff;
    CHECK(intact);
    return {{bytes.begin() + kGuard, bytes.end() - kGuard}, {survivors1.read(), survivors2.read()}};
  }
};

struct WorkspaceMemory {
  DeviceArray<uint8_t> memory;
  static uint64_t size(const Call &call) {
    uint64_t bytes = 0;
    const int32_t status = sieve_tda_decode_workspace(context, &call.problem, &call.a, &bytes);
    if (status != SIEVE_STATUS_OK) std::fprintf(stderr, "%s\n", sieve_last_message());
    CHECK(status == SIEVE_STATUS_OK);
    return std::max<uint64_t>(bytes, 256);
  }
  explicit WorkspaceMemory(const Call &call) : memory(size(call) + 2 * kGuard) { memory.fill(0xff); }
  void *data() const { return memory.data() + kGuard; }
  uint64_t bytes() const { return memory.bytes() - 2 * kGuard; }
  bool intact() const {
    const std::vector<uint8_t> all = memory.read();
    bool good = true;
    for (size_t i = 0; i < kGuard; ++i) good = good && all[i] == 0xff && all[all.size() - 1 - i] == 0xff;
    return good;
  }
};

inline void launch(const Call &call, const WorkspaceMemory &workspace, cudaStream_t stream = nullptr) {
  const int32_t status = sieve_tda_decode(context, &call.problem, &call.a, workspace.data(), workspace.bytes(), stream);
  if (status != SIEVE_STATUS_OK) std::fprintf(stderr, "%s\n", sieve_last_message());
  CHECK(status == SIEVE_STATUS_OK);
}

inline Outputs run(const Inputs &in, const CacheMemory &memory, int32_t splits) {
  Call call(in, memory, splits);
  Target target(in.c);
  target.attach(call);
  const WorkspaceMemory workspace(call);
  launch(call, workspace);
  check_cuda(cudaDeviceSynchronize(), in.c.name);
  CHECK(workspace.intact());
  return target.read();
}

}  // namespace sieve::test
