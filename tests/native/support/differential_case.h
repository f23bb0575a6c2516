// A case of differential attention: its tensors, its float64 reference, and the calls of the C ABI that are held to it.
//
// Tolerance: the largest error of an output is at most twice, that of a gradient three times that of a plain evaluation
// in the element type (one rounding of the largest value is added, for tensors of few elements), and twice in the mean
// square. Around everything written lie guard bytes and, with strides, gaps; everything is poisoned before the calls.
#pragma once

#include "tests/native/support/check.h"
#include "tests/native/support/gradient_check.h"
#include "tests/native/support/naive_differential.h"

namespace sieve::test {

inline sieve_context *context = nullptr;

enum class Bad { kNothing, kQuery, kKey, kValue, kOutputGradient };
enum class Lambda { kValue, kDevice, kPerHead };

struct Case {
  const char *name;
  int signals = 0;                                                     // 0: first version
  int batch = 1, heads = 2, key_heads = 2, queries = 128, keys = 128;  // heads of a stream
  bool causal = true, at_end = true;
  long long offset = 0, window = 0;
  Lambda lambda = Lambda::kValue;
  bool norm = false, gain = false, gate = false;
  float output_scale = 1;
  bool lengths = false, packed = false, strided = false, interleaved = false;
  bool floats = false;           // output and gradients
  bool element_streams = false;  // the streams' outputs are kept in the element type
  bool bitwise = false;
  Bad bad = Bad::kNothing;
};

// Some heads of a tensor: those of one stream.
struct Heads {
  const Tensor *tensor;
  int first, step, count;

  int head(int h) const { return first + step * h; }
  sieve_tensor view() const {
    sieve_tensor t = tensor->view();
    t.data = static_cast<char *>(t.data) + first * t.strides[1] * tensor->bytes;
    t.strides[1] *= step;
    t.sizes[1] = count;
    return t;
  }
  NaiveTensor rows_from(int64_t batch, int64_t row) const {
    NaiveTensor t = tensor->rows_from(batch, row);
    return {t.data + first * t.head_stride, t.head_stride * step, t.row_stride};
  }
};

struct SequenceRows {
  int64_t batch, query_row, key_row;
  int queries, keys;
};

inline std::vector<SequenceRows> sequences_of(const Case &c) {
  std::vector<SequenceRows> list;
  if (c.packed) {
    // Uneven lengths, one of them empty on either side, and rows of nobody at both ends.
    const int queries[] = {77, 0, c.queries - 77 - 1 - 60 - 9, 1, 60},
              keys[] = {77, 5, c.keys - 77 - 5 - 33 - 9 - 7, 33, 9};
    int64_t query_row = 4, key_row = 3;
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

// What the reference gives for one sequence; streams one after the other.
struct Expected {
  std::vector<double> lse, output, query, key, value, gate, weight, gain, gain_size;
};

struct Trial {
  static constexpr float kEps = 1e-5f;
  Case c;
  int32_t dtype;
  int head_dim, value_dim, streams, output_heads;
  bool backward;
  std::vector<SequenceRows> sequences;
  Tensor q, k, v, g;
  DeviceArray<float> lambda, logits, gate, gain;
  std::vector<float> lambda_values;
  std::vector<Expected> exact, rounded;
  DeviceArray<int32_t> query_starts, key_starts, key_lengths;
  int longest = 0;

  Trial(const Case &test_case, int32_t type, int dim, int wide, bool with_backward)
      : c(test_case),
        dtype(type),
        head_dim(dim),
        value_dim(wide),
        streams(c.signals == 0 ? 2 : 1),
        output_heads(c.signals == 0 ? c.heads : c.heads / (c.signals + 1) * c.signals),
        backward(with_backward),
        sequences(sequences_of(c)),
        q(c.batch, streams * c.heads, c.queries, dim, type, c.strided),
        k(c.batch, streams * c.key_heads, c.keys, dim, type, c.strided),
        v(c.batch, c.key_heads, c.keys, wide, type, c.strided),
        g(c.batch, output_heads, c.queries, wide, type, c.strided),
        lambda(static_cast<size_t>(c.heads)),
        logits(static_cast<size_t>(c.batch * output_heads * c.queries)),
        gate(logits.count()),
        gain(static_cast<size_t>(wide)),
        query_starts(sequences.size() + 1),
        key_starts(sequences.size() + 1),
        key_lengths(sequences.size()) {
    uint32_t seed = 1;
    for (Tensor *t : {&q, &k, &v, &g}) t->randomize(seed++);
    if (c.bad == Bad::kQuery) poison_row(q, 0, streams * c.heads - 1, c.queries / 2);
    if (c.bad == Bad::kKey) poison_row(k, 0, 0, c.keys / 2);
    if (c.bad == Bad::kValue) poison_row(v, 0, 0, c.keys / 2);
    if (c.bad == Bad::kOutputGradient) poison_row(g, 0, 1, c.queries / 2);
    std::mt19937 generator(9);
    std::normal_distribution<float> normal;
    for (int h = 0; h < c.heads; ++h)
      lambda_values.push_back(c.lambda == Lambda::kPerHead ? 0.2f + 0.3f * static_cast<float>(h) : 0.6f);
    lambda.write(lambda_values);
    std::vector<float> values(logits.count());
    for (float &x : values) x = 2 * normal(generator);
    values[values.size() / 3] = -200, values[values.size() / 2] = 90;  // the sigmoid underflows, and is 1
    logits.write(values);
    for (float &x : values) x = 2 * normal(generator);
    values[values.size() / 4] = -200, values[values.size() / 2] = 90;
    gate.write(values);
    values.resize(gain.count());
    for (float &x : values) x = 1 + 0.3f * normal(generator);
    gain.write(values);
    std::vector<int32_t> q_starts, k_starts, lengths;
    for (const SequenceRows &s : sequences) {
      q_starts.push_back(static_cast<int32_t>(s.query_row));
      k_starts.push_back(static_cast<int32_t>(s.key_row));
      lengths.push_back(s.keys);
      longest = std::max(longest, s.queries);
    }
    q_starts.push_back(static_cast<int32_t>(sequences.back().query_row + sequences.back().queries));
    k_starts.push_back(static_cast<int32_t>(sequences.back().key_row + sequences.back().keys));
    query_starts.write(q_starts);
    key_starts.write(k_starts);
    key_lengths.write(lengths);
    reference();
  }

  Heads query_heads(const Tensor &t, int stream) const { return heads(t, stream, c.heads); }
  Heads key_heads(const Tensor &t, int stream) const { return heads(t, stream, c.key_heads); }
  Heads heads(const Tensor &t, int stream, int count) const {
    return c.interleaved ? Heads{&t, stream, streams, count} : Heads{&t, stream * count, 1, count};
  }

  void reference() {
    for (const SequenceRows &s : sequences)
      for (const bool plain : {false, true}) {
        const size_t all = static_cast<size_t>(streams), dim = static_cast<size_t>(head_dim),
                     wide = static_cast<size_t>(value_dim);
        const size_t rows = static_cast<size_t>(c.heads) * static_cast<size_t>(std::max(s.queries, 1)),
                     keys = static_cast<size_t>(c.key_heads) * static_cast<size_t>(std::max(s.keys, 1)),
                     outs = static_cast<size_t>(output_heads) * static_cast<size_t>(std::max(s.queries, 1));
        DeviceArray<double> lse(all * rows), o(all * rows * wide), go(all * rows * wide), dq(all * rows * dim),
            dk(all * keys * dim), dv(keys * wide), out(outs * wide), dgate(outs), dweight(outs), dgain(wide),
            size(wide);
        for (DeviceArray<double> *a : {&go, &dv, &dgain, &size}) a->fill(0);
        NaiveStream stream[2];
        for (int i = 0; i < streams; ++i) {
          const size_t at = static_cast<size_t>(i);
          stream[i] = {query_heads(q, i).rows_from(s.batch, s.query_row),
                       key_heads(k, i).rows_from(s.batch, s.key_row),
                       v.rows_from(s.batch, s.key_row),
                       s.queries,
                       s.keys,
                       head_dim,
                       value_dim,
                       c.heads,
                       c.heads / c.key_heads,
                       c.causal,
                       c.at_end ? s.keys - s.queries : c.offset,
                       c.window,
                       1 / std::sqrt(static_cast<double>(head_dim)),
                       plain,
                       lse.data() + at * rows,
                       o.data() + at * rows * wide,
                       go.data() + at * rows * wide,
                       dq.data() + at * rows * dim,
                       dk.data() + at * keys * dim,
                       dv.data()};
          naive_forward(stream[i], dtype);
        }
        const size_t second =
            streams == 2 ? rows * wide : static_cast<size_t>(c.signals) * static_cast<size_t>(s.queries) * wide;
        const int64_t scalar = s.batch * output_heads * c.queries + s.query_row;
        const NaiveSubtraction difference{s.queries,
                                          value_dim,
                                          output_heads,
                                          std::max(c.signals, 1),
                                          c.signals == 0 ? 1 : c.signals + 1,
                                          o.data(),
                                          o.data() + second,
                                          streams == 2 ? lambda.data() : logits.data() + scalar,
                                          streams == 1,
                                          c.gate ? gate.data() + scalar : nullptr,
                                          c.gain ? gain.data() : nullptr,
                                          c.queries,
                                          c.norm,
                                          static_cast<double>(kEps),
                                          static_cast<double>(c.output_scale),
                                          plain,
                                          g.rows_from(s.batch, s.query_row),
                                          out.data(),
                                          go.data(),
                                          go.data() + second,
                                          dgate.data(),
                                          dweight.data(),
                                          dgain.data(),
                                          size.data()};
        naive_difference(difference, dtype, false);
        if (backward) {
          naive_difference(difference, dtype, true);
          for (int i = 0; i < streams; ++i) naive_backward(stream[i], dtype);
        }
        check_cuda(cudaDeviceSynchronize(), "reference");
        Expected e;
        e.lse = lse.read();
        e.output = out.read();
        if (backward) {
          e.query = dq.read();
          e.key = dk.read();
          e.value = dv.read();
          e.gate = dgate.read();
          e.weight = dweight.read();
          e.gain = dgain.read();
          e.gain_size = size.read();
        }
        (plain ? rounded : exact).push_back(std::move(e));
      }
  }

  sieve_attention_problem problem(int32_t path) const {
    sieve_attention_problem p{};
    p.struct_size = sizeof p;
    p.causal = c.causal;
    p.path = path;
    p.query_alignment = c.at_end ? SIEVE_QUERY_ALIGNMENT_END : SIEVE_QUERY_ALIGNMENT_OFFSET;
    p.query_offset = c.at_end ? 0 : c.offset;
    p.window = c.window;
    p.norm = c.norm ? SIEVE_NORM_RMS : SIEVE_NORM_NONE;
    p.norm_eps = c.norm ? kEps : 0;
    p.norm_gain = c.gain ? gain.data() : nullptr;
    p.output_scale = c.output_scale;
    if (c.gate) p.gate = test::view(gate.data(), SIEVE_DTYPE_FLOAT32, c.batch, output_heads, c.queries, 1);
    p.repeatability = c.bitwise ? SIEVE_REPEATABILITY_BITWISE : SIEVE_REPEATABILITY_FASTEST;
    if (c.packed) {
      p.query_starts = query_starts.data();
      p.key_starts = key_starts.data();
      p.sequence_count = static_cast<int32_t>(sequences.size());
      p.longest_query = longest;
    }
    if (c.lengths) p.key_lengths = key_lengths.data();
    return p;
  }

  sieve_scalar lambda_scalar() const {
    if (c.lambda == Lambda::kValue) return {nullptr, lambda_values[0], 0};
    return {lambda.data(), 0, c.lambda == Lambda::kPerHead};
  }
};

// Everything that the calls write.
struct Outputs {
  Tensor output, streams, lse, query, key, value, gate, logits;
  DeviceArray<float> lambda, gain;
  bool per_head;

  static int32_t type(const Trial &t) { return t.c.floats ? static_cast<int32_t>(SIEVE_DTYPE_FLOAT32) : t.dtype; }
  explicit Outputs(const Trial &t)
      : output(t.c.batch, t.output_heads, t.c.queries, t.value_dim, type(t), t.c.strided),
        streams(t.c.batch, t.streams * t.c.heads, t.c.queries, t.value_dim,
                t.c.element_streams ? t.dtype : static_cast<int32_t>(SIEVE_DTYPE_FLOAT32), t.c.strided),
        lse(t.c.batch, t.streams * t.c.heads, t.c.queries, 1, SIEVE_DTYPE_FLOAT32, false),
        query(t.c.batch, t.streams * t.c.heads, t.c.queries, t.head_dim, type(t), t.c.strided),
        key(t.c.batch, t.streams * t.c.key_heads, t.c.keys, t.head_dim, type(t), t.c.strided),
        value(t.c.batch, t.c.key_heads, t.c.keys, t.value_dim, type(t), t.c.strided),
        gate(t.c.batch, t.output_heads, t.c.queries, 1, SIEVE_DTYPE_FLOAT32, false),
        logits(t.c.batch, t.output_heads, t.c.queries, 1, SIEVE_DTYPE_FLOAT32, false),
        lambda(static_cast<size_t>(t.c.heads)),
        gain(static_cast<size_t>(t.value_dim)),
        per_head(t.c.lambda == Lambda::kPerHead) {
    lambda.fill(0xff);
    gain.fill(0xff);
  }
};

// A workspace of exactly the size asked for, poisoned, and what lies behind it.
template <class Size, class Call>
bool call_with_workspace(const Case &c, Size size, Call call) {
  uint64_t bytes = 0;
  int32_t status = size(&bytes);
  DeviceArray<uint8_t> workspace(bytes + 512);
  workspace.fill(0xff);
  if (status == SIEVE_STATUS_OK) status = call(workspace.data(), bytes);
  if (status != SIEVE_STATUS_OK) std::fprintf(stderr, "%s: %s\n", c.name, sieve_last_message());
  CHECK(status == SIEVE_STATUS_OK);
  check_cuda(cudaDeviceSynchronize(), c.name);
  uint8_t guard[512];
  check_cuda(cudaMemcpy(guard, workspace.data() + bytes, 512, cudaMemcpyDeviceToHost), "guard");
  for (const uint8_t x : guard) CHECK(x == 0xff);
  return status == SIEVE_STATUS_OK;
}

inline bool run_forward(const Trial &t, int32_t path, Outputs &out, bool keep_streams = true) {
  const sieve_attention_problem p = t.problem(path);
  if (t.streams == 2) {
    sieve_diff_forward_arguments a{};
    a.struct_size = sizeof a;
    a.query1 = t.query_heads(t.q, 0).view();
    a.query2 = t.query_heads(t.q, 1).view();
    a.key1 = t.key_heads(t.k, 0).view();
    a.key2 = t.key_heads(t.k, 1).view();
    a.value = t.v.view();
    a.output = out.output.view();
    a.lambda = t.lambda_scalar();
    if (keep_streams) {
      a.lse1 = t.query_heads(out.lse, 0).view();
      a.lse2 = t.query_heads(out.lse, 1).view();
      a.output1 = t.query_heads(out.streams, 0).view();
      a.output2 = t.query_heads(out.streams, 1).view();
    }
    return call_with_workspace(
        t.c, [&](uint64_t *bytes) { return sieve_diff_forward_workspace(context, &p, &a, bytes); },
        [&](void *memory, uint64_t bytes) { return sieve_diff_forward(context, &p, &a, memory, bytes, nullptr); });
  }
  sieve_diff_v2_forward_arguments a{};
  a.struct_size = sizeof a;
  a.signals = t.c.signals;
  a.query = t.q.view();
  a.key = t.k.view();
  a.value = t.v.view();
  a.lambda_logit = view(t.logits.data(), SIEVE_DTYPE_FLOAT32, t.c.batch, t.output_heads, t.c.queries, 1);
  a.output = out.output.view();
  if (keep_streams) {
    a.lse = out.lse.view();
    a.outputs = out.streams.view();
  }
  return call_with_workspace(
      t.c, [&](uint64_t *bytes) { return sieve_diff_v2_forward_workspace(context, &p, &a, bytes); },
      [&](void *memory, uint64_t bytes) { return sieve_diff_v2_forward(context, &p, &a, memory, bytes, nullptr); });
}

inline bool run_backward(const Trial &t, int32_t path, Outputs &out) {
  const sieve_attention_problem p = t.problem(path);
  if (t.streams == 2) {
    sieve_diff_backward_arguments a{};
    a.struct_size = sizeof a;
    a.query1 = t.query_heads(t.q, 0).view();
    a.query2 = t.query_heads(t.q, 1).view();
    a.key1 = t.key_heads(t.k, 0).view();
    a.key2 = t.key_heads(t.k, 1).view();
    a.value = t.v.view();
    a.lambda = t.lambda_scalar();
    a.lse1 = t.query_heads(out.lse, 0).view();
    a.lse2 = t.query_heads(out.lse, 1).view();
    a.output1 = t.query_heads(out.streams, 0).view();
    a.output2 = t.query_heads(out.streams, 1).view();
    a.output_gradient = t.g.view();
    a.query1_gradient = t.query_heads(out.query, 0).view();
    a.query2_gradient = t.query_heads(out.query, 1).view();
    a.key1_gradient = t.key_heads(out.key, 0).view();
    a.key2_gradient = t.key_heads(out.key, 1).view();
    a.value_gradient = out.value.view();
    a.lambda_gradient = out.lambda.data();
    if (t.c.norm) a.gain_gradient = out.gain.data();
    if (t.c.gate) a.gate_gradient = out.gate.view();
    return call_with_workspace(
        t.c, [&](uint64_t *bytes) { return sieve_diff_backward_workspace(context, &p, &a, bytes); },
        [&](void *memory, uint64_t bytes) { return sieve_diff_backward(context, &p, &a, memory, bytes, nullptr); });
  }
  sieve_diff_v2_backward_arguments a{};
  a.struct_size = sizeof a;
  a.signals = t.c.signals;
  a.query = t.q.view();
  a.key = t.k.view();
  a.value = t.v.view();
  a.lambda_logit = view(t.logits.data(), SIEVE_DTYPE_FLOAT32, t.c.batch, t.output_heads, t.c.queries, 1);
  a.lse = out.lse.view();
  a.outputs = out.streams.view();
  a.output_gradient = t.g.view();
  a.query_gradient = out.query.view();
  a.key_gradient = out.key.view();
  a.value_gradient = out.value.view();
  a.lambda_logit_gradient = out.logits.view();
  if (t.c.norm) a.gain_gradient = out.gain.data();
  if (t.c.gate) a.gate_gradient = out.gate.view();
  return call_with_workspace(
      t.c, [&](uint64_t *bytes) { return sieve_diff_v2_backward_workspace(context, &p, &a, bytes); },
      [&](void *memory, uint64_t bytes) { return sieve_diff_v2_backward(context, &p, &a, memory, bytes, nullptr); });
}

}  // namespace sieve::test
