// Decode of threshold differential attention through the C ABI against float64 on the same device: for kernel
// developers, without .NET.
//
// Rule: the largest error of an output is at most twice that of a plain evaluation in the element type, plus half a
// unit of the largest output; survivors equal the reference's except where a score lies within 1e-5 of the threshold.
// With and without screens, paged and contiguous, the results of equal splits are the same bits. What the cache does
// not hold yet is 0xff (NaN), outputs lie between guard bytes and begin as 0xff.
#include "tests/native/support/tda_decode_case.h"

namespace sieve::test {

NaiveTdaDecodeResult reference(const Inputs &in) {
  const Case &c = in.c;
  return naive_decode({c.batch,
                       c.query_heads,
                       c.key_heads,
                       c.queries,
                       c.keys,
                       c.dim,
                       c.value_dim,
                       c.views,
                       c.causal,
                       c.align_end,
                       c.window,
                       c.offset,
                       static_cast<double>(c.beta),
                       static_cast<double>(c.kappa),
                       static_cast<double>(c.lambda),
                       static_cast<double>(c.power),
                       c.norm,
                       c.norm ? 1e-5 : 0,
                       static_cast<double>(c.output_scale),
                       c.dtype,
                       {in.q1.data(), in.q2.data()},
                       {in.k1.data(), in.k2.data()},
                       in.v.data(),
                       in.lengths.data(),
                       c.norm ? in.gain.data() : nullptr,
                       c.gate ? in.gate.data() : nullptr});
}

double element(const Case &c, const Outputs &o, size_t index) {
  if (c.float32_output) {
    float value;
    std::memcpy(&value, &o.out[4 * index], 4);
    return static_cast<double>(value);
  }
  uint16_t bits;
  std::memcpy(&bits, &o.out[2 * index], 2);
  return from_bits(bits, c.dtype);
}

struct Error {
  double out = 0, plain = 0, largest = 0;
  size_t miscounted = 0;
  int64_t survivors = 0;
};

Error compare(const Case &c, const Outputs &o, const NaiveTdaDecodeResult &expected) {
  Error e;
  const auto raise = [](double &most, double value) {
    if (!(value <= most)) most = value;  // NaN stays
  };
  for (size_t i = 0; i < expected.out.size(); ++i) {
    raise(e.out, std::fabs(element(c, o, i) - expected.out[i]));
    raise(e.plain, std::fabs(expected.plain[i] - expected.out[i]));
    e.largest = std::max(e.largest, std::fabs(expected.out[i]));
  }
  for (size_t view = 0; view < static_cast<size_t>(c.views); ++view)
    for (size_t row = 0; row < o.survivors[view].size(); ++row) {
      const int count = o.survivors[view][row];
      e.miscounted += count < expected.least[view][row] || count > expected.most[view][row];
      e.survivors += count;
    }
  return e;
}

void test(const Case &c) {
  const Inputs in(c);
  const NaiveTdaDecodeResult expected = reference(in);
  std::string failed;
  Error worst;
  for (const int32_t splits : {0, 1, 2, 5, 16}) {
    Outputs first;
    for (const bool paged : {false, true}) {
      if (paged && (c.page_size == 0 || splits == 0)) continue;
      for (const int32_t screen : kScreens) {
        const CacheMemory memory(c, paged, screen);
        memory.fill(in);
        const Outputs o = run(in, memory, splits);
        const std::string what = std::string(" ") + kScreenNames[screen] + std::to_string(splits) + (paged ? "p" : "");
        if (!paged && screen == SIEVE_TDA_SCREEN_NONE) {
          first = o;
          const Error e = compare(c, o, expected);
          const double allowed = 2 * e.plain + e.largest * (c.dtype == kBf16 ? 1.0 / 1024 : 1.0 / 8192);
          if (!(e.out <= allowed)) failed += what + "=error";
          if (e.miscounted > 0) failed += what + "=miscounted" + std::to_string(e.miscounted);
          if (!(e.out <= worst.out)) worst.out = e.out;
          worst.plain = e.plain;
          worst.largest = e.largest;
          worst.survivors = e.survivors;
        } else if (!(o == first)) {
          failed += what + "=differs";
          if (!(o.survivors[0] == first.survivors[0] && o.survivors[1] == first.survivors[1])) failed += "(survivors)";
        }
        if (!(o == run(in, memory, splits))) failed += what + "=repeat";
      }
    }
  }
  std::printf("%-50s survivors %-8lld max|out| %.2e error %.2e plain %.2e%s%s\n", c.name,
              static_cast<long long>(worst.survivors), worst.largest, worst.out, worst.plain,
              failed.empty() ? "" : "  FAILED:", failed.c_str());
  CHECK(failed.empty());
}

// Scores all around the threshold, rows with one huge coordinate, rows of zeros, norms below the floor and beyond the
// range of fp32, NaN and infinity among queries and keys: with a screen the same keys survive and the same bits come
// out.
void test_adversarial(int32_t dtype, int dim, bool with_nan, uint32_t seed) {
  Case c{"", dtype, 2, 8, 2, 4, 2500, dim, dim, {2500, 1999}};
  c.beta = seed % 2 == 0 ? 0.9f : 0.4f;
  const Inputs in(c, seed);
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal;
  std::uniform_real_distribution<float> uniform;
  const auto pick = [&](int most) { return static_cast<int>(generator() % static_cast<uint32_t>(most)); };
  const bool wide = dtype == kBf16;
  const size_t d = static_cast<size_t>(dim);
  for (int view = 0; view < 2; ++view) {
    const DeviceArray<uint16_t> &queries = view == 0 ? in.q1 : in.q2, &keys = view == 0 ? in.k1 : in.k2;
    std::vector<uint16_t> q = queries.read(), k = keys.read();
    for (size_t row = 0; row < q.size() / d; ++row) {
      const int kind = pick(16);
      for (size_t i = 0; i < d; ++i) {
        uint16_t &x = q[row * d + i];
        const float value = static_cast<float>(from_bits(x, dtype));
        if (kind == 0) x = 0;
        if (kind == 1) x = to_bits(value * (wide ? 1e-16f : 1e-6f), dtype);
        if (kind == 2) x = to_bits(value * (wide ? 1e17f : 1000.0f), dtype);
        if (kind == 3 && i == 5) x = to_bits(wide ? 1e5f : 3e4f, dtype);
        if (kind == 4 && wide) x = to_bits(value * 3e18f, dtype);
        if (kind == 5 && with_nan && i == 7) x = wide ? 0x7fc0 : 0x7e00;
      }
    }
    for (int b = 0; b < c.batch; ++b)
      for (int head = 0; head < c.key_heads; ++head)
        for (int j = 0; j < c.length(b); ++j) {
          const size_t at = in.key_index(b, head, j, dim);
          const int kind = pick(12);
          const size_t row = static_cast<size_t>((b * 8 + head * 4 + pick(4)) * 4 + pick(4)) * d;
          if (kind <= 4) {  // a cosine near the threshold of one row
            double square = 0, dot = 0;
            std::vector<double> u(d), noise(d);
            for (size_t i = 0; i < d; ++i) {
              u[i] = from_bits(q[row + i], dtype);
              square += u[i] * u[i];
            }
            if (!(square > 0) || !std::isfinite(square)) continue;
            for (size_t i = 0; i < d; ++i) {
              u[i] /= std::sqrt(square);
              noise[i] = static_cast<double>(normal(generator));
              dot += noise[i] * u[i];
            }
            double length = 0;
            for (size_t i = 0; i < d; ++i) {
              noise[i] -= dot * u[i];
              length += noise[i] * noise[i];
            }
            const double tau = static_cast<double>(c.beta) * std::sqrt(2 * std::log(c.length(b) - 1.5) / dim);
            const double cosine = std::min(tau * (1 + (pick(2) == 0 ? 1 : -1) * std::pow(2.0, -3 - pick(12))), 1.0);
            const double size = std::exp2(static_cast<double>(pick(wide ? 60 : 10)) - (wide ? 30 : 5));
            for (size_t i = 0; i < d; ++i)
              k[at + i] = to_bits(static_cast<float>(size * (cosine * u[i] + std::sqrt(1 - cosine * cosine) * noise[i] /
                                                                                 std::sqrt(length))),
                                  dtype);
          } else if (kind == 5) {
            for (size_t i = 0; i < d; ++i) k[at + i] = 0;
          } else if (kind == 6) {
            k[at + (pick(2) == 0 ? 5 : static_cast<size_t>(pick(dim)))] = to_bits(pick(2) == 0 ? 2e4f : -2e4f, dtype);
          } else if (kind == 7 && wide) {
            const float scale = std::exp2(static_cast<float>(pick(124)) - 62);
            for (size_t i = 0; i < d; ++i)
              k[at + i] = to_bits(static_cast<float>(from_bits(k[at + i], dtype)) * scale, dtype);
          } else if (kind == 8 && with_nan && pick(40) == 0) {
            k[at + static_cast<size_t>(pick(dim))] = pick(2) == 0 ? 0xffff : (wide ? 0x7f80 : 0x7c00);
          }
        }
    queries.write(q);
    keys.write(k);
  }
  std::string failed;
  int64_t survivors = 0;
  for (const int32_t splits : {1, 3}) {
    Outputs first;
    for (const int32_t screen : kScreens) {
      const CacheMemory memory(c, false, screen);
      memory.fill(in);
      const Outputs o = run(in, memory, splits);
      if (screen == SIEVE_TDA_SCREEN_NONE) {
        first = o;
        survivors = 0;
        for (const std::vector<int> &counts : o.survivors)
          for (const int count : counts) survivors += count;
      }
      if (!(o == first)) failed += std::string(" ") + kScreenNames[screen] + std::to_string(splits);
    }
  }
  std::printf("adversarial %s D%d seed %u%s: survivors %lld%s%s\n", dtype == kBf16 ? "bf16" : "fp16", dim, seed,
              with_nan ? ", NaN" : "", static_cast<long long>(survivors),
              failed.empty() ? "" : "  FAILED:", failed.c_str());
  CHECK(failed.empty() && survivors > 0);
}

// A score exactly at the threshold, and one unit of the threshold's factor to both sides of it: beta is narrowed down
// to two neighbouring floats between which the number of survivors changes.
void test_rounding(int dim) {
  const Case c{"a rounding away from the threshold", kBf16, 1, 4, 1, 1, 3000, dim, dim, {}};
  const Inputs in(c, 11);
  std::string failed;
  int changes = 0;
  for (float from : {0.3f, 0.45f, 0.6f, 0.75f}) {
    float low = from, high = from + 0.05f;
    const CacheMemory exact(c, false, SIEVE_TDA_SCREEN_NONE);
    exact.fill(in);
    const auto count = [&](const CacheMemory &memory, float beta) {
      in.beta.write({beta});
      return run(in, memory, 2);
    };
    const auto total = [](const Outputs &o) {
      int64_t sum = 0;
      for (const std::vector<int> &counts : o.survivors)
        for (const int n : counts) sum += n;
      return sum;
    };
    const int64_t base = total(count(exact, low));
    if (total(count(exact, high)) == base) continue;
    while (std::nextafter(low, high) < high) {
      const float middle = 0.5f * (low + high);
      (total(count(exact, middle)) == base ? low : high) = middle;
    }
    ++changes;
    for (const int32_t screen : {SIEVE_TDA_SCREEN_INT8, SIEVE_TDA_SCREEN_INT4}) {
      const CacheMemory memory(c, false, screen);
      memory.fill(in);
      for (const float beta : {low, high})
        if (!(count(memory, beta) == count(exact, beta))) failed += std::string(" ") + kScreenNames[screen];
    }
  }
  std::printf("D%d %s: %d places%s%s\n", dim, c.name, changes, failed.empty() ? "" : "  FAILED:", failed.c_str());
  CHECK(failed.empty() && changes > 0);
}

// Appending key by key and in pieces gives what appending at once gives, and so does summarising keys that are there.
void test_append(bool paged) {
  Case c{"append in pieces", kFp16, 2, 8, 2, 1, 300, 128, 64, {}};
  c.page_size = 32;
  const Inputs in(c);
  std::string failed;
  for (const int32_t screen : kScreens) {
    const CacheMemory whole(c, paged, screen), pieces(c, paged, screen), present(c, paged, screen);
    whole.fill(in);
    DeviceArray<int32_t> lengths(2);
    for (int length = 0, step = 1; length < c.keys;) {
      step = std::min(step == 1 && length >= 20 ? 77 : step, c.keys - length);
      length += step;
      lengths.write({length, length});
      sieve_tda_append_arguments a = pieces.arguments(in, lengths.data(), step);
      for (sieve_tensor *t : {&a.new_key1, &a.new_key2, &a.new_value})
        t->data = static_cast<uint16_t *>(t->data) - (c.keys - length) * t->sizes[3];
      CacheMemory::append(a);
      check_cuda(cudaDeviceSynchronize(), "append");
    }
    present.k1.write(whole.k1.read());
    present.k2.write(whole.k2.read());
    present.v.write(whole.v.read());
    sieve_tda_append_arguments a = present.arguments(in, in.lengths.data(), c.keys);
    a.new_key1 = a.new_key2 = a.new_value = {};
    CacheMemory::append(a);
    const auto same = [&](const CacheMemory &m) {
      const auto bits = [](const std::vector<float> &x) {
        std::vector<uint32_t> words(x.size());
        std::memcpy(words.data(), x.data(), 4 * x.size());
        return words;
      };
      return m.k1.read() == whole.k1.read() && m.k2.read() == whole.k2.read() && m.v.read() == whole.v.read() &&
             bits(m.norms1.read()) == bits(whole.norms1.read()) && bits(m.norms2.read()) == bits(whole.norms2.read()) &&
             m.images1.read() == whole.images1.read() && m.images2.read() == whole.images2.read();
    };
    if (!same(pieces)) failed += std::string(" pieces ") + kScreenNames[screen];
    if (!same(present)) failed += std::string(" present ") + kScreenNames[screen];
  }
  std::printf("%s%s%s%s\n", c.name, paged ? ", paged" : "", failed.empty() ? "" : "  FAILED:", failed.c_str());
  CHECK(failed.empty());
}

// A captured graph appends and decodes with grown caches.
void test_graph(int32_t screen) {
  Case c{"captured graph, append and decode", kBf16, 3, 8, 2, 2, 1500, 128, 128, {1500, 77, 900}};
  c.page_size = 64;
  const Inputs in(c);
  const CacheMemory memory(c, true, screen);
  memory.fill(in);
  check_cuda(cudaDeviceSynchronize(), "fill");
  Call call(in, memory, 4);
  Target target(c);
  target.attach(call);
  const WorkspaceMemory workspace(call);
  // The newest two keys are appended by the graph: forgotten first.
  sieve_tda_append_arguments a = memory.arguments(in, in.lengths.data(), 2);
  cudaStream_t stream;
  cudaGraph_t graph;
  cudaGraphExec_t exec;
  check_cuda(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "stream");
  check_cuda(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "capture");
  CacheMemory::append(a, stream);
  launch(call, workspace, stream);
  check_cuda(cudaStreamEndCapture(stream, &graph), "end of capture");
  check_cuda(cudaGraphInstantiate(&exec, graph, 0), "instantiate");
  bool equal = true;
  for (const int shorter : {300, 5, 0}) {
    std::vector<int32_t> lengths;
    for (int b = 0; b < c.batch; ++b) lengths.push_back(std::max(c.length(b) - shorter, 2));
    in.lengths.write(lengths);
    target.attach(call);
    check_cuda(cudaDeviceSynchronize(), "before the replay");
    check_cuda(cudaGraphLaunch(exec, stream), "replay");
    check_cuda(cudaStreamSynchronize(stream), "replay");
    const Outputs replayed = target.read();
    equal = equal && replayed == run(in, memory, 4);
    if (shorter == 0) {
      const Error e = compare(c, replayed, reference(in));
      CHECK(e.out <= 2 * e.plain + e.largest / 1024 && e.miscounted == 0);
    } else {
      memory.fill(in);  // the graph put the last keys elsewhere
    }
    std::vector<int32_t> full;
    for (int b = 0; b < c.batch; ++b) full.push_back(c.length(b));
    in.lengths.write(full);
    memory.fill(in);
    check_cuda(cudaDeviceSynchronize(), "fill");
  }
  std::printf("%s, %s: replays %s\n", c.name, kScreenNames[screen], equal ? "equal" : "DIFFER");
  CHECK(equal);
  cudaGraphExecDestroy(exec);
  cudaGraphDestroy(graph);
  cudaStreamDestroy(stream);
}

// NaN in a query, in a key and in a value that only some rows see: it stays with the rows that see it.
void test_nan(int32_t screen) {
  Case c{"NaN stays with the rows that see it", kBf16, 2, 8, 2, 4, 700, 64, 64, {600, 700}};
  c.beta = -1;  // everything survives, so everything seen is read
  const Inputs in(c);
  const NaiveTdaDecodeResult clean = reference(in);
  std::vector<uint16_t> q = in.q1.read(), k = in.k2.read(), v = in.v.read();
  q[static_cast<size_t>(((0 * 8 + 1) * 4 + 2) * 64 + 5)] = 0xffff;  // entry 0, head 1, row 2
  v[in.key_index(0, 1, 598, 64) + 7] = 0x7fc0;                      // entry 0, key head 1: rows 2 and 3, channel 7
  k[in.key_index(1, 0, 699, 64) + 9] = 0x7fc0;                      // entry 1, key head 0: row 3
  in.q1.write(q);
  in.k2.write(k);
  in.v.write(v);
  const CacheMemory memory(c, false, screen);
  memory.fill(in);
  size_t wrong = 0;
  double largest = 0;
  for (const double x : clean.out) largest = std::max(largest, std::fabs(x));
  for (const int32_t splits : {1, 5}) {
    const Outputs o = run(in, memory, splits);
    for (int b = 0; b < 2; ++b)
      for (int head = 0; head < 8; ++head)
        for (int query = 0; query < 4; ++query)
          for (int channel = 0; channel < 64; ++channel) {
            const bool nan = (b == 0 && head == 1 && query == 2) ||
                             (b == 0 && head >= 4 && query >= 2 && channel == 7) || (b == 1 && head < 4 && query == 3);
            const size_t i = static_cast<size_t>(((b * 8 + head) * 4 + query) * 64 + channel);
            const double x = element(c, o, i);
            wrong += nan ? !std::isnan(x) : !(std::fabs(x - clean.out[i]) < 0.01 * largest);
          }
  }
  std::printf("%s, %s: %zu elements wrong\n", c.name, kScreenNames[screen], wrong);
  CHECK(wrong == 0);
}

// Decode gives what the rows of a prefill give.
void test_prefill(int dim) {
  constexpr int kRows = 4;
  const Case c{"steps are rows of the prefill", kBf16, 1, 8, 2, kRows, 1024, dim, dim, {}};
  const Inputs in(c);
  const Case whole{"", kBf16, 1, 8, 2, 1024, 1024, dim, dim, {}};
  const Inputs all(whole, 40);
  for (auto [from, to] : {std::pair{&in.q1, &all.q1}, std::pair{&in.q2, &all.q2}}) {
    std::vector<uint16_t> rows = from->read(), q = to->read();
    for (int head = 0; head < 8; ++head)
      std::copy_n(rows.begin() + head * kRows * dim, kRows * dim, q.begin() + (head * 1024 + 1024 - kRows) * dim);
    to->write(q);
  }
  sieve_attention_problem problem{};
  problem.struct_size = sizeof problem;
  problem.causal = 1;
  problem.output_scale = 1;
  sieve_tda_forward_arguments a{};
  a.struct_size = sizeof a;
  DeviceArray<uint16_t> out(product({8, 1024, dim}));
  DeviceArray<int> survivors[2] = {DeviceArray<int>(8 * 1024), DeviceArray<int>(8 * 1024)};
  a.query1 = view(all.q1.data(), kBf16, 1, 8, 1024, dim);
  a.query2 = view(all.q2.data(), kBf16, 1, 8, 1024, dim);
  a.key1 = view(in.k1.data(), kBf16, 1, 2, 1024, dim);
  a.key2 = view(in.k2.data(), kBf16, 1, 2, 1024, dim);
  a.value = view(in.v.data(), kBf16, 1, 2, 1024, dim);
  a.output = view(out.data(), kBf16, 1, 8, 1024, dim);
  a.survivors1 = view(survivors[0].data(), SIEVE_DTYPE_INT32, 1, 8, 1024, 1);
  a.survivors2 = view(survivors[1].data(), SIEVE_DTYPE_INT32, 1, 8, 1024, 1);
  a.beta.value = c.beta;
  a.lambda.value = c.lambda;
  a.kappa = c.kappa;
  a.power = c.power;
  uint64_t bytes = 0;
  CHECK(sieve_tda_forward_workspace(context, &problem, &a, &bytes) == SIEVE_STATUS_OK);
  DeviceArray<uint8_t> workspace(bytes);
  CHECK(sieve_tda_forward(context, &problem, &a, workspace.data(), bytes, nullptr) == SIEVE_STATUS_OK);
  check_cuda(cudaDeviceSynchronize(), "prefill");
  const CacheMemory memory(c, false, SIEVE_TDA_SCREEN_INT4);
  memory.fill(in);
  const Outputs o = run(in, memory, 3);
  const std::vector<uint16_t> expected = out.read();
  int different = 0;
  double error = 0, largest = 0;
  for (int head = 0; head < 8; ++head)
    for (int row = 0; row < kRows; ++row) {
      const size_t place = static_cast<size_t>(head * 1024 + 1024 - kRows + row),
                   mine = static_cast<size_t>(head * kRows + row);
      for (size_t view = 0; view < 2; ++view) different += survivors[view].read()[place] != o.survivors[view][mine];
      for (size_t d = 0; d < static_cast<size_t>(dim); ++d) {
        const double x = from_bits(expected[place * static_cast<size_t>(dim) + d], kBf16);
        error = std::max(error, std::fabs(x - element(c, o, mine * static_cast<size_t>(dim) + d)));
        largest = std::max(largest, std::fabs(x));
      }
    }
  std::printf("D%d %s: difference %.2e of %.2e, %d of 64 counts differ\n", dim, c.name, error, largest, different);
  CHECK(error <= largest / 64 && different == 0);
}

void test_properties() {
  Case c{"properties", kBf16, 2, 8, 2, 2, 900, 64, 64, {900, 411}};
  const auto nonzero = [](const Outputs &o) {
    return std::count_if(o.out.begin(), o.out.end(), [](uint8_t byte) { return (byte & 0x7f) != 0; });
  };
  for (const int32_t screen : kScreens) {
    {
      Case same = c;
      same.lambda = 1;
      const Inputs in(same);
      in.q2.write(in.q1.read());
      in.k2.write(in.k1.read());
      const CacheMemory memory(same, false, screen);
      memory.fill(in);
      CHECK(nonzero(run(in, memory, 2)) == 0);  // identical views, lambda 1
    }
    {
      Case huge = c;
      huge.beta = 1e6f;
      const Inputs in(huge);
      const CacheMemory memory(huge, false, screen);
      memory.fill(in);
      const Outputs o = run(in, memory, 2);
      CHECK(nonzero(o) == 0);
      CHECK(std::count(o.survivors[0].begin(), o.survivors[0].end(), 0) == 32);
    }
    {
      Case two = c, one = c;
      two.lambda = one.lambda = 0;
      one.views = 1;
      const Inputs in(two), alone(one);
      const CacheMemory memory(two, false, screen), single(one, false, screen);
      memory.fill(in);
      single.fill(alone);
      alone.q1.write(in.q1.read());
      const Outputs both = run(in, memory, 2), first = run(alone, single, 2);
      CHECK(both.out == first.out && both.survivors[0] == first.survivors[0]);  // lambda 0 is the single view
    }
  }
  std::printf("properties\n");
}

// Element offsets beyond 2^31, by the stride of heads.
void test_far(int32_t screen) {
  constexpr int64_t kFar = (int64_t{1} << 31) + 4096;
  size_t free_bytes = 0, total_bytes = 0;
  check_cuda(cudaMemGetInfo(&free_bytes, &total_bytes), "memory");
  if (free_bytes < static_cast<size_t>(6 * kFar)) {
    std::printf("not run: offsets beyond 2^31 need %lld free bytes\n", static_cast<long long>(6 * kFar));
    return;
  }
  const Case c{"element offsets beyond 2^31", kBf16, 1, 4, 2, 1, 1100, 64, 64, {}};
  const Inputs in(c);
  const CacheMemory near(c, false, screen);
  near.fill(in);
  const Outputs expected = run(in, near, 2);
  DeviceArray<uint16_t> far(static_cast<size_t>(kFar) + 1100 * 64 * 3 + 64);
  CacheMemory memory(c, false, screen);
  int64_t offset = 0;
  for (sieve_tensor *t : {&memory.cache.key1, &memory.cache.key2, &memory.cache.value}) {
    t->data = far.data() + offset;
    t->strides[1] = kFar;
    offset += 1100 * 64;
  }
  memory.fill(in);
  const bool equal = run(in, memory, 2) == expected;
  std::printf("%s, %s: %s\n", c.name, kScreenNames[screen], equal ? "equal" : "DIFFER");
  CHECK(equal);
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
      {"bf16 D128 group 32, 2 new rows (64 packed)", kBf16, 2, 32, 1, 2, 1200, 128, 128, {1200, 1}},
      {"fp16 D128 group 4, 8 new rows (32 packed)", kFp16, 2, 8, 2, 8, 1200, 128, 128, {1200, 5}},
      {"bf16 D64 group 3, 7 new rows (21 packed)", kBf16, 2, 6, 2, 7, 1111, 64, 64, {1111, 300}},
      {"bf16 D32", kBf16, 2, 4, 2, 1, 500, 32, 32, {500, 99}},
      {"fp16 D96, Dv 32", kFp16, 2, 4, 2, 3, 500, 96, 32, {500, 99}},
      {"bf16 D32, Dv 128", kBf16, 2, 4, 2, 1, 500, 32, 128, {500, 99}},
      {"bf16 D128, Dv 96", kBf16, 2, 4, 2, 1, 500, 128, 96, {500, 99}},
  };
  const auto add = [&](Case c, auto change) {
    change(c);
    cases.push_back(c);
  };
  const Case base{"", kBf16, 3, 8, 2, 4, 1300, 128, 128, {1300, 640, 3}};
  add(base, [](Case &c) { c.name = "one view", c.views = 1, c.lambda = 0; });
  add(base, [](Case &c) { c.name = "window 100, 4 new rows", c.window = 100; });
  add(base, [](Case &c) { c.name = "not causal", c.causal = false; });
  add(base, [](Case &c) { c.name = "offset 500, window 70", c.align_end = false, c.offset = 500, c.window = 70; });
  add(base, [](Case &c) { c.name = "rows before every key", c.align_end = false, c.offset = -2; });
  add(base, [](Case &c) {
    c.name = "norm, gate, scale, fp32 output";
    c.norm = c.gate = c.float32_output = true;
    c.output_scale = 0.7f;
  });
  add(base, [](Case &c) { c.name = "norm, gate, interleaved heads", c.norm = c.gate = c.interleaved = true; });
  add(base, [](Case &c) { c.name = "power 1, kappa 20", c.power = 1, c.kappa = 20; });
  add(base, [](Case &c) { c.name = "power 3, fp16", c.power = 3, c.dtype = kFp16; });
  add(base, [](Case &c) { c.name = "power 1.5", c.power = 1.5f; });
  add(base, [](Case &c) { c.name = "beta -0.2, everything near survives", c.beta = -0.2f; });
  add(base, [](Case &c) { c.name = "beta 1, lambda -2", c.beta = 1, c.lambda = -2; });
  add(base, [](Case &c) { c.name = "pages of 16", c.page_size = 16; });
  add(base, [](Case &c) { c.name = "pages of 48, interleaved", c.page_size = 48, c.interleaved = true; });
  add(base, [](Case &c) { c.name = "pages of 256", c.page_size = 256; });
  add(base, [](Case &c) {
    c.name = "D64, pages of 80, fp16, window 33";
    c.page_size = 80;
    c.dim = c.value_dim = 64;
    c.dtype = kFp16;
    c.window = 33;
  });
  for (const Case &c : cases)
    if (chosen(std::string("cases: ") + c.name)) test(c);
  const auto wanted = [](const char *name, const std::string &which) {
    return chosen(std::string("properties: ") + name + " " + which);
  };
  for (uint32_t seed = 1; seed <= 3; ++seed)
    for (const int dim : {64, 128})
      for (const int32_t dtype : {kBf16, kFp16})
        if (wanted(dtype == kBf16 ? "adversarial bf16" : "adversarial fp16", "D" + std::to_string(dim)))
          test_adversarial(dtype, dim, seed == 3, seed);
  for (const int dim : {64, 128})
    if (wanted("rounding", "D" + std::to_string(dim))) test_rounding(dim);
  for (const bool paged : {false, true})
    if (wanted("append", paged ? "paged" : "contiguous")) test_append(paged);
  for (const int dim : {64, 128})
    if (wanted("prefill", "D" + std::to_string(dim))) test_prefill(dim);
  for (const int32_t screen : kScreens) {
    if (wanted("graph", kScreenNames[screen])) test_graph(screen);
    if (wanted("NaN", kScreenNames[screen])) test_nan(screen);
    if (wanted("far", kScreenNames[screen])) test_far(screen);
  }
  if (wanted("identities", "all")) test_properties();
  CHECK(sieve_context_destroy(context) == SIEVE_STATUS_OK);
  return finish();
}
