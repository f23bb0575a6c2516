// The decode of differential attention, both versions, each kernel, through the C ABI against float64 on the same
// device (support/differential_case.h): contiguous and paged, as many splits as the library chooses and a given number.
#include <numeric>

#include "operators/differential/problem.h"
#include "tests/native/support/differential_case.h"

namespace sieve::test {

struct DecodeCase {
  Case problem;
  int splits = 0;
  int page_size = 0;        // 0: contiguous
  bool neighbours = false;  // the keys of both streams lie side by side; no lse
};

// The rows of `cache` in pages: page table entry p of batch entry b is order[b * width + p].
void divide(const Tensor &cache, Tensor &pages, const std::vector<int32_t> &order) {
  const int64_t page_size = pages.rows, width = pages.batch / cache.batch;
  const std::vector<uint8_t> from = cache.memory.read();
  std::vector<uint8_t> to = pages.memory.read();
  for (int64_t b = 0; b < cache.batch; ++b)
    for (int64_t h = 0; h < cache.heads; ++h)
      for (int64_t row = 0; row < cache.rows; ++row)
        std::memcpy(to.data() + Tensor::kGuard +
                        2 * pages.at(order[static_cast<size_t>(b * width + row / page_size)], h, row % page_size, 0),
                    from.data() + Tensor::kGuard + 2 * cache.at(b, h, row, 0), static_cast<size_t>(2 * cache.channels));
  pages.memory.write(to);
}

// Keys behind the valid ones may hold anything.
void poison_behind(const Trial &t, Tensor &cache) {
  std::vector<uint8_t> copy = cache.memory.read();
  for (const SequenceRows &s : t.sequences)
    for (int64_t h = 0; h < cache.heads; ++h)
      for (int64_t row = s.keys; row < cache.rows; ++row)
        for (int64_t d = 0; d < cache.channels; ++d) cache.set(copy, cache.at(s.batch, h, row, d), std::nan(""));
  cache.memory.write(copy);
}

// The keys of both streams as one of twice the channels.
void join(const Trial &t, const Tensor &keys, Tensor &joined) {
  const std::vector<uint8_t> from = keys.memory.read();
  std::vector<uint8_t> to = joined.memory.read();
  for (int stream = 0; stream < t.streams; ++stream)
    for (int64_t b = 0; b < keys.batch; ++b)
      for (int h = 0; h < t.c.key_heads; ++h)
        for (int64_t row = 0; row < keys.rows; ++row)
          std::memcpy(to.data() + Tensor::kGuard + 2 * joined.at(b, h, row, stream * keys.channels),
                      from.data() + Tensor::kGuard + 2 * keys.at(b, t.key_heads(keys, stream).head(h), row, 0),
                      static_cast<size_t>(2 * keys.channels));
  joined.memory.write(to);
}

sieve_tensor half_of(const Tensor &joined, int stream) {
  sieve_tensor view = joined.view();
  view.sizes[3] /= 2;
  view.data = static_cast<uint16_t *>(view.data) + stream * view.sizes[3];
  return view;
}

bool run_decode(const Trial &t, const DecodeCase &c, int32_t path, const Tensor &keys, const Tensor &joined,
                const Tensor &values, const int32_t *table, int64_t width, Tensor &output, Tensor &lse) {
  const sieve_attention_problem p = t.problem(path);
  if (t.streams == 2) {
    sieve_diff_decode_arguments a{};
    a.struct_size = sizeof a;
    a.splits = c.splits;
    a.query1 = t.query_heads(t.q, 0).view();
    a.query2 = t.query_heads(t.q, 1).view();
    a.key1 = c.neighbours ? half_of(joined, 0) : t.key_heads(keys, 0).view();
    a.key2 = c.neighbours ? half_of(joined, 1) : t.key_heads(keys, 1).view();
    a.value = values.view();
    a.output = output.view();
    if (!c.neighbours) {
      a.lse1 = t.query_heads(lse, 0).view();
      a.lse2 = t.query_heads(lse, 1).view();
    }
    a.lambda = t.lambda_scalar();
    a.page_table = table;
    a.page_table_width = width;
    return call_with_workspace(
        t.c, [&](uint64_t *bytes) { return sieve_diff_decode_workspace(context, &p, &a, bytes); },
        [&](void *memory, uint64_t bytes) { return sieve_diff_decode(context, &p, &a, memory, bytes, nullptr); });
  }
  sieve_diff_v2_decode_arguments a{};
  a.struct_size = sizeof a;
  a.splits = c.splits;
  a.signals = t.c.signals;
  a.query = t.q.view();
  a.key = keys.view();
  a.value = values.view();
  a.lambda_logit = view(t.logits.data(), SIEVE_DTYPE_FLOAT32, t.c.batch, t.output_heads, t.c.queries, 1);
  a.output = output.view();
  a.lse = lse.view();
  a.page_table = table;
  a.page_table_width = width;
  return call_with_workspace(
      t.c, [&](uint64_t *bytes) { return sieve_diff_v2_decode_workspace(context, &p, &a, bytes); },
      [&](void *memory, uint64_t bytes) { return sieve_diff_v2_decode(context, &p, &a, memory, bytes, nullptr); });
}

void test(const DecodeCase &c, int32_t dtype, int head_dim, int value_dim, const std::vector<int32_t> &paths) {
  Trial t(c.problem, dtype, head_dim, value_dim, false);
  poison_behind(t, t.k);
  poison_behind(t, t.v);
  const bool is_paged = c.page_size > 0;
  const int64_t width = is_paged ? (t.c.keys + c.page_size - 1) / c.page_size : 0;
  std::vector<int32_t> order(static_cast<size_t>(t.c.batch * std::max<int64_t>(width, 1)));
  std::iota(order.begin(), order.end(), 0);
  if (is_paged) std::shuffle(order.begin(), order.end(), std::mt19937(5));
  DeviceArray<int32_t> table(order.size());
  table.write(order);
  // Contiguous: a page an entry, in order.
  const int64_t rows = is_paged ? c.page_size : t.c.keys, pages = static_cast<int64_t>(order.size());
  Tensor keys(pages, t.k.heads, rows, head_dim, dtype, false), values(pages, t.v.heads, rows, value_dim, dtype, false);
  divide(t.k, keys, order);
  divide(t.v, values, order);
  Tensor joined(pages, t.c.key_heads, rows, 2 * head_dim, dtype, false);
  if (c.neighbours) join(t, keys, joined);
  for (const int32_t path : paths) {
    Tensor output(t.c.batch, t.output_heads, t.c.queries, value_dim,
                  t.c.floats ? static_cast<int32_t>(SIEVE_DTYPE_FLOAT32) : dtype, t.c.strided),
        lse(t.c.batch, t.streams * t.c.heads, t.c.queries, 1, SIEVE_DTYPE_FLOAT32, false);
    if (!run_decode(t, c, path, keys, joined, values, is_paged ? table.data() : nullptr, width, output, lse)) continue;
    Comparison out{"out"};
    bool lses = true;
    std::vector<uint8_t> copy = output.memory.read();
    const std::vector<uint8_t> lse_copy = lse.memory.read();
    for (size_t s = 0; s < t.sequences.size(); ++s) {
      const size_t queries = static_cast<size_t>(t.c.queries), wide = static_cast<size_t>(value_dim);
      for (int i = 0; i < t.streams; ++i)
        for (int h = 0; h < t.c.heads; ++h)
          for (size_t row = 0; row < queries; ++row) {
            const double exact = t.exact[s].lse[static_cast<size_t>(i * t.c.heads + h) * queries + row],
                         actual = lse.value(lse_copy, lse.at(t.sequences[s].batch, t.query_heads(lse, i).head(h),
                                                             static_cast<int64_t>(row), 0));
            lses = lses && (c.neighbours || exact == actual ||
                            std::fabs(exact - actual) <= 1e-4 * std::max(1.0, std::fabs(exact)));
          }
      for (int h = 0; h < t.output_heads; ++h)
        for (size_t row = 0; row < queries; ++row) {
          const size_t index = (static_cast<size_t>(h) * queries + row) * wide;
          compare(out, output, copy, t.sequences[s].batch, h, static_cast<int64_t>(row), &t.exact[s].output[index],
                  &t.rounded[s].output[index]);
        }
    }
    const double unit = dtype == SIEVE_DTYPE_BFLOAT16 ? 1.0 / 512 : 1.0 / 4096;
    const bool good = lses && all_poison(copy) && !out.bad_values && out.error <= 2 * out.plain + unit * out.largest;
    if (!good || std::getenv("SIEVE_TEST_VERBOSE") != nullptr)
      std::printf("%s %s %s D%d/%d: %s, lse %d, guards %d, max %.2e error %.2e (plain %.2e)%s\n",
                  good ? "    ok" : "FAILED", path == SIEVE_PATH_HOPPER ? "hopper" : "generic",
                  dtype == SIEVE_DTYPE_BFLOAT16 ? "bf16" : "fp16", head_dim, value_dim, t.c.name, lses,
                  all_poison(copy), out.largest, out.error, out.plain, out.bad_values ? ", NaN in wrong rows" : "");
    CHECK(good);
  }
}

const DecodeCase kCases[] = {
    {{.name = "one row, 1 key", .queries = 1, .keys = 1}},
    {{.name = "one row, 4224 keys, norm, gain",
      .batch = 2,
      .heads = 8,
      .key_heads = 2,
      .queries = 1,
      .keys = 4224,
      .lambda = Lambda::kPerHead,
      .norm = true,
      .gain = true,
      .output_scale = 0.2f,
      .lengths = true}},
    {{.name = "one split, gate, float32",
      .batch = 2,
      .heads = 4,
      .queries = 1,
      .keys = 1023,
      .norm = true,
      .gate = true,
      .lengths = true,
      .floats = true},
     1},
    {{.name = "7 splits, 3 rows, interleaved",
      .batch = 3,
      .heads = 4,
      .queries = 3,
      .keys = 799,
      .lambda = Lambda::kDevice,
      .lengths = true,
      .interleaved = true},
     7},
    {{.name = "paged 64, 2 rows, norm",
      .batch = 3,
      .heads = 8,
      .key_heads = 2,
      .queries = 2,
      .keys = 1024,
      .lambda = Lambda::kPerHead,
      .norm = true,
      .lengths = true},
     0,
     64},
    {{.name = "paged 16, window 100",
      .batch = 2,
      .heads = 4,
      .queries = 1,
      .keys = 512,
      .window = 100,
      .lengths = true},
     3,
     16},
    {{.name = "neighbours, norm, gain",
      .batch = 2,
      .heads = 8,
      .key_heads = 2,
      .queries = 2,
      .keys = 1500,
      .lambda = Lambda::kPerHead,
      .norm = true,
      .gain = true,
      .lengths = true},
     0,
     0,
     true},
    {{.name = "neighbours, paged 48, 5 splits, window 300, gate",
      .batch = 3,
      .heads = 3,
      .key_heads = 3,
      .queries = 3,
      .keys = 960,
      .window = 300,
      .gate = true,
      .lengths = true,
      .interleaved = true},
     5,
     48,
     true},
    {{.name = "v2", .signals = 1, .batch = 2, .heads = 8, .queries = 1, .keys = 2000, .lengths = true}},
    {{.name = "grouped: 4 signals, paged 128, gate",
      .signals = 4,
      .batch = 2,
      .heads = 10,
      .queries = 2,
      .keys = 1024,
      .gate = true,
      .lengths = true},
     0,
     128},
    {{.name = "grouped: 2 signals across key heads, 5 splits",
      .signals = 2,
      .heads = 6,
      .key_heads = 3,
      .queries = 1,
      .keys = 700,
      .norm = true,
      .gain = true},
     5},
};

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
  constexpr int kDims[][2] = {{32, 32}, {32, 64}, {64, 64}, {64, 128}, {128, 128}, {128, 256}, {256, 256}};
  for (const int32_t dtype : {SIEVE_DTYPE_BFLOAT16, SIEVE_DTYPE_FLOAT16})
    for (const auto &dims : kDims) {
      std::vector<int32_t> paths;
      for (const int32_t path : {SIEVE_PATH_GENERIC, SIEVE_PATH_HOPPER}) {
        const sieve_support_query query{
            sizeof query, SIEVE_OPERATION_DIFF, SIEVE_DIRECTION_DECODE, path, dtype, dims[0], dims[1], 0};
        if (sieve_support(context, &query) == SIEVE_STATUS_OK)
          paths.push_back(path);
        else
          std::printf("not run: %s\n", sieve_last_message());
      }
      const int before = failures;
      for (const DecodeCase &c : kCases) test(c, dtype, dims[0], dims[1], paths);
      std::printf("%s %s D%d/%d\n", failures == before ? "passed" : "FAILED",
                  dtype == SIEVE_DTYPE_BFLOAT16 ? "bf16" : "fp16", dims[0], dims[1]);
      std::fflush(stdout);
    }
  CHECK(sieve_context_destroy(context) == SIEVE_STATUS_OK);
  return finish();
}
