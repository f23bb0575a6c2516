// Differential attention, both versions, forward and backward, each kernel, through the C ABI against float64 on the
// same device (support/differential_case.h), and properties that need no reference.
#include "operators/differential/problem.h"
#include "tests/native/support/differential_case.h"

namespace sieve::test {

bool good_output(const Comparison &r, int32_t dtype) {
  const double unit = dtype == SIEVE_DTYPE_BFLOAT16 ? 1.0 / 512 : 1.0 / 4096;
  const double floor = unit * (r.largest > 0 ? r.largest : 1);
  return !r.bad_values && r.error <= 2 * r.plain + floor &&
         (r.count < 4096 ||
          r.squares <= 4 * r.plain_squares + 1e-12 * r.largest * r.largest * static_cast<double>(r.count));
}

// Sums over rows, against the sum of the magnitudes.
struct SumCheck {
  double sum = 0, size = 0;
  bool good(float actual, int32_t dtype) const {
    const double unit = dtype == SIEVE_DTYPE_BFLOAT16 ? 1.0 / 128 : 1.0 / 1024;
    return std::fabs(static_cast<double>(actual) - sum) <= unit * size + 1e-6;
  }
};

struct Checked {
  Comparison out{"out"}, lse{"lse"}, dq{"dq"}, dk{"dk"}, dv{"dv"}, dgate{"dgate"}, dlogit{"dlogit"};
  bool guards = true, sums = true;
};

// Compares rows and leaves poison in their place, so that what is not poison afterwards was written by mistake.
Checked compare_all(const Trial &t, const Outputs &o) {
  const Case &c = t.c;
  Checked r;
  std::vector<uint8_t> out = o.output.memory.read(), streams = o.streams.memory.read(), lse = o.lse.memory.read(),
                       dq = o.query.memory.read(), dk = o.key.memory.read(), dv = o.value.memory.read(),
                       dgate = o.gate.memory.read(), dlogit = o.logits.memory.read();
  std::vector<SumCheck> lambda(static_cast<size_t>(c.heads)), gain(static_cast<size_t>(t.value_dim));
  for (size_t s = 0; s < t.sequences.size(); ++s) {
    const SequenceRows &at = t.sequences[s];
    const Expected &e = t.exact[s], &p = t.rounded[s];
    const size_t queries = static_cast<size_t>(at.queries), keys = static_cast<size_t>(at.keys),
                 dim = static_cast<size_t>(t.head_dim), wide = static_cast<size_t>(t.value_dim);
    for (int i = 0; i < t.streams; ++i)
      for (int h = 0; h < c.heads; ++h)
        for (int row = 0; row < at.queries; ++row) {
          const size_t index = static_cast<size_t>(i) * static_cast<size_t>(c.heads) * std::max<size_t>(queries, 1) +
                               static_cast<size_t>(h) * queries + static_cast<size_t>(row);
          const int head = t.query_heads(o.query, i).head(h);
          const int64_t place = at.query_row + row;
          const double actual = o.lse.value(lse, o.lse.at(at.batch, head, place, 0)), exact = e.lse[index];
          if (std::isnan(exact) != std::isnan(actual) || std::isinf(exact) != std::isinf(actual) ||
              std::fabs(exact - actual) > 1e-4 * std::max(1.0, std::fabs(exact)))
            r.lse.bad_values = true;
          std::memset(lse.data() + Tensor::kGuard + 4 * o.lse.at(at.batch, head, place, 0), 0xff, 4);
          std::memset(streams.data() + Tensor::kGuard + o.streams.bytes * o.streams.at(at.batch, head, place, 0), 0xff,
                      wide * static_cast<size_t>(o.streams.bytes));
          if (t.backward)
            compare(r.dq, o.query, dq, at.batch, head, place, &e.query[index * dim], &p.query[index * dim]);
        }
    for (int h = 0; h < t.output_heads; ++h)
      for (int row = 0; row < at.queries; ++row) {
        const size_t index = static_cast<size_t>(h) * queries + static_cast<size_t>(row);
        const int64_t place = at.query_row + row;
        compare(r.out, o.output, out, at.batch, h, place, &e.output[index * wide], &p.output[index * wide]);
        if (!t.backward) continue;
        if (c.gate) compare(r.dgate, o.gate, dgate, at.batch, h, place, &e.gate[index], &p.gate[index]);
        if (t.streams == 1) compare(r.dlogit, o.logits, dlogit, at.batch, h, place, &e.weight[index], &p.weight[index]);
        if (t.streams == 1) continue;
        lambda[o.per_head ? static_cast<size_t>(h) : 0].sum += e.weight[index];
        lambda[o.per_head ? static_cast<size_t>(h) : 0].size += std::fabs(e.weight[index]);
      }
    if (!t.backward) continue;
    for (int h = 0; h < c.key_heads; ++h)
      for (int row = 0; row < at.keys; ++row) {
        const size_t index = static_cast<size_t>(h) * keys + static_cast<size_t>(row);
        const int64_t place = at.key_row + row;
        for (int i = 0; i < t.streams; ++i) {
          const size_t of = (index + static_cast<size_t>(i) * static_cast<size_t>(c.key_heads) * keys) * dim;
          compare(r.dk, o.key, dk, at.batch, t.key_heads(o.key, i).head(h), place, &e.key[of], &p.key[of]);
        }
        compare(r.dv, o.value, dv, at.batch, h, place, &e.value[index * wide], &p.value[index * wide]);
      }
    // Keys behind the valid ones: exactly 0.
    const std::vector<double> zeros(256);
    for (int h = 0; c.lengths && h < c.key_heads; ++h)
      for (int row = at.keys; row < c.keys; ++row) {
        for (int i = 0; i < t.streams; ++i)
          compare(r.dk, o.key, dk, at.batch, t.key_heads(o.key, i).head(h), row, zeros.data(), zeros.data());
        compare(r.dv, o.value, dv, at.batch, h, row, zeros.data(), zeros.data());
      }
    for (size_t d = 0; d < wide; ++d) gain[d].sum += e.gain[d], gain[d].size += e.gain_size[d];
  }
  for (const std::vector<uint8_t> *copy : {&out, &streams, &lse, &dq, &dk, &dv, &dgate, &dlogit})
    r.guards = r.guards && all_poison(*copy);
  if (!t.backward || c.bad != Bad::kNothing) return r;
  const std::vector<float> lambda_sums = o.lambda.read(), gain_sums = o.gain.read();
  for (size_t h = 0; h < lambda.size(); ++h) {
    if (t.streams == 2 && (h == 0 || o.per_head))
      r.sums = r.sums && lambda[h].good(lambda_sums[h], t.dtype);
    else
      r.sums = r.sums && std::isnan(lambda_sums[h]);  // poison
  }
  for (size_t d = 0; d < gain.size() && c.norm; ++d) r.sums = r.sums && gain[d].good(gain_sums[d], t.dtype);
  return r;
}

void test(const Case &c, int32_t dtype, int head_dim, int value_dim, bool backward, const std::vector<int32_t> &paths) {
  const Trial t(c, dtype, head_dim, value_dim, backward);
  for (const int32_t path : paths) {
    Outputs o(t);
    if (!run_forward(t, path, o) || (backward && !run_backward(t, path, o))) continue;
    const Checked r = compare_all(t, o);
    bool good = r.guards && r.sums && good_output(r.out, dtype) && !r.lse.bad_values;
    for (const Comparison *x : {&r.dq, &r.dk, &r.dv, &r.dgate, &r.dlogit}) good = good && x->good(dtype);
    if (!good || std::getenv("SIEVE_TEST_VERBOSE") != nullptr) {
      std::printf("%s %s %s D%d/%d: %s, guards %d, sums %d, lse %d\n", good ? "    ok" : "FAILED",
                  path == SIEVE_PATH_HOPPER ? "hopper" : "generic", dtype == SIEVE_DTYPE_BFLOAT16 ? "bf16" : "fp16",
                  head_dim, value_dim, c.name, r.guards, r.sums, !r.lse.bad_values);
      for (const Comparison *x : {&r.out, &r.dq, &r.dk, &r.dv, &r.dgate, &r.dlogit})
        if (x->count > 0)
          std::printf("         %-6s max %.2e  error %.2e (plain %.2e)  rms %.2e (plain %.2e)%s\n", x->name.c_str(),
                      x->largest, x->error, x->plain, std::sqrt(x->squares / static_cast<double>(x->count)),
                      std::sqrt(x->plain_squares / static_cast<double>(x->count)),
                      x->bad_values ? "  NaN in wrong rows" : "");
    }
    CHECK(good);
    // Without the streams' outputs and lse the same output.
    Outputs again(t);
    if (c.element_streams || !run_forward(t, path, again, false)) continue;
    CHECK(again.output.memory.read() == o.output.memory.read());
    CHECK(all_poison(again.streams.memory.read()) && all_poison(again.lse.memory.read()));
  }
}

void test_repeats(const Case &c, int32_t dtype, int head_dim, int value_dim, int32_t path, int repeats) {
  Case without_reference = c;
  without_reference.bitwise = true;
  const Trial t(without_reference, dtype, head_dim, value_dim, false);
  std::vector<std::vector<uint8_t>> first;
  for (int repeat = 0; repeat < repeats; ++repeat) {
    Outputs o(t);
    if (!run_forward(t, path, o) || !run_backward(t, path, o)) return;
    std::vector<std::vector<uint8_t>> now;
    for (const Tensor *x : {&o.output, &o.query, &o.key, &o.value, &o.gate, &o.logits}) now.push_back(x->memory.read());
    const std::vector<float> lambda = o.lambda.read(), gain = o.gain.read();
    now.emplace_back(reinterpret_cast<const uint8_t *>(lambda.data()),
                     reinterpret_cast<const uint8_t *>(lambda.data() + lambda.size()));
    now.emplace_back(reinterpret_cast<const uint8_t *>(gain.data()),
                     reinterpret_cast<const uint8_t *>(gain.data() + gain.size()));
    if (repeat == 0) first = now;
    CHECK(first == now);
  }
}

// Softmax attention of some heads, float32.
std::vector<uint8_t> softmax_output(const Trial &t, const Heads &query, const Heads &key, int32_t path) {
  Tensor output(t.c.batch, query.count, t.c.queries, t.value_dim, SIEVE_DTYPE_FLOAT32, t.c.strided);
  sieve_attention_problem p = t.problem(path);
  p.norm = SIEVE_NORM_NONE;
  p.norm_eps = 0;
  p.gate = {};
  p.output_scale = 1;
  sieve_softmax_forward_arguments a{};
  a.struct_size = sizeof a;
  a.query = query.view();
  a.key = key.view();
  a.value = t.v.view();
  a.output = output.view();
  call_with_workspace(
      t.c, [&](uint64_t *bytes) { return sieve_softmax_forward_workspace(context, &p, &a, bytes); },
      [&](void *memory, uint64_t bytes) { return sieve_softmax_forward(context, &p, &a, memory, bytes, nullptr); });
  return output.memory.read();
}

bool finite(const Tensor &t) {
  const std::vector<uint8_t> copy = t.memory.read();
  for (int64_t b = 0; b < t.batch; ++b)
    for (int64_t h = 0; h < t.heads; ++h)
      for (int64_t r = 0; r < t.rows; ++r)
        for (int64_t x = 0; x < t.channels; ++x)
          if (!std::isfinite(t.value(copy, t.at(b, h, r, x)))) return false;
  return true;
}

void test_properties(int32_t dtype, int head_dim, int value_dim, int32_t path) {
  Case c{.name = "properties", .batch = 2, .heads = 4, .key_heads = 2, .queries = 200, .keys = 230, .floats = true};
  {
    Trial t(c, dtype, head_dim, value_dim, false);
    t.lambda_values[0] = 0;
    Outputs o(t);
    run_forward(t, path, o);
    CHECK(o.output.memory.read() == softmax_output(t, t.query_heads(t.q, 0), t.key_heads(t.k, 0), path));

    // Identical streams.
    const size_t query = t.q.memory.bytes() / 2 - Tensor::kGuard, key = t.k.memory.bytes() / 2 - Tensor::kGuard;
    for (int b = 0; b < c.batch; ++b) {
      const size_t of = query / 2 * static_cast<size_t>(b) * 2, ok = key / 2 * static_cast<size_t>(b) * 2;
      check_cuda(cudaMemcpy(t.q.data() + of + query / 2, t.q.data() + of, query / 2, cudaMemcpyDeviceToDevice), "copy");
      check_cuda(cudaMemcpy(t.k.data() + ok + key / 2, t.k.data() + ok, key / 2, cudaMemcpyDeviceToDevice), "copy");
    }
    const std::vector<uint8_t> single = softmax_output(t, t.query_heads(t.q, 0), t.key_heads(t.k, 0), path);
    t.lambda_values[0] = 0.3f;
    run_forward(t, path, o);
    const std::vector<uint8_t> both = o.output.memory.read();
    double error = 0;
    for (int64_t i = 0; i < c.batch * c.heads * c.queries * value_dim; ++i)
      error = std::max(error, std::fabs(o.output.value(both, i) - 0.7 * o.output.value(single, i)));
    CHECK(error < 1e-6);

    // Their difference with weight 1 is exactly 0; the norm's gradients stay finite.
    t.lambda_values[0] = 1;
    t.c.norm = t.c.gain = true;
    run_forward(t, path, o);
    run_backward(t, path, o);
    const std::vector<uint8_t> zero = o.output.memory.read();
    bool zeros = true;
    for (int64_t i = 0; i < c.batch * c.heads * c.queries * value_dim; ++i)
      zeros = zeros && o.output.value(zero, i) == 0;
    CHECK(zeros);
    CHECK(finite(o.query) && finite(o.key) && finite(o.value));
    for (const float x : o.gain.read()) CHECK(x == 0);
  }
  {
    // A noise whose sigmoid is 0 is not there; pairs whose weight is lambda are the first version.
    c.signals = 1;
    c.heads = 8;
    Trial t(c, dtype, head_dim, value_dim, false);
    std::vector<float> logits(t.logits.count(), -200.0f);
    t.logits.write(logits);
    Outputs o(t);
    run_forward(t, path, o);
    const std::vector<uint8_t> attention = softmax_output(t, {&t.q, 0, 1, 8}, {&t.k, 0, 1, 2}, path);
    const std::vector<uint8_t> found = o.output.memory.read();
    const size_t head = static_cast<size_t>(c.queries * value_dim * 4);
    bool same = true;
    for (size_t h = 0; h < 8; ++h)
      same = same && std::memcmp(found.data() + Tensor::kGuard + h * head,
                                 attention.data() + Tensor::kGuard + 2 * h * head, head) == 0;
    CHECK(same);

    for (float &x : logits) x = 0.5f;
    t.logits.write(logits);
    run_forward(t, path, o);
    Tensor first(c.batch, 4, c.queries, value_dim, SIEVE_DTYPE_FLOAT32, false);
    const sieve_attention_problem p = t.problem(path);
    sieve_diff_forward_arguments a{};
    a.struct_size = sizeof a;
    a.query1 = Heads{&t.q, 0, 2, 4}.view();
    a.query2 = Heads{&t.q, 1, 2, 4}.view();
    a.key1 = a.key2 = t.k.view();
    a.value = t.v.view();
    a.output = first.view();
    a.lambda.value = 1 / (1 + std::exp(-0.5f));
    call_with_workspace(
        t.c, [&](uint64_t *bytes) { return sieve_diff_forward_workspace(context, &p, &a, bytes); },
        [&](void *memory, uint64_t bytes) { return sieve_diff_forward(context, &p, &a, memory, bytes, nullptr); });
    const std::vector<uint8_t> one = first.memory.read(), two = o.output.memory.read();
    double error = 0;
    for (int64_t i = 0; i < c.batch * 4 * c.queries * value_dim; ++i)
      error = std::max(error, std::fabs(first.value(one, i) - o.output.value(two, i)));
    CHECK(error < 1e-6);
  }
}

// A captured graph of both passes follows lambda in device memory.
void test_graph(int32_t dtype, int head_dim, int value_dim, int32_t path) {
  Case c{.name = "graph",
         .heads = 4,
         .key_heads = 2,
         .queries = 300,
         .keys = 300,
         .lambda = Lambda::kPerHead,
         .norm = true,
         .gain = true,
         .bitwise = true};
  Trial t(c, dtype, head_dim, value_dim, false);
  Outputs direct(t), replayed(t);
  const sieve_attention_problem p = t.problem(path);
  const auto forward = [&](Outputs &o) {
    sieve_diff_forward_arguments a{};
    a.struct_size = sizeof a;
    a.query1 = t.query_heads(t.q, 0).view();
    a.query2 = t.query_heads(t.q, 1).view();
    a.key1 = t.key_heads(t.k, 0).view();
    a.key2 = t.key_heads(t.k, 1).view();
    a.value = t.v.view();
    a.output = o.output.view();
    a.lambda = t.lambda_scalar();
    return a;
  };
  const sieve_diff_forward_arguments a = forward(replayed);
  uint64_t bytes = 0;
  CHECK(sieve_diff_forward_workspace(context, &p, &a, &bytes) == SIEVE_STATUS_OK);
  DeviceArray<uint8_t> workspace(bytes);
  cudaStream_t stream;
  cudaGraph_t graph;
  cudaGraphExec_t executable;
  check_cuda(cudaStreamCreate(&stream), "stream");
  check_cuda(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal), "capture");
  CHECK(sieve_diff_forward(context, &p, &a, workspace.data(), bytes, stream) == SIEVE_STATUS_OK);
  check_cuda(cudaStreamEndCapture(stream, &graph), "capture");
  check_cuda(cudaGraphInstantiate(&executable, graph, 0), "graph");
  t.lambda.write({0.9f, -0.4f, 0.1f, 2.0f});
  check_cuda(cudaGraphLaunch(executable, stream), "launch");
  check_cuda(cudaStreamSynchronize(stream), "graph");
  run_forward(t, path, direct, false);
  CHECK(direct.output.memory.read() == replayed.output.memory.read());
  cudaGraphExecDestroy(executable);
  cudaGraphDestroy(graph);
  cudaStreamDestroy(stream);
}

const Case kCases[] = {
    {.name = "one row, one key", .queries = 1, .keys = 1},
    {.name = "17 causal, norm", .queries = 17, .keys = 17, .norm = true, .gain = true},
    {.name = "113 x 203, interleaved", .queries = 113, .keys = 203, .lambda = Lambda::kDevice, .interleaved = true},
    {.name = "239 full, norm without gain, scale",
     .queries = 239,
     .keys = 239,
     .causal = false,
     .norm = true,
     .output_scale = 0.2f},
    {.name = "799 x 3 full, gate", .queries = 799, .keys = 3, .causal = false, .gate = true},
    {.name = "3 x 799", .queries = 3, .keys = 799, .lambda = Lambda::kPerHead},
    {.name = "rows before every key: 300 x 200, norm", .queries = 300, .keys = 200, .norm = true, .gain = true},
    {.name = "offset -100, norm, gate",
     .queries = 300,
     .keys = 300,
     .at_end = false,
     .offset = -100,
     .norm = true,
     .gate = true},
    {.name = "offset 400, beyond the keys", .queries = 100, .keys = 300, .at_end = false, .offset = 400, .window = 150},
    {.name = "window 37", .queries = 500, .keys = 500, .window = 37, .lambda = Lambda::kPerHead, .norm = true},
    {.name = "grouped heads, batch 2, 1023 x 1024, norm, gain, gate",
     .batch = 2,
     .heads = 4,
     .key_heads = 2,
     .queries = 1023,
     .keys = 1024,
     .lambda = Lambda::kPerHead,
     .norm = true,
     .gain = true,
     .gate = true,
     .output_scale = 0.2f},
    {.name = "one key head of 8", .heads = 8, .key_heads = 1, .queries = 300, .keys = 300, .lambda = Lambda::kPerHead},
    {.name = "packed",
     .heads = 4,
     .key_heads = 2,
     .queries = 600,
     .keys = 700,
     .lambda = Lambda::kPerHead,
     .packed = true},
    {.name = "packed, full, bitwise, norm, gain, gate",
     .queries = 600,
     .keys = 700,
     .causal = false,
     .norm = true,
     .gain = true,
     .gate = true,
     .packed = true,
     .bitwise = true},
    {.name = "lengths, norm", .batch = 3, .queries = 300, .keys = 400, .norm = true, .gain = true, .lengths = true},
    {.name = "strided, interleaved, float32",
     .batch = 2,
     .heads = 4,
     .key_heads = 2,
     .queries = 300,
     .keys = 300,
     .norm = true,
     .gain = true,
     .strided = true,
     .interleaved = true,
     .floats = true},
    {.name = "streams in the element type, scale -0.5",
     .queries = 300,
     .keys = 300,
     .output_scale = -0.5f,
     .element_streams = true},
    {.name = "NaN in a query, norm", .queries = 300, .keys = 300, .norm = true, .gain = true, .bad = Bad::kQuery},
    {.name = "NaN in a key", .queries = 300, .keys = 300, .bad = Bad::kKey},
    {.name = "NaN in a value, window", .queries = 300, .keys = 300, .window = 70, .bad = Bad::kValue},
    {.name = "NaN in an output gradient, norm", .queries = 300, .keys = 300, .norm = true, .bad = Bad::kOutputGradient},
};
const Case kGroupedCases[] = {
    {.name = "v2: one row, one key", .signals = 1, .heads = 2, .key_heads = 1, .queries = 1, .keys = 1},
    {.name = "v2: 113 x 203, gate", .signals = 1, .heads = 4, .queries = 113, .keys = 203, .gate = true},
    {.name = "v2: 8 heads on 2, 1023 x 1024, batch 2",
     .signals = 1,
     .batch = 2,
     .heads = 8,
     .queries = 1023,
     .keys = 1024},
    {.name = "grouped: 4 signals, 10 heads on 2",
     .signals = 4,
     .heads = 10,
     .queries = 239,
     .keys = 239,
     .causal = false,
     .gate = true,
     .output_scale = 0.7f},
    {.name = "grouped: 2 signals, groups across key heads",
     .signals = 2,
     .heads = 6,
     .key_heads = 3,
     .queries = 300,
     .keys = 300},
    {.name = "grouped: 2 signals, norm, gain, packed, bitwise",
     .signals = 2,
     .heads = 6,
     .queries = 600,
     .keys = 700,
     .norm = true,
     .gain = true,
     .gate = true,
     .packed = true,
     .bitwise = true},
    {.name = "grouped: 2 signals, strided, float32, rows without keys",
     .signals = 2,
     .batch = 2,
     .heads = 6,
     .queries = 300,
     .keys = 200,
     .strided = true,
     .floats = true},
    {.name = "v2: lengths, window",
     .signals = 1,
     .batch = 3,
     .heads = 4,
     .queries = 300,
     .keys = 400,
     .window = 100,
     .lengths = true},
    {.name = "v2: NaN in the last noise query",
     .signals = 1,
     .heads = 4,
     .queries = 300,
     .keys = 300,
     .bad = Bad::kQuery},
    {.name = "grouped: NaN in a value",
     .signals = 2,
     .heads = 6,
     .queries = 300,
     .keys = 300,
     .window = 70,
     .bad = Bad::kValue},
};
const Case kLongCases[] = {
    {.name = "4224 causal", .heads = 1, .key_heads = 1, .queries = 4224, .keys = 4224, .norm = true, .gain = true},
    {.name = "v2: 1024 x 4224 causal", .signals = 1, .heads = 2, .key_heads = 1, .queries = 1024, .keys = 4224},
};
const Case kMixedCases[] = {
    {.name = "mixed dims",
     .heads = 4,
     .key_heads = 2,
     .queries = 200,
     .keys = 277,
     .lambda = Lambda::kPerHead,
     .norm = true,
     .gain = true},
    {.name = "mixed dims, grouped, gate",
     .signals = 2,
     .heads = 6,
     .key_heads = 2,
     .queries = 150,
     .keys = 177,
     .gate = true,
     .floats = true},
};

bool supports(int32_t operation, int32_t direction, int32_t path, int32_t dtype, int head_dim, int value_dim) {
  const sieve_support_query query{sizeof query, operation, direction, path, dtype, head_dim, value_dim, 0};
  return sieve_support(context, &query) == SIEVE_STATUS_OK;
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
  for (const int32_t dtype : {SIEVE_DTYPE_BFLOAT16, SIEVE_DTYPE_FLOAT16}) {
    const auto paths = [&](int32_t direction, int head_dim, int value_dim) {
      std::vector<int32_t> list;
      for (const int32_t path : {SIEVE_PATH_GENERIC, SIEVE_PATH_HOPPER})
        if (supports(SIEVE_OPERATION_DIFF, direction, path, dtype, head_dim, value_dim)) list.push_back(path);
      return list;
    };
    constexpr int kDims[][2] = {{32, 32}, {32, 64}, {64, 64}, {64, 128}, {96, 96}, {128, 128}, {128, 256}, {256, 256}};
    for (const auto &dims : kDims) {
      const int head_dim = dims[0], value_dim = dims[1];
      const bool backward = !paths(SIEVE_DIRECTION_BACKWARD, head_dim, value_dim).empty();
      const std::vector<int32_t> run = paths(SIEVE_DIRECTION_FORWARD, head_dim, value_dim);
      if (run.size() < 2) std::printf("not run: a path at D%d/%d: %s\n", head_dim, value_dim, sieve_last_message());
      const int before = failures;
      for (const Case &c : kMixedCases) test(c, dtype, head_dim, value_dim, backward, run);
      if (head_dim == 64 && value_dim == 128)
        for (const Case &c : kCases) test(c, dtype, head_dim, value_dim, backward, run);
      if (head_dim == 64 && value_dim == 64)
        for (const Case &c : kGroupedCases) test(c, dtype, head_dim, value_dim, backward, run);
      if (value_dim == 128)
        for (const int32_t path : run) test_properties(dtype, head_dim, value_dim, path);
      if (head_dim == 128 && value_dim == 128) {
        if (dtype == SIEVE_DTYPE_BFLOAT16)
          for (const Case &c : kLongCases) test(c, dtype, head_dim, value_dim, backward, run);
        for (const int32_t path : run) {
          test_graph(dtype, head_dim, value_dim, path);
          test_repeats(kCases[10], dtype, head_dim, value_dim, path, 10);
          test_repeats(kGroupedCases[3], dtype, head_dim, value_dim, path, 10);
        }
      }
      std::printf("%s %s D%d/%d%s\n", failures == before ? "passed" : "FAILED",
                  dtype == SIEVE_DTYPE_BFLOAT16 ? "bf16" : "fp16", head_dim, value_dim,
                  backward ? "" : ", forward only");
      std::fflush(stdout);
    }
  }
  CHECK(sieve_context_destroy(context) == SIEVE_STATUS_OK);
  return finish();
}
