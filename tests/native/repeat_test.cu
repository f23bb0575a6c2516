// Launches repeat bit for bit where the interface promises it: many launches of every operator, while copies of large
// buffers on another stream change when memory answers. The results (all of them) of each launch are compared on the
// device with those of the first one; before each launch they are 0xff.
//
// Usage: sieve_repeat_test [REPEATS] [--only TEXT]. An operator is one function that describes its call, and one line
// of kOperators.
#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <thread>

#include "tests/native/support/check.h"
#include "tests/native/support/device_tensor.h"

namespace sieve::test {

sieve_context *context = nullptr;

// Grouped heads, causal; the last of 15 blocks of 64 keys is not whole.
constexpr int64_t kBatch = 2, kQueryHeads = 16, kKeyHeads = 4, kRows = 950, kDecodeRows = 4;

struct Differences {
  unsigned long long words;
  int first_launch;
};

__global__ void count_differences(const uint32_t *found, const uint32_t *expected, size_t words, int launch,
                                  Differences *differences) {
  unsigned long long different = 0;
  for (size_t i = blockIdx.x * blockDim.x + threadIdx.x; i < words; i += gridDim.x * blockDim.x)
    different += found[i] != expected[i];
  if (different == 0) return;
  atomicAdd(&differences->words, different);
  atomicMin(&differences->first_launch, launch);
}

// The memory of one call, and the call.
class Call {
 public:
  sieve_attention_problem problem{};
  sieve_tda_cache cache{};

  Call(int32_t path, int32_t dtype, int64_t dim) : dtype_(dtype), dim_(dim), results_(kMostResults) {
    problem.struct_size = sizeof problem;
    problem.causal = 1;
    problem.path = path;
    problem.output_scale = 1;
    results_.fill(0xff);
  }

  // Random tensors.
  sieve_tensor queries(int64_t rows) { return random(kQueryHeads, rows); }
  sieve_tensor keys() { return random(kKeyHeads, kRows); }
  sieve_tensor row_numbers() {
    const sieve_tensor t = memory(SIEVE_DTYPE_FLOAT32, kQueryHeads, kRows, 1);
    std::mt19937 generator(seed_++);
    std::normal_distribution<float> normal;
    std::vector<float> values(static_cast<size_t>(kBatch * kQueryHeads * kRows));
    for (float &x : values) x = normal(generator);
    check_cuda(cudaMemcpy(t.data, values.data(), 4 * values.size(), cudaMemcpyHostToDevice), "row numbers");
    return t;
  }
  // Memory that is neither random nor compared.
  sieve_tensor memory(int32_t dtype, int64_t heads, int64_t rows, int64_t channels) {
    memory_.push_back(std::make_unique<DeviceArray<uint8_t>>(bytes(dtype, heads, rows, channels)));
    return view(memory_.back()->data(), dtype, kBatch, heads, rows, channels);
  }
  // Memory that the call fills and the test compares.
  sieve_tensor result(int32_t dtype, int64_t heads, int64_t rows, int64_t channels) {
    return view(take(bytes(dtype, heads, rows, channels)), dtype, kBatch, heads, rows, channels);
  }
  sieve_tensor query_result(int64_t rows) { return result(dtype_, kQueryHeads, rows, dim_); }
  sieve_tensor key_result() { return result(dtype_, kKeyHeads, kRows, dim_); }
  sieve_tensor row_result(int32_t dtype, int64_t rows) { return result(dtype, kQueryHeads, rows, 1); }
  float *head_result() { return static_cast<float *>(take(4 * kQueryHeads)); }

  int32_t dtype() const { return dtype_; }
  int64_t dim() const { return dim_; }

  // What is repeated: sieve_<operator>_<direction>_workspace and sieve_<operator>_<direction>.
  template <class Arguments, class Workspace, class Enqueue>
  void repeats(const Arguments &a, Workspace workspace, Enqueue enqueue) {
    uint64_t size = 0;
    require(workspace(context, &problem, &a, &size));
    memory_.push_back(std::make_unique<DeviceArray<uint8_t>>(size + 256));
    memory_.back()->fill(0xff);
    void *place = memory_.back()->data();
    launch_ = [=, this](void *stream) { require(enqueue(context, &problem, &a, place, size, stream)); };
  }
  // What is done once, before.
  template <class Arguments, class Workspace, class Enqueue>
  void once(const Arguments &a, Workspace workspace, Enqueue enqueue) {
    repeats(a, workspace, enqueue);
    launch_(nullptr);
  }
  static void require(int32_t status) {
    if (status == SIEVE_STATUS_OK) return;
    std::fprintf(stderr, "%s\n", sieve_last_message());
    std::exit(1);
  }

  // The first launch, alone; whether it wrote all of its results.
  bool run_first() {
    check_cuda(cudaDeviceSynchronize(), "preparation");
    launch_(nullptr);
    check_cuda(cudaDeviceSynchronize(), "first launch");
    expected_ = std::make_unique<DeviceArray<uint8_t>>(used_);
    check_cuda(cudaMemcpy(expected_->data(), results_.data(), used_, cudaMemcpyDeviceToDevice), "first results");
    count_differences<<<1, 1>>>(nullptr, nullptr, 0, 0, nullptr);  // loads it before the copies begin
    std::vector<uint32_t> words(used_ / 4);
    check_cuda(cudaMemcpy(words.data(), results_.data(), used_, cudaMemcpyDeviceToHost), "first results");
    for (const Piece &piece : pieces_)
      for (size_t i = 0; i < piece.words; ++i)
        if (words[piece.first + i] == 0xffffffffu) return false;
    return true;
  }
  Differences run_again(int repeats, cudaStream_t stream) {
    DeviceArray<Differences> differences(1);
    differences.write(std::vector<Differences>(1, {0, repeats}));
    check_cuda(cudaDeviceSynchronize(), "differences");
    for (int launch = 0; launch < repeats; ++launch) {
      check_cuda(cudaMemsetAsync(results_.data(), 0xff, used_, stream), "poison");
      launch_(stream);
      count_differences<<<264, 256, 0, stream>>>(reinterpret_cast<const uint32_t *>(results_.data()),
                                                 reinterpret_cast<const uint32_t *>(expected_->data()), used_ / 4,
                                                 launch, differences.data());
      check_cuda(cudaGetLastError(), "count_differences");
    }
    check_cuda(cudaStreamSynchronize(stream), "repeats");
    return differences.read()[0];
  }

 private:
  static constexpr size_t kMostResults = size_t{64} << 20;
  struct Piece {
    size_t first, words;
  };

  static size_t bytes(int32_t dtype, int64_t heads, int64_t rows, int64_t channels) {
    const bool wide = dtype == SIEVE_DTYPE_FLOAT32 || dtype == SIEVE_DTYPE_INT32;
    return static_cast<size_t>(kBatch * heads * rows * channels * (wide ? 4 : 2));
  }
  void *take(size_t size) {
    void *data = results_.data() + used_;
    pieces_.push_back({used_ / 4, size / 4});
    used_ += (size + 255) / 256 * 256;
    if (used_ > kMostResults) check_cuda(cudaErrorMemoryAllocation, "room for results");
    return data;
  }
  // Tensors begin at different places of one random sequence, whose period no row divides: making numbers takes longer
  // than the launches.
  sieve_tensor random(int64_t heads, int64_t rows) {
    static const std::vector<uint16_t> sequences[] = {random_elements(1000003, SIEVE_DTYPE_FLOAT16, 1),
                                                      random_elements(1000003, SIEVE_DTYPE_BFLOAT16, 2)};
    const std::vector<uint16_t> &sequence = sequences[dtype_ == SIEVE_DTYPE_BFLOAT16];
    const sieve_tensor t = memory(dtype_, heads, rows, dim_);
    std::vector<uint16_t> elements(static_cast<size_t>(kBatch * heads * rows * dim_));
    size_t from = 123457 * seed_++ % sequence.size();
    for (uint16_t &x : elements) {
      x = sequence[from];
      from = from + 1 == sequence.size() ? 0 : from + 1;
    }
    check_cuda(cudaMemcpy(t.data, elements.data(), 2 * elements.size(), cudaMemcpyHostToDevice), "random");
    return t;
  }

  int32_t dtype_;
  int64_t dim_;
  uint32_t seed_ = 1;
  size_t used_ = 0;
  std::vector<std::unique_ptr<DeviceArray<uint8_t>>> memory_;
  std::vector<Piece> pieces_;
  DeviceArray<uint8_t> results_;
  std::unique_ptr<DeviceArray<uint8_t>> expected_;
  std::function<void(void *)> launch_;
};

// Copies large buffers to and fro on a stream of its own, without pause, as long as it lives.
class MemoryLoad {
 public:
  static constexpr size_t kBytes = size_t{256} << 20;

  MemoryLoad(const DeviceArray<uint8_t> &one, const DeviceArray<uint8_t> &other)
      : thread_([&] { copy(one.data(), other.data()); }) {
    while (copies_ == 0) std::this_thread::yield();
  }
  ~MemoryLoad() {
    stop_ = true;
    thread_.join();
  }
  long long copies() const { return copies_; }

 private:
  void copy(uint8_t *one, uint8_t *other) {
    cudaStream_t stream;
    cudaEvent_t done[2];
    check_cuda(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "stream of the load");
    for (cudaEvent_t &event : done)
      check_cuda(cudaEventCreateWithFlags(&event, cudaEventDisableTiming | cudaEventBlockingSync), "event");
    for (int batch = 0; !stop_; ++batch) {  // one batch of copies waits while another runs
      check_cuda(cudaEventSynchronize(done[batch % 2]), "load");
      for (int i = 0; i < 4; ++i) {
        check_cuda(cudaMemcpyAsync(one, other, kBytes, cudaMemcpyDeviceToDevice, stream), "load");
        check_cuda(cudaMemcpyAsync(other, one, kBytes, cudaMemcpyDeviceToDevice, stream), "load");
      }
      check_cuda(cudaEventRecord(done[batch % 2], stream), "load");
      copies_ += 8;
    }
    check_cuda(cudaStreamSynchronize(stream), "load");
    for (const cudaEvent_t event : done) cudaEventDestroy(event);
    cudaStreamDestroy(stream);
  }

  std::atomic<bool> stop_ = false;
  std::atomic<long long> copies_ = 0;
  std::thread thread_;
};

void softmax_forward(Call &call) {
  sieve_softmax_forward_arguments a{};
  a.struct_size = sizeof a;
  a.query = call.queries(kRows);
  a.key = call.keys();
  a.value = call.keys();
  a.output = call.query_result(kRows);
  a.lse = call.row_result(SIEVE_DTYPE_FLOAT32, kRows);
  call.repeats(a, sieve_softmax_forward_workspace, sieve_softmax_forward);
}

sieve_softmax_backward_arguments softmax_gradients(Call &call) {
  sieve_softmax_forward_arguments f{};
  f.struct_size = sizeof f;
  f.query = call.queries(kRows);
  f.key = call.keys();
  f.value = call.keys();
  f.output = call.memory(call.dtype(), kQueryHeads, kRows, call.dim());
  f.lse = call.memory(SIEVE_DTYPE_FLOAT32, kQueryHeads, kRows, 1);
  call.once(f, sieve_softmax_forward_workspace, sieve_softmax_forward);
  call.problem.repeatability = SIEVE_REPEATABILITY_BITWISE;
  sieve_softmax_backward_arguments a{};
  a.struct_size = sizeof a;
  a.query = f.query;
  a.key = f.key;
  a.value = f.value;
  a.output = f.output;
  a.lse = f.lse;
  a.output_gradient = call.queries(kRows);
  a.query_gradient = call.query_result(kRows);
  a.key_gradient = call.key_result();
  a.value_gradient = call.key_result();
  return a;
}

void softmax_backward(Call &call) {
  const sieve_softmax_backward_arguments a = softmax_gradients(call);
  call.repeats(a, sieve_softmax_backward_workspace, sieve_softmax_backward);
}

void softmax_backward_of_parameters(Call &call) {
  call.problem.row_factor = SIEVE_ROW_FACTOR_ASENTMAX;
  call.problem.row_first.value = 0.3f;
  call.problem.row_second.value = 0.8f;
  call.problem.gate = call.row_numbers();
  sieve_softmax_backward_arguments a = softmax_gradients(call);
  a.row_factor_gradient = call.row_result(SIEVE_DTYPE_FLOAT32, kRows);
  a.gate_gradient = call.row_result(SIEVE_DTYPE_FLOAT32, kRows);
  a.row_first_gradient = call.head_result();
  a.row_second_gradient = call.head_result();
  call.repeats(a, sieve_softmax_backward_workspace, sieve_softmax_backward);
}

void softmax_decode(Call &call) {
  sieve_softmax_decode_arguments a{};
  a.struct_size = sizeof a;
  a.splits = 7;
  a.query = call.queries(kDecodeRows);
  a.key = call.keys();
  a.value = call.keys();
  a.output = call.query_result(kDecodeRows);
  a.lse = call.row_result(SIEVE_DTYPE_FLOAT32, kDecodeRows);
  call.repeats(a, sieve_softmax_decode_workspace, sieve_softmax_decode);
}

// Of the forward and the decode call.
template <class Arguments>
void tda_parameters(Arguments &a) {
  a.struct_size = sizeof a;
  a.beta.value = 0.6f;
  a.lambda.value = 0.3f;
  a.kappa = 1;
  a.power = 2;
}

void tda_forward(Call &call) {
  sieve_tda_forward_arguments a{};
  tda_parameters(a);
  a.query1 = call.queries(kRows);
  a.key1 = call.keys();
  a.query2 = call.queries(kRows);
  a.key2 = call.keys();
  a.value = call.keys();
  a.output = call.query_result(kRows);
  a.survivors1 = call.row_result(SIEVE_DTYPE_INT32, kRows);
  a.survivors2 = call.row_result(SIEVE_DTYPE_INT32, kRows);
  a.survivor_tiles = call.result(SIEVE_DTYPE_INT32, kQueryHeads, (kRows + 63) / 64, (kRows + 1023) / 1024);
  call.repeats(a, sieve_tda_forward_workspace, sieve_tda_forward);
}

template <int32_t kScreen>
void tda_decode(Call &call) {
  sieve_tda_cache &cache = call.cache;
  cache.struct_size = sizeof cache;
  cache.screen = kScreen;
  cache.key1 = call.keys();
  cache.key2 = call.keys();
  cache.value = call.keys();
  cache.inverse_norms1 = call.memory(SIEVE_DTYPE_FLOAT32, kKeyHeads, kRows, 1);
  cache.inverse_norms2 = call.memory(SIEVE_DTYPE_FLOAT32, kKeyHeads, kRows, 1);
  if (kScreen != SIEVE_TDA_SCREEN_NONE) {
    const int64_t words = (kScreen == SIEVE_TDA_SCREEN_INT8 ? 4 : 2) * (call.dim() <= 64 ? 64 : 128) + 16;
    cache.images1 = call.memory(SIEVE_DTYPE_INT32, kKeyHeads, (kRows + 15) / 16, words);
    cache.images2 = call.memory(SIEVE_DTYPE_INT32, kKeyHeads, (kRows + 15) / 16, words);
  }
  sieve_tda_append_arguments append{};
  append.struct_size = sizeof append;
  append.batch = kBatch;
  append.cache = &cache;
  append.rows = kRows;
  Call::require(sieve_tda_append(context, &append, nullptr));
  sieve_tda_decode_arguments a{};
  tda_parameters(a);
  a.splits = 5;
  a.query1 = call.queries(kDecodeRows);
  a.query2 = call.queries(kDecodeRows);
  a.cache = &cache;
  a.output = call.query_result(kDecodeRows);
  a.survivors1 = call.row_result(SIEVE_DTYPE_INT32, kDecodeRows);
  a.survivors2 = call.row_result(SIEVE_DTYPE_INT32, kDecodeRows);
  call.repeats(a, sieve_tda_decode_workspace, sieve_tda_decode);
}

struct Operator {
  const char *name;
  int32_t operation, direction;
  void (*describe)(Call &);
};

constexpr Operator kOperators[] = {
    {"softmax forward", SIEVE_OPERATION_SOFTMAX, SIEVE_DIRECTION_FORWARD, softmax_forward},
    {"softmax backward", SIEVE_OPERATION_SOFTMAX, SIEVE_DIRECTION_BACKWARD, softmax_backward},
    {"softmax backward, asentmax, gate", SIEVE_OPERATION_SOFTMAX, SIEVE_DIRECTION_BACKWARD,
     softmax_backward_of_parameters},
    {"softmax decode, 7 splits", SIEVE_OPERATION_SOFTMAX, SIEVE_DIRECTION_DECODE, softmax_decode},
    {"tda forward", SIEVE_OPERATION_TDA, SIEVE_DIRECTION_FORWARD, tda_forward},
    {"tda decode exact, 5 splits", SIEVE_OPERATION_TDA, SIEVE_DIRECTION_DECODE, tda_decode<SIEVE_TDA_SCREEN_NONE>},
    {"tda decode int8, 5 splits", SIEVE_OPERATION_TDA, SIEVE_DIRECTION_DECODE, tda_decode<SIEVE_TDA_SCREEN_INT8>},
    {"tda decode int4, 5 splits", SIEVE_OPERATION_TDA, SIEVE_DIRECTION_DECODE, tda_decode<SIEVE_TDA_SCREEN_INT4>},
};

void test(const Operator &tested, int32_t path, int64_t dim, const std::string &name, const DeviceArray<uint8_t> &one,
          const DeviceArray<uint8_t> &other) {
  Call call(path, dim == 64 ? SIEVE_DTYPE_FLOAT16 : SIEVE_DTYPE_BFLOAT16, dim);
  tested.describe(call);
  const bool complete = call.run_first();
  // First in line: the copies take what it leaves.
  int least = 0, greatest = 0;
  check_cuda(cudaDeviceGetStreamPriorityRange(&least, &greatest), "priorities");
  cudaStream_t stream;
  check_cuda(cudaStreamCreateWithPriority(&stream, cudaStreamNonBlocking, greatest), "stream");
  const auto start = std::chrono::steady_clock::now();
  const MemoryLoad load(one, other);
  const Differences found = call.run_again(choice.repeats, stream);
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  check_cuda(cudaStreamDestroy(stream), "stream");
  std::printf("%-48s %d launches, %.2f s, %lld copies meanwhile: ", name.c_str(), choice.repeats, seconds,
              load.copies());
  if (found.words == 0)
    std::printf("equal%s\n", complete ? "" : ", but the first left results unwritten");
  else
    std::printf("%llu words DIFFER, first in launch %d\n", found.words, found.first_launch);
  std::fflush(stdout);
  CHECK(found.words == 0 && complete);
}

}  // namespace sieve::test

int main(int count, char **arguments) {
  using namespace sieve::test;
  read_arguments(count, arguments, 1000);
  sieve_context_options options{};
  options.struct_size = sizeof options;
  options.log_level = SIEVE_LOG_NONE;
  if (sieve_context_create(&options, &context) != SIEVE_STATUS_OK) {
    std::printf("skipped: %s\n", sieve_last_message());
    return 77;
  }
  {
    const DeviceArray<uint8_t> one(MemoryLoad::kBytes), other(MemoryLoad::kBytes);
    for (const Operator &tested : kOperators)
      for (const int32_t path : {SIEVE_PATH_GENERIC, SIEVE_PATH_HOPPER})
        for (const int32_t dim : {64, 128}) {
          const std::string name = std::string(path == SIEVE_PATH_HOPPER ? "hopper " : "generic ") + tested.name +
                                   (dim == 64 ? ", fp16 D64" : ", bf16 D128");
          const int32_t dtype = dim == 64 ? SIEVE_DTYPE_FLOAT16 : SIEVE_DTYPE_BFLOAT16;
          const sieve_support_query query{sizeof query, tested.operation, tested.direction, path, dtype, dim, dim, 0};
          if (sieve_support(context, &query) != SIEVE_STATUS_OK) {
            std::printf("%-48s not run: no such kernel\n", name.c_str());
            continue;
          }
          if (chosen(name)) test(tested, path, dim, name, one, other);
        }
  }
  CHECK(sieve_context_destroy(context) == SIEVE_STATUS_OK);
  return finish();
}
