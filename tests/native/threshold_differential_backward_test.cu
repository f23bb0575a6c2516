// The backward pass of threshold differential attention through the C ABI against float64 on the same device.
//
// Tolerance: the error of a gradient is at most three times that of a plain evaluation in the element type (largest
// element; one rounding of the largest value is added, for tensors of few elements) and at most twice in the mean
// square. Gradients of parameters are sums over rows, which cancel: they are held to a share of the sum of magnitudes.
// Around every gradient lie guard bytes and, with strides, gaps; everything is poisoned before the call. Every case
// runs with forward inside, the same again, with the bitmap of a forward call, and with that of the generic one; all
// bits are the same.
#include <cmath>
#include <cstring>
#include <string>

#include "tests/native/support/check.h"
#include "tests/native/support/gradient_check.h"
#include "tests/native/support/naive_threshold_differential_backward.h"

namespace sieve::test {

sieve_context *context = nullptr;

constexpr int32_t kBf16 = SIEVE_DTYPE_BFLOAT16, kFp16 = SIEVE_DTYPE_FLOAT16, kFp32 = SIEVE_DTYPE_FLOAT32;

struct Case {
  const char *name;
  int32_t dtype = kBf16;
  int head_dim = 64, value_dim = 64;
  int batch = 1, query_heads = 2, key_heads = 2, queries = 128, keys = 128;
  bool causal = true, at_end = true;
  long long offset = 0, window = 0;
  double beta = 0.5, lambda = 0.3, kappa = 1, power = 2;
  bool norm = false, gate = false;
  float output_scale = 1;
  bool lengths = false, packed = false, strided = false, floats = false, one_view = false;
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

constexpr int kInputs = 6,
              kGradients = 5;  // query1, key1, query2, key2, value, output gradient; gradients of the first

// Everything that a call reads and writes.
struct Buffers {
  const Case &c;
  std::vector<Sequence> sequences;
  std::vector<Tensor *> inputs, gradients;
  Tensor gate_gradient;
  DeviceArray<float> gain, gate, parameters, gain_gradient;  // parameters: [3][query heads]
  DeviceArray<int32_t> tiles, query_starts, key_starts, lengths;
  int longest = 0;

  explicit Buffers(const Case &test_case)
      : c(test_case),
        sequences(sequences_of(test_case)),
        gate_gradient(c.batch, c.query_heads, c.queries, 1, kFp32, false),
        gain(static_cast<size_t>(c.value_dim)),
        gate(rows()),
        parameters(static_cast<size_t>(3 * c.query_heads)),
        gain_gradient(gain.count()),
        tiles(static_cast<size_t>(c.batch * c.query_heads) * tile_rows() * words()),
        query_starts(sequences.size() + 1),
        key_starts(sequences.size() + 1),
        lengths(sequences.size()) {
    const int32_t type = c.floats ? kFp32 : c.dtype;
    for (int i = 0; i < kInputs; ++i) {
      const bool of_keys = i == 1 || i == 3 || i == 4;
      const int heads = of_keys ? c.key_heads : c.query_heads, count = of_keys ? c.keys : c.queries,
                dim = i < 4 ? c.head_dim : c.value_dim;
      inputs.push_back(new Tensor(c.batch, heads, count, dim, c.dtype, c.strided));
      inputs.back()->randomize(static_cast<uint32_t>(i + 1));
      if (i < kGradients) gradients.push_back(new Tensor(c.batch, heads, count, dim, type, c.strided));
    }
    std::vector<float> gains(gain.count()), gates(gate.count());
    for (size_t i = 0; i < gains.size(); ++i) gains[i] = i == 3 ? 0.0f : 0.5f + static_cast<float>(i % 7) * 0.25f;
    for (size_t i = 0; i < gates.size(); ++i) gates[i] = static_cast<float>(i % 11) * 0.3f - 1.5f;
    gates[gates.size() / 3] = -200, gates[gates.size() / 2] = 90;  // the sigmoid underflows, and is 1
    gain.write(gains);
    gate.write(gates);
    std::vector<int32_t> first_queries, first_keys, counts;
    for (const Sequence &s : sequences) {
      first_queries.push_back(static_cast<int32_t>(s.query_row));
      first_keys.push_back(static_cast<int32_t>(s.key_row));
      counts.push_back(s.keys);
      longest = std::max(longest, s.queries);
    }
    first_queries.push_back(c.queries);
    first_keys.push_back(c.keys);
    query_starts.write(first_queries);
    key_starts.write(first_keys);
    lengths.write(counts);
  }
  ~Buffers() {
    for (Tensor *t : inputs) delete t;
    for (Tensor *t : gradients) delete t;
  }
  Buffers(const Buffers &) = delete;
  Buffers &operator=(const Buffers &) = delete;

  size_t rows() const {
    return static_cast<size_t>(c.batch) * static_cast<size_t>(c.query_heads) * static_cast<size_t>(c.queries);
  }
  size_t tile_rows() const {
    return c.packed ? static_cast<size_t>(c.queries) / 64 + sequences.size() : static_cast<size_t>(c.queries + 63) / 64;
  }
  size_t words() const { return static_cast<size_t>(c.keys + 1023) / 1024; }

  sieve_attention_problem problem(int32_t path) const {
    sieve_attention_problem p{};
    p.struct_size = sizeof p;
    p.causal = c.causal;
    p.path = path;
    p.query_alignment = c.at_end ? SIEVE_QUERY_ALIGNMENT_END : SIEVE_QUERY_ALIGNMENT_OFFSET;
    p.query_offset = c.at_end ? 0 : c.offset;
    p.window = c.window;
    p.output_scale = c.output_scale;
    if (c.norm) {
      p.norm = SIEVE_NORM_RMS;
      p.norm_eps = 1e-6f;
      p.norm_gain = gain.data();
    }
    if (c.gate) p.gate = view(gate.data(), kFp32, c.batch, c.query_heads, c.queries, 1);
    if (c.packed) {
      p.query_starts = query_starts.data();
      p.key_starts = key_starts.data();
      p.sequence_count = static_cast<int32_t>(sequences.size());
      p.longest_query = longest;
    }
    if (c.lengths) p.key_lengths = lengths.data();
    return p;
  }

  template <class Arguments>
  Arguments arguments() const {
    Arguments a{};
    a.struct_size = sizeof a;
    a.query1 = inputs[0]->view();
    a.key1 = inputs[1]->view();
    if (!c.one_view) {
      a.query2 = inputs[2]->view();
      a.key2 = inputs[3]->view();
    }
    a.value = inputs[4]->view();
    a.survivor_tiles = view(tiles.data(), SIEVE_DTYPE_INT32, c.batch, c.query_heads, static_cast<int64_t>(tile_rows()),
                            static_cast<int64_t>(words()));
    a.beta.value = static_cast<float>(c.beta);
    a.lambda.value = c.one_view ? 0.0f : static_cast<float>(c.lambda);
    a.kappa = static_cast<float>(c.kappa);
    a.power = static_cast<float>(c.power);
    return a;
  }

  // The bitmap of a forward call.
  void find_tiles(int32_t path) {
    const sieve_attention_problem p = problem(path);
    sieve_tda_forward_arguments a = arguments<sieve_tda_forward_arguments>();
    Tensor output(c.batch, c.query_heads, c.queries, c.value_dim, c.dtype, false);
    a.output = output.view();
    uint64_t bytes = 0;
    CHECK(sieve_tda_forward_workspace(context, &p, &a, &bytes) == SIEVE_STATUS_OK);
    DeviceArray<uint8_t> workspace(bytes);
    tiles.fill(0xff);
    CHECK(sieve_tda_forward(context, &p, &a, workspace.data(), bytes, nullptr) == SIEVE_STATUS_OK);
    check_cuda(cudaDeviceSynchronize(), "sieve_tda_forward");
  }
};

struct Result {
  std::vector<std::vector<uint8_t>> gradients;
  std::vector<uint8_t> gate;
  std::vector<float> parameters, gain;

  bool operator==(const Result &other) const {
    const auto same = [](const std::vector<float> &x, const std::vector<float> &y) {
      return x.size() == y.size() && std::memcmp(x.data(), y.data(), x.size() * sizeof(float)) == 0;
    };
    return gradients == other.gradients && gate == other.gate && same(parameters, other.parameters) &&
           same(gain, other.gain);
  }
};

Result run(Buffers &b, bool with_tiles, int32_t path = SIEVE_PATH_AUTOMATIC, int32_t screen = SIEVE_TDA_SCREEN_NONE) {
  const Case &c = b.c;
  const sieve_attention_problem p = b.problem(path);
  sieve_tda_backward_arguments a = b.arguments<sieve_tda_backward_arguments>();
  if (!with_tiles) a.survivor_tiles = {};
  a.screen = screen;
  a.output_gradient = b.inputs[5]->view();
  a.query1_gradient = b.gradients[0]->view();
  a.key1_gradient = b.gradients[1]->view();
  a.value_gradient = b.gradients[4]->view();
  a.beta_gradient = b.parameters.data();
  a.kappa_gradient = b.parameters.data() + c.query_heads;
  if (!c.one_view) {
    a.query2_gradient = b.gradients[2]->view();
    a.key2_gradient = b.gradients[3]->view();
    a.lambda_gradient = b.parameters.data() + 2 * c.query_heads;
  }
  if (c.gate) a.gate_gradient = b.gate_gradient.view();
  if (c.norm) a.norm_gain_gradient = b.gain_gradient.data();
  for (Tensor *t : b.gradients) t->memory.fill(0xff);
  b.gate_gradient.memory.fill(0xff);
  b.parameters.fill(0xff);
  b.gain_gradient.fill(0xff);
  uint64_t bytes = 0;
  const int32_t planned = sieve_tda_backward_workspace(context, &p, &a, &bytes);
  if (planned != SIEVE_STATUS_OK) std::fprintf(stderr, "%s\n", sieve_last_message());
  CHECK(planned == SIEVE_STATUS_OK);
  DeviceArray<uint8_t> workspace(bytes);
  workspace.fill(0xff);
  const int32_t status = sieve_tda_backward(context, &p, &a, workspace.data(), bytes, nullptr);
  if (status != SIEVE_STATUS_OK) std::fprintf(stderr, "%s\n", sieve_last_message());
  CHECK(status == SIEVE_STATUS_OK);
  check_cuda(cudaDeviceSynchronize(), "sieve_tda_backward");
  Result result;
  for (Tensor *t : b.gradients) result.gradients.push_back(t->memory.read());
  result.gate = b.gate_gradient.memory.read();
  result.parameters = b.parameters.read();
  result.gain = b.gain_gradient.read();
  return result;
}

// What the reference says of one sequence.
struct Expected {
  std::vector<double> gradients[kGradients], gate, parameters, gain;
};

Expected reference(const Buffers &b, const Sequence &s, bool rounded) {
  const Case &c = b.c;
  const size_t heads = static_cast<size_t>(c.query_heads), key_heads = static_cast<size_t>(c.key_heads),
               rows = heads * static_cast<size_t>(std::max(s.queries, 1)),
               keys = key_heads * static_cast<size_t>(std::max(s.keys, 1)), dim = static_cast<size_t>(c.head_dim),
               wide = static_cast<size_t>(c.value_dim), pairs = rows * static_cast<size_t>(std::max(s.keys, 1));
  DeviceArray<double> query_norms(2 * rows), key_norms(2 * keys), pairs1(pairs), pairs2(pairs), weights(pairs),
      upstream(rows * wide), q1(rows * dim), k1(keys * dim), q2(rows * dim), k2(keys * dim), v(keys * wide), gate(rows),
      parameters(4 * rows), gain(rows * wide);
  const long long scalar = s.batch * c.query_heads * c.queries + s.query_row;
  NaiveThresholdSequence p{};
  p.query[0] = b.inputs[0]->rows_from(s.batch, s.query_row);
  p.key[0] = b.inputs[1]->rows_from(s.batch, s.key_row);
  if (!c.one_view) {
    p.query[1] = b.inputs[2]->rows_from(s.batch, s.query_row);
    p.key[1] = b.inputs[3]->rows_from(s.batch, s.key_row);
  }
  p.value = b.inputs[4]->rows_from(s.batch, s.key_row);
  p.output_gradient = b.inputs[5]->rows_from(s.batch, s.query_row);
  p.queries = s.queries;
  p.keys = s.keys;
  p.head_dim = c.head_dim;
  p.value_dim = c.value_dim;
  p.query_heads = c.query_heads;
  p.group = c.query_heads / c.key_heads;
  p.causal = c.causal;
  p.offset = c.at_end ? s.keys - s.queries : c.offset;
  p.window = c.window;
  p.beta = static_cast<double>(static_cast<float>(c.beta));
  p.lambda = c.one_view ? 0.0 : static_cast<double>(static_cast<float>(c.lambda));
  p.kappa = c.kappa;
  p.power = c.power;
  p.norm = c.norm;
  p.norm_eps = static_cast<double>(1e-6f);
  p.output_scale = static_cast<double>(c.output_scale);
  p.gain = c.norm ? b.gain.data() : nullptr;
  p.gate = c.gate ? b.gate.data() + scalar : nullptr;
  p.scalar_stride = c.queries;
  p.rounded = rounded;
  p.query_norms = query_norms.data();
  p.key_norms = key_norms.data();
  p.pairs[0] = pairs1.data();
  p.pairs[1] = pairs2.data();
  p.weights = weights.data();
  p.upstream = upstream.data();
  p.query_gradient[0] = q1.data();
  p.query_gradient[1] = q2.data();
  p.key_gradient[0] = k1.data();
  p.key_gradient[1] = k2.data();
  p.value_gradient = v.data();
  p.gate_gradient = gate.data();
  p.parameters = parameters.data();
  p.gain_gradient = gain.data();
  naive_threshold_differential_backward(p, c.dtype);
  return {{q1.read(), k1.read(), q2.read(), k2.read(), v.read()}, gate.read(), parameters.read(), gain.read()};
}

void test(const Case &c) {
  Buffers b(c);
  const Result result = run(b, false);
  CHECK(result == run(b, false));
  b.find_tiles(SIEVE_PATH_AUTOMATIC);
  CHECK(result == run(b, true));
  // Whoever finds the tiles; the sums before a norm are added in another order.
  CHECK(c.norm || result == run(b, false, SIEVE_PATH_GENERIC));
  CHECK(c.norm || result == run(b, false, SIEVE_PATH_AUTOMATIC, SIEVE_TDA_SCREEN_INT8));

  Comparison gradients[kGradients], of_gate;
  std::vector<std::vector<uint8_t>> copies = result.gradients;
  std::vector<uint8_t> gate_copy = result.gate;
  std::vector<double> sums(static_cast<size_t>(4 * c.query_heads)), gain(b.gain.count()), gain_size(b.gain.count());
  for (const Sequence &s : b.sequences) {
    const Expected exact = reference(b, s, false), rounded = reference(b, s, true);
    for (int i = 0; i < kGradients; ++i) {
      if (c.one_view && (i == 2 || i == 3)) continue;
      Tensor &t = *b.gradients[static_cast<size_t>(i)];
      const int count = i == 0 || i == 2 ? s.queries : s.keys;
      const int64_t first = i == 0 || i == 2 ? s.query_row : s.key_row;
      for (int64_t h = 0; h < t.heads; ++h)
        for (int r = 0; r < count; ++r) {
          const size_t at = static_cast<size_t>((h * count + r) * t.channels);
          compare(gradients[i], t, copies[static_cast<size_t>(i)], s.batch, h, first + r, &exact.gradients[i][at],
                  &rounded.gradients[i][at]);
        }
      // Keys of padding get zeros.
      const std::vector<double> zeros(static_cast<size_t>(t.channels));
      if (c.lengths && i != 0 && i != 2)
        for (int64_t h = 0; h < t.heads; ++h)
          for (int r = s.keys; r < c.keys; ++r)
            compare(gradients[i], t, copies[static_cast<size_t>(i)], s.batch, h, r, zeros.data(), zeros.data());
    }
    for (int h = 0; h < c.query_heads; ++h)
      for (int r = 0; r < s.queries; ++r) {
        const size_t row = static_cast<size_t>(h * s.queries + r);
        if (c.gate)
          compare(of_gate, b.gate_gradient, gate_copy, s.batch, h, s.query_row + r, &exact.gate[row],
                  &rounded.gate[row]);
        for (int i = 0; i < 4; ++i)
          sums[static_cast<size_t>(i * c.query_heads + h)] +=
              exact.parameters[static_cast<size_t>((h * 4 + i) * s.queries + r)];
        for (size_t d = 0; c.norm && d < gain.size(); ++d) {
          gain[d] += exact.gain[row * gain.size() + d];
          gain_size[d] += std::fabs(exact.gain[row * gain.size() + d]);
        }
      }
  }
  const char *names[] = {"dq1", "dk1", "dq2", "dk2", "dv"};
  std::printf("%-52s", c.name);
  for (int i = 0; i < kGradients; ++i) {
    const Comparison &g = gradients[i];
    if (g.count == 0) continue;
    std::printf(" %s %.1e/%.1e", names[i], g.largest > 0 ? g.error / g.largest : g.error,
                g.largest > 0 ? g.plain / g.largest : g.plain);
    if (!g.good(c.dtype)) std::printf(" BAD%s", g.bad_values ? " NaN" : "");
    CHECK(g.good(c.dtype));
  }
  if (c.gate) {
    std::printf(" gate %.1e", of_gate.largest > 0 ? of_gate.error / of_gate.largest : of_gate.error);
    CHECK(of_gate.good(c.dtype));
  }
  double worst = 0, worst_gain = 0;
  for (int i = 0; i < (c.one_view ? 2 : 3); ++i)
    for (int h = 0; h < c.query_heads; ++h) {
      const double size = sums[static_cast<size_t>(3 * c.query_heads + h)];
      const double error =
          std::fabs(static_cast<double>(result.parameters[static_cast<size_t>(i * c.query_heads + h)]) -
                    sums[static_cast<size_t>(i * c.query_heads + h)]);
      if (!(error <= worst * size)) worst = size > 0 ? error / size : error;
    }
  for (size_t d = 0; c.norm && d < gain.size(); ++d) {
    const double error = std::fabs(static_cast<double>(result.gain[d]) - gain[d]);
    if (!(error <= worst_gain * gain_size[d])) worst_gain = gain_size[d] > 0 ? error / gain_size[d] : error;
  }
  const double share = c.dtype == kBf16 ? 1.0 / 512 : 1.0 / 4096;
  std::printf(" parameters %.1e", worst);
  if (c.norm) std::printf(" gain %.1e", worst_gain);
  std::printf("\n");
  CHECK(worst <= share);
  CHECK(worst_gain <= share);
  for (int i = 0; i < kGradients; ++i) CHECK(all_poison(copies[static_cast<size_t>(i)]));
  CHECK(all_poison(gate_copy));
}

bool all_zero(const Tensor &t, const std::vector<uint8_t> &bytes) {
  for (int64_t h = 0; h < t.heads; ++h)
    for (int64_t r = 0; r < t.rows; ++r)
      for (int64_t d = 0; d < t.channels; ++d)
        if (t.value(bytes, t.at(0, h, r, d)) != 0) return false;
  return true;
}

// Identities of the gradients.
void test_properties(int32_t dtype, int dim, int value_dim) {
  Case c{"properties", dtype, dim, value_dim, 1, 4, 2, 700, 700};
  c.floats = true;
  Buffers both(c);
  const Result result = run(both, false);
  // Cosines do not change along their vectors.
  double worst = 0;
  for (int i = 0; i < 4; ++i) {
    const Tensor &x = *both.inputs[static_cast<size_t>(i)], &g = *both.gradients[static_cast<size_t>(i)];
    const std::vector<uint8_t> values = x.memory.read();
    for (int64_t h = 0; h < x.heads; ++h)
      for (int64_t r = 0; r < x.rows; ++r) {
        double dot = 0, left = 0, right = 0;
        for (int64_t d = 0; d < dim; ++d) {
          const double a = x.value(values, x.at(0, h, r, d)),
                       b = g.value(result.gradients[static_cast<size_t>(i)], g.at(0, h, r, d));
          dot += a * b;
          left += a * a;
          right += b * b;
        }
        if (right > 0) worst = std::max(worst, std::fabs(dot) / std::sqrt(left * right));
      }
  }
  CHECK(worst <= 1e-5);

  c.lambda = 0;
  const Result no_lambda = run(both, false);
  Case single = c;
  single.one_view = true;
  Buffers alone(single);
  const Result one = run(alone, false);
  for (const size_t i : {0, 1, 4}) CHECK(no_lambda.gradients[i] == one.gradients[i]);
  for (const size_t i : {2, 3}) CHECK(all_zero(*both.gradients[i], no_lambda.gradients[i]));
  double of_lambda = 0;
  for (int h = 0; h < 4; ++h)
    of_lambda += std::fabs(static_cast<double>(no_lambda.parameters[static_cast<size_t>(8 + h)]));
  CHECK(of_lambda > 0);

  c.lambda = 0.3;
  c.beta = 50;
  c.kappa = 0.5;  // where one key has a threshold, too
  const Result none = run(both, false);
  for (size_t i = 0; i < kGradients; ++i) CHECK(all_zero(*both.gradients[i], none.gradients[i]));
  for (const float x : none.parameters) CHECK(x == 0.0f);
  std::printf("properties, %s D%d Dv%d: q.dq / |q||dq| at most %.1e\n", dtype == kBf16 ? "bf16" : "fp16", dim,
              value_dim, worst);
}

// A NaN or infinity in one row of an input reaches only gradients of rows that see it, and those of no other head.
void test_containment(int32_t dtype) {
  constexpr int kRows = 500, kBad = 237;
  for (const long long window : {0ll, 60ll}) {
    Case c{"containment", dtype, 64, 64, 1, 2, 1, kRows, kRows};
    c.window = window;
    c.beta = 0.3;
    Buffers b(c);
    const Result clean = run(b, false);
    for (size_t which = 0; which < kInputs; ++which)
      for (const double poison : {std::nan(""), HUGE_VAL}) {
        Tensor &input = *b.inputs[which];
        const std::vector<uint8_t> kept = input.memory.read();
        std::vector<uint8_t> bytes = kept;
        input.set(bytes, input.at(0, 0, kBad, 5), poison);
        input.memory.write(bytes);
        const Result dirty = run(b, false);
        CHECK(dirty == run(b, false));
        b.find_tiles(SIEVE_PATH_AUTOMATIC);
        CHECK(dirty == run(b, true));
        input.memory.write(kept);
        const bool query = which == 0 || which == 2 || which == 5;
        size_t wrong = 0, changed = 0;
        for (size_t i = 0; i < kGradients; ++i) {
          const Tensor &t = *b.gradients[i];
          const bool of_queries = i == 0 || i == 2;
          for (int64_t h = 0; h < t.heads; ++h)
            for (int64_t r = 0; r < kRows; ++r) {
              // Queries see keys before them; a poisoned query reaches the keys that it sees, a poisoned key the
              // queries that see it, and itself.
              const bool sees =
                  query ? (of_queries ? r == kBad && h == 0 : r <= kBad && (window == 0 || r > kBad - window))
                        : (of_queries ? r >= kBad && (window == 0 || r < kBad + window) : r == kBad);
              for (int64_t d = 0; d < t.channels; ++d) {
                const double x = t.value(clean.gradients[i], t.at(0, h, r, d)),
                             y = t.value(dirty.gradients[i], t.at(0, h, r, d));
                const bool differs = !(x == y);
                wrong += differs && !sees;
                changed += differs;
              }
            }
        }
        if (wrong != 0) std::printf("containment: input %zu window %lld: %zu wrong\n", which, window, wrong);
        CHECK(wrong == 0);
        CHECK(changed > 0);
      }
  }
  std::printf("containment, %s\n", dtype == kBf16 ? "bf16" : "fp16");
}

// Heads further apart than 2^31 elements.
void test_far_heads() {
  constexpr int64_t kDim = 64, kRows = 200, kStride = (int64_t{1} << 31) + 4096;
  constexpr int kTensors = kInputs + kGradients;
  void *memory = nullptr;
  if (cudaMalloc(&memory, static_cast<size_t>(kStride + 2 * kTensors * kRows * kDim) * 2) != cudaSuccess) {
    cudaGetLastError();
    std::printf("far heads: not run, too little memory\n");
    return;
  }
  Case c{"far heads", kBf16, kDim, kDim, 1, 2, 2, kRows, kRows};
  Buffers b(c);
  const Result near = run(b, false);
  auto *far = static_cast<uint16_t *>(memory);
  sieve_tensor tensors[kTensors];
  for (int i = 0; i < kTensors; ++i) {
    tensors[i] = view(far + i * kRows * kDim, kBf16, 1, 2, kRows, kDim);
    tensors[i].strides[1] = kStride;
    for (int head = 0; head < 2 && i < kInputs; ++head)
      check_cuda(cudaMemcpy(far + i * kRows * kDim + head * kStride,
                            b.inputs[static_cast<size_t>(i)]->data() + head * kRows * kDim * 2, kRows * kDim * 2,
                            cudaMemcpyDeviceToDevice),
                 "far copy");
  }
  const sieve_attention_problem p = b.problem(SIEVE_PATH_AUTOMATIC);
  sieve_tda_backward_arguments a = b.arguments<sieve_tda_backward_arguments>();
  a.survivor_tiles = {};
  a.query1 = tensors[0];
  a.key1 = tensors[1];
  a.query2 = tensors[2];
  a.key2 = tensors[3];
  a.value = tensors[4];
  a.output_gradient = tensors[5];
  a.query1_gradient = tensors[6];
  a.key1_gradient = tensors[7];
  a.query2_gradient = tensors[8];
  a.key2_gradient = tensors[9];
  a.value_gradient = tensors[10];
  uint64_t bytes = 0;
  CHECK(sieve_tda_backward_workspace(context, &p, &a, &bytes) == SIEVE_STATUS_OK);
  DeviceArray<uint8_t> workspace(bytes);
  CHECK(sieve_tda_backward(context, &p, &a, workspace.data(), bytes, nullptr) == SIEVE_STATUS_OK);
  check_cuda(cudaDeviceSynchronize(), "far heads");
  for (int i = 0; i < kGradients; ++i)
    for (int head = 0; head < 2; ++head) {
      std::vector<uint8_t> out(kRows * kDim * 2);
      check_cuda(cudaMemcpy(out.data(), far + (kInputs + i) * kRows * kDim + head * kStride, out.size(),
                            cudaMemcpyDeviceToHost),
                 "far read");
      CHECK(std::equal(out.begin(), out.end(),
                       near.gradients[static_cast<size_t>(i)].begin() + Tensor::kGuard + head * kRows * kDim * 2));
    }
  cudaFree(memory);
  std::printf("far heads\n");
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
  const Case cases[] = {
      {.name = "one row and key", .queries = 1, .keys = 1, .beta = 0.8},
      {.name = "17 rows", .queries = 17, .keys = 17},
      {.name = "113 rows, power 1", .queries = 113, .keys = 113, .power = 1},
      {.name = "239 x 799, grouped heads, two sequences", .batch = 2, .query_heads = 4, .queries = 239, .keys = 799},
      {.name = "799 x 239, offset -100: rows before every key",
       .queries = 799,
       .keys = 239,
       .at_end = false,
       .offset = -100},
      {.name = "1023, window 300, power 3", .queries = 1023, .keys = 1023, .window = 300, .power = 3},
      {.name = "1024, norm, gain, gate, scale 0.5",
       .query_heads = 4,
       .queries = 1024,
       .keys = 1024,
       .norm = true,
       .gate = true,
       .output_scale = 0.5f},
      {.name = "500, gate, scale -2, power 1.5, kappa 2.5, floats",
       .queries = 500,
       .keys = 500,
       .kappa = 2.5,
       .power = 1.5,
       .gate = true,
       .output_scale = -2,
       .floats = true},
      {.name = "300 x 417, not causal, window 50",
       .queries = 300,
       .keys = 417,
       .causal = false,
       .at_end = false,
       .offset = 64,
       .window = 50,
       .beta = 0.3},
      {.name = "300 x 417, not causal, strided, lambda -1.5",
       .batch = 2,
       .queries = 300,
       .keys = 417,
       .causal = false,
       .lambda = -1.5,
       .strided = true},
      {.name = "beta < 0, cubic, norm, window 37",
       .queries = 200,
       .keys = 200,
       .window = 37,
       .beta = -0.2,
       .lambda = 0.7,
       .kappa = 2,
       .power = 3,
       .norm = true},
      {.name = "huge beta: only the row with a single key survives",
       .queries = 130,
       .keys = 130,
       .beta = 50,
       .floats = true},
      {.name = "huge beta, kappa below 1: nothing survives",
       .queries = 130,
       .keys = 130,
       .beta = 50,
       .kappa = 0.5,
       .norm = true,
       .gate = true},
      {.name = "packed, grouped heads, gate",
       .query_heads = 4,
       .queries = 600,
       .keys = 640,
       .gate = true,
       .packed = true},
      {.name = "packed, norm, strided", .queries = 600, .keys = 640, .norm = true, .packed = true, .strided = true},
      {.name = "padded keys", .batch = 3, .queries = 200, .keys = 260, .lengths = true},
      {.name = "padded keys, not causal, norm, gate",
       .batch = 3,
       .queries = 200,
       .keys = 260,
       .causal = false,
       .norm = true,
       .gate = true,
       .lengths = true},
      {.name = "one view, 333 rows", .queries = 333, .keys = 333, .one_view = true},
      {.name = "one view, D128, norm",
       .head_dim = 128,
       .value_dim = 128,
       .queries = 333,
       .keys = 333,
       .norm = true,
       .one_view = true},
      {.name = "D32 Dv64, 239 x 799", .head_dim = 32, .query_heads = 4, .queries = 239, .keys = 799},
      {.name = "D32 Dv32, 130 rows", .head_dim = 32, .value_dim = 32, .queries = 130, .keys = 130},
      {.name = "D64 Dv128, 300 rows", .value_dim = 128, .queries = 300, .keys = 300},
      {.name = "D64 Dv96, norm, 300 rows", .value_dim = 96, .queries = 300, .keys = 300, .norm = true},
      {.name = "D128 Dv128, grouped heads, 417 rows",
       .head_dim = 128,
       .value_dim = 128,
       .query_heads = 4,
       .queries = 417,
       .keys = 417},
      {.name = "D128 Dv64, 239 rows, not causal", .head_dim = 128, .queries = 239, .keys = 239, .causal = false},
      {.name = "D128 Dv128, packed, floats",
       .head_dim = 128,
       .value_dim = 128,
       .queries = 600,
       .keys = 640,
       .packed = true,
       .floats = true},
      {.name = "fp16 300 x 417", .dtype = kFp16, .query_heads = 4, .queries = 300, .keys = 417},
      {.name = "fp16 norm, gate, 500 rows",
       .dtype = kFp16,
       .queries = 500,
       .keys = 500,
       .norm = true,
       .gate = true,
       .floats = true},
      {.name = "fp16 beta -2, cubic, lambda 4, scale 1e-3",
       .dtype = kFp16,
       .queries = 130,
       .keys = 130,
       .beta = -2,
       .lambda = 4,
       .power = 3,
       .output_scale = 1e-3f,
       .floats = true},
      {.name = "fp16 D128 Dv128, power 1.5",
       .dtype = kFp16,
       .head_dim = 128,
       .value_dim = 128,
       .queries = 300,
       .keys = 300,
       .power = 1.5},
      {.name = "fp16 D64 Dv128", .dtype = kFp16, .value_dim = 128, .queries = 200, .keys = 200},
      {.name = "4224 rows, sparse", .queries = 4224, .keys = 4224, .beta = 0.9},
      {.name = "D128 2111 rows", .head_dim = 128, .value_dim = 128, .queries = 2111, .keys = 2111, .beta = 0.9},
  };
  for (const Case &c : cases) test(c);
  test_properties(kBf16, 64, 64);
  test_properties(kFp16, 128, 128);
  test_properties(kBf16, 64, 128);
  test_containment(kBf16);
  test_containment(kFp16);
  test_far_heads();
  CHECK(sieve_context_destroy(context) == SIEVE_STATUS_OK);
  return finish();
}
