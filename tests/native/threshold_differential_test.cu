// Threshold differential attention through the C ABI against float64 on the same device: for kernel developers, without
// .NET.
//
// Tolerance: two roundings to the element type (the weights before the value product, the output) bound the error of an
// output element by 2 u max|output| plus what cancels between weights; 4 u is asked for, u = 2^-9 (bf16) or 2^-12
// (fp16). A key whose score is within fp32 rounding of the threshold may be counted either way: such rows are few, none
// usually.
#include <algorithm>
#include <vector>

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
  DeviceArray<int> survivors1, survivors2, tiles;
  DeviceArray<float> gain, gate;

  explicit Buffers(const NaiveProblem &p)
      : q1(rows(p, p.query_heads, p.queries) * static_cast<size_t>(p.dim)),
        k1(rows(p, p.key_heads, p.keys) * static_cast<size_t>(p.dim)),
        q2(q1.count()),
        k2(k1.count()),
        v(rows(p, p.key_heads, p.keys) * static_cast<size_t>(p.values())),
        out(2 * rows(p, p.query_heads, p.queries) * static_cast<size_t>(p.values()) + 2 * kGuard),
        survivors1(rows(p, p.query_heads, p.queries)),
        survivors2(survivors1.count()),
        tiles(rows(p, p.query_heads, (p.queries + 63) / 64) * static_cast<size_t>((p.keys + 1023) / 1024)),
        gain(static_cast<size_t>(p.values())),
        gate(survivors1.count()) {
    uint32_t seed = 1;
    for (DeviceArray<uint16_t> *array : {&q1, &k1, &q2, &k2, &v})
      array->write(random_elements(array->count(), p.dtype, seed++));
    std::vector<float> gains(gain.count()), gates(gate.count());
    for (size_t i = 0; i < gains.size(); ++i) gains[i] = 0.5f + static_cast<float>(i % 7) * 0.25f;
    for (size_t i = 0; i < gates.size(); ++i) gates[i] = static_cast<float>(i % 11) * 0.3f - 1.5f;
    gain.write(gains);
    gate.write(gates);
  }
  static size_t rows(const NaiveProblem &p, int heads, int count) {
    return static_cast<size_t>(p.batch) * static_cast<size_t>(heads) * static_cast<size_t>(count);
  }
  size_t output_bytes() const { return out.count() - 2 * kGuard; }
  void *output() const { return out.data() + kGuard; }
};

// A path, and what it screens with.
struct Way {
  const char *label;
  int32_t path;
  int32_t screen = SIEVE_TDA_SCREEN_NONE;
};

// What differs between calls on the same tensors.
struct Call {
  Way way;
  bool two_views = true;
  bool same_views = false;
};

void run(const NaiveProblem &p, Buffers &b, const Call &call) {
  sieve_attention_problem problem{};
  problem.struct_size = sizeof problem;
  problem.causal = p.causal;
  problem.path = call.way.path;
  problem.query_alignment = SIEVE_QUERY_ALIGNMENT_OFFSET;
  problem.query_offset = p.offset;
  problem.window = p.window;
  problem.norm = p.rms ? SIEVE_NORM_RMS : SIEVE_NORM_NONE;
  problem.norm_eps = static_cast<float>(p.norm_eps);
  problem.output_scale = static_cast<float>(p.output_scale);
  if (p.rms) {
    problem.norm_gain = b.gain.data();
    problem.gate = view(b.gate.data(), SIEVE_DTYPE_FLOAT32, p.batch, p.query_heads, p.queries, 1);
  }
  sieve_tda_forward_arguments a{};
  a.struct_size = sizeof a;
  a.screen = call.way.screen;
  a.query1 = view(b.q1.data(), p.dtype, p.batch, p.query_heads, p.queries, p.dim);
  a.key1 = view(b.k1.data(), p.dtype, p.batch, p.key_heads, p.keys, p.dim);
  if (call.two_views) {
    a.query2 = view(call.same_views ? b.q1.data() : b.q2.data(), p.dtype, p.batch, p.query_heads, p.queries, p.dim);
    a.key2 = view(call.same_views ? b.k1.data() : b.k2.data(), p.dtype, p.batch, p.key_heads, p.keys, p.dim);
    a.survivors2 = view(b.survivors2.data(), SIEVE_DTYPE_INT32, p.batch, p.query_heads, p.queries, 1);
  }
  a.value = view(b.v.data(), p.dtype, p.batch, p.key_heads, p.keys, p.values());
  a.output = view(b.output(), p.dtype, p.batch, p.query_heads, p.queries, p.values());
  a.survivors1 = view(b.survivors1.data(), SIEVE_DTYPE_INT32, p.batch, p.query_heads, p.queries, 1);
  a.survivor_tiles =
      view(b.tiles.data(), SIEVE_DTYPE_INT32, p.batch, p.query_heads, (p.queries + 63) / 64, (p.keys + 1023) / 1024);
  a.beta.value = static_cast<float>(p.beta);
  a.lambda.value = static_cast<float>(p.lambda);
  a.kappa = static_cast<float>(p.kappa);
  a.power = static_cast<float>(p.power);
  uint64_t bytes = 0;
  const int32_t planned = sieve_tda_forward_workspace(context, &problem, &a, &bytes);
  if (planned != SIEVE_STATUS_OK) std::fprintf(stderr, "%s\n", sieve_last_message());
  CHECK(planned == SIEVE_STATUS_OK);
  DeviceArray<uint8_t> workspace(bytes);
  workspace.fill(0xff);
  b.out.fill(0xff);
  b.survivors1.fill(0xff);
  b.survivors2.fill(0xff);
  b.tiles.fill(0xff);
  const int32_t status = sieve_tda_forward(context, &problem, &a, workspace.data(), bytes, nullptr);
  if (status != SIEVE_STATUS_OK) std::fprintf(stderr, "%s\n", sieve_last_message());
  CHECK(status == SIEVE_STATUS_OK);
  check_cuda(cudaDeviceSynchronize(), "sieve_tda_forward");
}

struct Result {
  std::vector<uint8_t> out;
  std::vector<int> survivors1, survivors2, tiles;
  bool operator==(const Result &) const = default;
};

Result result_of(const NaiveProblem &p, Buffers &b, const Call &call) {
  run(p, b, call);
  return {b.out.read(), b.survivors1.read(), b.survivors2.read(), b.tiles.read()};
}

void test(const Case &c, const Way &way) {
  const NaiveProblem &p = c.p;
  Buffers b(p);
  const Result result = result_of(p, b, {way});
  CHECK(result == result_of(p, b, {way}));  // bitwise repeatable
  if (way.screen != SIEVE_TDA_SCREEN_NONE) CHECK(result == result_of(p, b, {{way.label, way.path}}));

  const size_t elements = b.output_bytes() / 2;
  const int query_tiles = (p.queries + 63) / 64, key_tiles = (p.keys + 63) / 64, words = (p.keys + 1023) / 1024;
  DeviceArray<double> reference(elements);
  DeviceArray<int> r1(b.survivors1.count()), r2(r1.count()),
      rt(Buffers::rows(p, p.query_heads, query_tiles) * static_cast<size_t>(key_tiles));
  rt.fill(0);
  naive_forward(p, b.q1.data(), b.k1.data(), b.q2.data(), b.k2.data(), b.v.data(), p.rms ? b.gain.data() : nullptr,
                p.rms ? b.gate.data() : nullptr, reference.data(), r1.data(), r2.data(), rt.data(), 0, p.queries);
  const std::vector<double> expected = reference.read();
  const std::vector<int> e1 = r1.read(), e2 = r2.read(), et = rt.read();
  double largest = 0, error = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    uint16_t element;
    std::memcpy(&element, &result.out[Buffers::kGuard + 2 * i], 2);
    const double difference = std::fabs(from_bits(element, p.dtype) - expected[i]);
    if (!(difference <= error)) error = difference;  // NaN stays
    largest = std::max(largest, std::fabs(expected[i]));
  }
  size_t moved = 0, tiles_moved = 0;
  for (size_t i = 0; i < e1.size(); ++i)
    moved += static_cast<size_t>(std::abs(result.survivors1[i] - e1[i]) + std::abs(result.survivors2[i] - e2[i]));
  for (size_t i = 0; i < et.size(); ++i) {
    const size_t row = i / static_cast<size_t>(key_tiles), tile = i % static_cast<size_t>(key_tiles);
    const int word = result.tiles[row * static_cast<size_t>(words) + tile / 16];
    tiles_moved += (word >> 2 * (tile % 16) & 3) != et[i];
  }
  const double tolerance = 4 * (p.dtype == SIEVE_DTYPE_BFLOAT16 ? 1.0 / 512 : 1.0 / 4096) * largest;
  std::printf("%-8s %-44s max|out| %.3e  error %.3e  allowed %.3e  moved: survivors %zu tiles %zu of %zu\n", way.label,
              c.name, largest, error, tolerance, moved, tiles_moved, et.size());
  CHECK(error <= tolerance);
  CHECK(moved <= e1.size() / 1000);
  CHECK(tiles_moved <= moved);
  for (size_t i = 0; i < Buffers::kGuard; ++i)
    CHECK(result.out[i] == 0xff && result.out[result.out.size() - 1 - i] == 0xff);
}

// A launch without a reference; with and without a screen it gives the same.
void test_alone(const Way &way, const NaiveProblem &p) {
  Buffers b(p);
  const Result result = result_of(p, b, {way});
  CHECK(!(way.screen != SIEVE_TDA_SCREEN_NONE) || result == result_of(p, b, {{way.label, way.path}}));
  std::printf("%-8s %d x %d, D%d\n", way.label, p.queries, p.keys, p.dim);
}

// The output without its guards, and whether all of it is +-0.
bool is_zero(const Result &r) {
  for (size_t i = Buffers::kGuard; i < r.out.size() - Buffers::kGuard; i += 2)
    if (r.out[i] != 0 || (r.out[i + 1] & 0x7f) != 0) return false;
  return true;
}

// Identities that hold bit for bit.
void test_properties(const Way &way, int32_t dtype, int dim, int value_dim) {
  NaiveProblem p{1, 4, 2, 700, 700, dim, true, 0, 0, 0.4, 1, 0.7, 2, false, 0, 1, dtype, value_dim};
  Buffers b(p);
  const Result both = result_of(p, b, {way});
  CHECK(!is_zero(both));

  p.lambda = 0;
  const Result counted = result_of(p, b, {way}), single = result_of(p, b, {way, false});
  CHECK(counted.out == single.out && counted.survivors1 == single.survivors1);
  p.lambda = 1;
  for (const double power : {1.0, 2.0, 3.0, 1.7}) {
    p.power = power;
    const Result same = result_of(p, b, {way, true, true});
    CHECK(is_zero(same) && same.survivors1 == same.survivors2);
  }
  p.power = 2;
  p.lambda = 0.7;
  p.beta = 50;
  p.kappa = 0.5;  // also the row that sees one key has a threshold
  const Result none = result_of(p, b, {way});
  CHECK(is_zero(none));
  for (const int count : none.survivors1) CHECK(count == 0);
  for (const int word : none.tiles) CHECK(word == 0);
  p.beta = 0.4;
  p.kappa = 1;

  // Scores are cosines: a power of two in front of a row changes nothing.
  const auto scaled = [&](const DeviceArray<uint16_t> &array) {
    std::vector<uint16_t> bits = array.read();
    const size_t row = static_cast<size_t>(dim);
    for (size_t i = 0; i < bits.size(); ++i)
      bits[i] =
          to_bits(static_cast<float>(std::ldexp(from_bits(bits[i], dtype), static_cast<int>(i / row % 5) - 2)), dtype);
    array.write(bits);
  };
  if (dtype == SIEVE_DTYPE_BFLOAT16) {
    for (const DeviceArray<uint16_t> *array : {&b.q1, &b.k1, &b.q2, &b.k2}) scaled(*array);
    CHECK(both == result_of(p, b, {way}));
  }
  std::printf("%-8s properties, %s D%d Dv%d\n", way.label, dtype == SIEVE_DTYPE_BFLOAT16 ? "bf16" : "fp16", dim,
              value_dim);
}

// A NaN in one row of an input changes only the rows that see it, whatever the window.
void test_containment(const Way &way) {
  constexpr int kRows = 500, kDim = 64, kBad = 237;
  for (const long long window : {0ll, 60ll}) {
    NaiveProblem p{1, 2, 1, kRows, kRows, kDim, true, 0, window, 0.3, 1, 0.7, 2, false, 0, 1, SIEVE_DTYPE_BFLOAT16};
    Buffers b(p);
    const Result clean = result_of(p, b, {way});
    const DeviceArray<uint16_t> *arrays[] = {&b.q1, &b.k1, &b.q2, &b.k2, &b.v};
    for (int which = 0; which < 5; ++which)
      for (const uint16_t poison : {uint16_t{0x7fc0}, uint16_t{0x7f80}, uint16_t{0xff80}}) {
        const std::vector<uint16_t> kept = arrays[which]->read();
        std::vector<uint16_t> bits = kept;
        bits[kBad * kDim + 5] = poison;
        arrays[which]->write(bits);
        const Result dirty = result_of(p, b, {way});
        arrays[which]->write(kept);
        size_t wrong = 0, changed = 0;
        for (int head = 0; head < 2; ++head)
          for (int row = 0; row < kRows; ++row) {
            const bool query = which == 0 || which == 2;
            const bool sees = query ? row == kBad && head == 0 : row >= kBad && (window == 0 || row < kBad + window);
            for (int d = 0; d < kDim; ++d) {
              const size_t i = Buffers::kGuard + 2 * static_cast<size_t>((head * kRows + row) * kDim + d);
              const bool differs = clean.out[i] != dirty.out[i] || clean.out[i + 1] != dirty.out[i + 1];
              wrong += differs && !sees;
              changed += differs;
            }
          }
        CHECK(wrong == 0);
        CHECK(changed > 0 || which == 4);
      }
  }
  std::printf("%-8s containment\n", way.label);
}

// Scores a rounding away from the threshold, keys as far from their images as they can be and queries in that
// direction, one huge coordinate, zero rows: every way finds the same survivors.
void test_screening(const Way &way) {
  for (const int dim : {64, 128, 32}) {
    NaiveProblem p{1, 4, 2, 1500, 1500, dim, true, 0, 0, 0.6, 1, 0.7, 2, false, 0, 1, SIEVE_DTYPE_BFLOAT16};
    Buffers b(p);
    const size_t row = static_cast<size_t>(dim);
    // Every third key repeats a direction, every fourth query is that direction turned until its cosine meets the
    // threshold of its row within the steps of bf16.
    std::vector<uint16_t> q = b.q1.read(), k = b.k1.read();
    for (size_t i = 0; i < k.size() / row; i += 3)
      for (size_t d = 0; d < row; ++d) k[i * row + d] = to_bits(d == 0 ? 1.0f : 0.0f, p.dtype);
    for (size_t i = 0; i < q.size() / row; i += 4) {
      const double n = static_cast<double>(i % 1500) + 1, tau = p.beta * std::sqrt(2 * std::log(n) / dim);
      for (size_t d = 0; d < row; ++d) q[i * row + d] = to_bits(0.0f, p.dtype);
      q[i * row] = to_bits(static_cast<float>(tau), p.dtype);
      q[i * row + 1] = to_bits(static_cast<float>(std::sqrt(std::max(0.0, 1 - tau * tau))), p.dtype);
    }
    // Every fourth query meets the threshold with a key of its own, along with what an image of the key lacks.
    for (size_t i = 1; i < q.size() / row; i += 4) {
      const size_t position = i % 1500, head = i / 1500 / 2, key = head * 1500 + position / 2;
      std::vector<double> unit(row), rest(row), turned(row);
      double norm = 0, along = 0, length = 0;
      for (size_t d = 0; d < row; ++d) {
        const double steps = std::floor(from_bits(k[key * row + d], p.dtype) * 8) + 0.49;  // between two steps
        unit[d] = steps;
        norm += steps * steps;
      }
      for (size_t d = 0; d < row; ++d) {
        unit[d] /= std::sqrt(norm);
        k[key * row + d] = to_bits(static_cast<float>(unit[d]), p.dtype);
        unit[d] = from_bits(k[key * row + d], p.dtype);
        rest[d] = unit[d] - std::round(unit[d] * 127) / 127;
        along += rest[d] * unit[d];
      }
      for (size_t d = 0; d < row; ++d) {
        turned[d] = rest[d] - along * unit[d];
        length += turned[d] * turned[d];
      }
      const double n = static_cast<double>(position) + 1, tau = p.beta * std::sqrt(2 * std::log(n) / dim);
      for (size_t d = 0; d < row && length > 0; ++d)
        q[i * row + d] = to_bits(
            static_cast<float>(tau * unit[d] + std::sqrt(std::max(0.0, 1 - tau * tau) / length) * turned[d]), p.dtype);
    }
    for (size_t i = 1; i < k.size() / row; i += 17) k[i * row + i % row] = to_bits(3e4f, p.dtype);  // one huge
    for (size_t i = 2; i < k.size() / row; i += 23)
      for (size_t d = 0; d < row; ++d) k[i * row + d] = 0;
    for (size_t i = 2; i < q.size() / row; i += 29)
      for (size_t d = 0; d < row; ++d) q[i * row + d] = 0;
    for (size_t i = 3; i < q.size() / row; i += 31) q[i * row + i % row] = to_bits(-3e4f, p.dtype);
    b.q1.write(q);
    b.k1.write(k);
    for (const double beta : {0.6, 0.98, 1.3}) {
      p.beta = beta;
      const Result plain = result_of(p, b, {way});
      CHECK(plain.survivors1 == result_of(p, b, {{"generic", SIEVE_PATH_GENERIC}}).survivors1);
      if (way.screen != SIEVE_TDA_SCREEN_NONE) CHECK(plain == result_of(p, b, {{way.label, way.path}}));
    }
  }
  std::printf("%-8s screening\n", way.label);
}

// Heads further apart than 2^31 elements.
void test_far_heads(const Way &way) {
  constexpr int64_t kDim = 64, kRows = 200, kStride = (int64_t{1} << 31) + 4096;
  void *memory = nullptr;
  if (cudaMalloc(&memory, static_cast<size_t>(kStride + 8 * kRows * kDim) * 2) != cudaSuccess) {
    cudaGetLastError();
    std::printf("%-8s far heads: not run, too little memory\n", way.label);
    return;
  }
  NaiveProblem p{1, 2, 2, kRows, kRows, kDim, true, 0, 0, 0.3, 1, 0.7, 2, false, 0, 1, SIEVE_DTYPE_BFLOAT16};
  Buffers b(p);
  const Result near = result_of(p, b, {way});
  auto *far = static_cast<uint16_t *>(memory);
  const auto place = [&](int slot) {
    sieve_tensor t = view(far + slot * kRows * kDim, SIEVE_DTYPE_BFLOAT16, 1, 2, kRows, kDim);
    t.strides[1] = kStride;
    return t;
  };
  const DeviceArray<uint16_t> *arrays[] = {&b.q1, &b.k1, &b.q2, &b.k2, &b.v};
  sieve_tensor tensors[6];
  for (int i = 0; i < 6; ++i) tensors[i] = place(i);
  for (int i = 0; i < 5; ++i)
    for (int head = 0; head < 2; ++head)
      check_cuda(cudaMemcpy(static_cast<uint16_t *>(tensors[i].data) + head * kStride,
                            arrays[i]->data() + head * kRows * kDim, kRows * kDim * 2, cudaMemcpyDeviceToDevice),
                 "far copy");
  sieve_attention_problem problem{};
  problem.struct_size = sizeof problem;
  problem.causal = 1;
  problem.path = way.path;
  problem.output_scale = 1;
  sieve_tda_forward_arguments a{};
  a.struct_size = sizeof a;
  a.screen = way.screen;
  a.query1 = tensors[0];
  a.key1 = tensors[1];
  a.query2 = tensors[2];
  a.key2 = tensors[3];
  a.value = tensors[4];
  a.output = tensors[5];
  a.beta.value = 0.3f;
  a.lambda.value = 0.7f;
  a.kappa = 1;
  a.power = 2;
  DeviceArray<uint8_t> workspace(1 << 20);
  CHECK(sieve_tda_forward(context, &problem, &a, workspace.data(), workspace.bytes(), nullptr) == SIEVE_STATUS_OK);
  check_cuda(cudaDeviceSynchronize(), "far heads");
  std::vector<uint8_t> out(near.out.size() - 2 * Buffers::kGuard);
  for (int head = 0; head < 2; ++head)
    check_cuda(
        cudaMemcpy(&out[static_cast<size_t>(head) * kRows * kDim * 2],
                   static_cast<uint16_t *>(tensors[5].data) + head * kStride, kRows * kDim * 2, cudaMemcpyDeviceToHost),
        "far read");
  CHECK(std::equal(out.begin(), out.end(), near.out.begin() + Buffers::kGuard));
  cudaFree(memory);
  std::printf("%-8s far heads\n", way.label);
}

// Packed sequences, or padded ones with their lengths in device memory, give bit for bit what each sequence gives
// alone.
void test_sequences(const Way &way, bool padded) {
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
  problem.path = way.path;
  problem.output_scale = 1;
  sieve_tda_forward_arguments a{};
  a.struct_size = sizeof a;
  a.screen = way.screen;
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
  std::printf("%-8s %-44s %zu elements, %zu differ\n", way.label, padded ? "padded sequences" : "packed sequences",
              compared, different);
  CHECK(compared == static_cast<size_t>(378) * kHeads * kDim);
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
  constexpr int32_t kBf16 = SIEVE_DTYPE_BFLOAT16, kFp16 = SIEVE_DTYPE_FLOAT16;
  const Case cases[] = {
      {"bf16 D64 one row and key", {1, 1, 1, 1, 1, 64, true, 0, 0, 0.8, 1, 0.5, 2, false, 0, 1, kBf16}},
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
      {"bf16 D32 Dv64, 239 x 799", {1, 4, 2, 239, 799, 32, true, 560, 0, 0.4, 1, 0.3, 2, false, 0, 1, kBf16, 64}},
      {"fp16 D32 Dv32, 17 rows, norm, gate", {2, 2, 2, 17, 17, 32, true, 0, 0, 0.4, 1, 0.3, 2, true, 1e-6, 1, kFp16}},
      {"bf16 D64 Dv128, 113 rows", {1, 4, 4, 113, 113, 64, true, 0, 0, 0.4, 1, 0.3, 1, false, 0, 1, kBf16, 128}},
      {"fp16 D64 Dv96, 1023 rows", {1, 2, 1, 1023, 1023, 64, true, 0, 0, 0.5, 1, 0.3, 2, false, 0, 1, kFp16, 96}},
      {"bf16 D64 Dv32, window 300", {1, 2, 1, 1023, 1023, 64, true, 0, 300, 0.5, 1, 0.3, 2, false, 0, 1, kBf16, 32}},
      {"fp16 D128 Dv64, power 1.5", {1, 2, 2, 799, 799, 128, true, 0, 0, 0.5, 1, 0.3, 1.5, false, 0, 1, kFp16, 64}},
      {"bf16 D128 Dv32, not causal", {1, 2, 2, 239, 500, 128, false, 0, 0, 0.5, 1, 0.3, 2, true, 1e-6, 1, kBf16, 32}},
      {"bf16 D64 4224 rows", {1, 2, 1, 4224, 4224, 64, true, 0, 0, 0.8, 1, 0.3, 2, false, 0, 1, kBf16}},
      {"bf16 D128 4224 rows", {1, 2, 1, 4224, 4224, 128, true, 0, 0, 0.8, 1, 0.3, 2, false, 0, 1, kBf16}},
  };
  sieve_support_query query{
      sizeof query, SIEVE_OPERATION_TDA, SIEVE_DIRECTION_FORWARD, SIEVE_PATH_GENERIC, kBf16, 64, 64, 0};
  for (const Way &way : {Way{"generic", SIEVE_PATH_GENERIC}, Way{"hopper", SIEVE_PATH_HOPPER},
                         Way{"screened", SIEVE_PATH_HOPPER, SIEVE_TDA_SCREEN_INT8}}) {
    query.path = way.path;
    if (sieve_support(context, &query) != SIEVE_STATUS_OK) {
      std::printf("not run: %s\n", sieve_last_message());
      continue;
    }
    const auto wanted = [&](const char *group, const char *name) {
      return chosen(std::string(way.label) + " " + group + ": " + name);
    };
    for (const Case &c : cases)
      if (wanted("cases", c.name)) test(c, way);
    if (wanted("properties", "packed sequences")) test_sequences(way, false);
    if (wanted("properties", "padded sequences")) test_sequences(way, true);
    if (wanted("properties", "identities, bf16 D64 Dv64")) test_properties(way, kBf16, 64, 64);
    if (wanted("properties", "identities, fp16 D64 Dv128")) test_properties(way, kFp16, 64, 128);
    if (wanted("properties", "identities, fp16 D128 Dv128")) test_properties(way, kFp16, 128, 128);
    if (wanted("properties", "identities, bf16 D32 Dv96")) test_properties(way, kBf16, 32, 96);
    if (wanted("properties", "containment")) test_containment(way);
    if (wanted("properties", "screening")) test_screening(way);
    if (wanted("properties", "far heads")) test_far_heads(way);
    // Small problems without a reference, for tools that slow a kernel down a thousandfold.
    if (wanted("alone", "bf16 D64, dense"))
      test_alone(way, {1, 2, 1, 200, 260, 64, true, 60, 0, 0.2, 1, 0.3, 2, false, 0, 1, kBf16});
    if (wanted("alone", "bf16 D64, sparse"))
      test_alone(way, {1, 2, 1, 200, 330, 64, true, 130, 0, 1.0, 1, 0.3, 2, false, 0, 1, kBf16});
    if (wanted("alone", "fp16 D128"))
      test_alone(way, {1, 1, 1, 130, 200, 128, true, 70, 0, 0.7, 1, 0.3, 2, false, 0, 1, kFp16});
  }
  CHECK(sieve_context_destroy(context) == SIEVE_STATUS_OK);
  return finish();
}
