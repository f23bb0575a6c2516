// What holds for softmax attention, forward, beside its formula: sequences do not see each other, NaN stays with the
// rows that see it, launches repeat bit for bit, large strides, captured graphs. Part of softmax_forward_test.cu.
#pragma once

namespace sieve::test {

// Packed sequences, or padded ones with their lengths in device memory, give bit for bit what each sequence gives
// alone.
void test_sequences(int32_t path, bool padded) {
  constexpr int kHeads = 2, kDim = 128, kCount = 3, kLongest = 300;
  const int lengths[kCount] = {77, 300, 1};
  const int total = padded ? kCount * kLongest : 77 + 300 + 1;
  const int batch = padded ? kCount : 1, rows = padded ? kLongest : total;
  NaiveSoftmax p = square(rows, kDim, SIEVE_DTYPE_BFLOAT16);
  p.batch = batch;
  p.key_heads = kHeads;
  Setup s(p, {Layout::kRowsFirst});
  DeviceArray<int32_t> starts(kCount + 1), device_lengths(kCount);
  starts.write({0, 77, 377, 378});
  device_lengths.write({77, 300, 1});
  if (padded) {
    s.problem.key_lengths = device_lengths.data();
  } else {
    s.problem.query_starts = s.problem.key_starts = starts.data();
    s.problem.sequence_count = kCount;
    s.problem.longest_query = kLongest;
    s.problem.query_alignment = SIEVE_QUERY_ALIGNMENT_END;
  }
  s.poison();
  s.launch(path);
  check_cuda(cudaDeviceSynchronize(), "sequences");
  const std::vector<double> joint = s.output.read_and_check_gaps(), joint_lse = s.lse.read_and_check_gaps();
  s.problem.query_starts = s.problem.key_starts = s.problem.key_lengths = nullptr;
  s.problem.sequence_count = s.problem.longest_query = 0;
  s.poison();
  const sieve_softmax_forward_arguments whole = s.arguments;
  int64_t first = 0;
  for (int i = 0; i < kCount; ++i) {
    for (sieve_tensor *t :
         {&s.arguments.query, &s.arguments.key, &s.arguments.value, &s.arguments.output, &s.arguments.lse}) {
      const int64_t offset = padded ? i * t->strides[0] : first * t->strides[2];
      t->data = static_cast<char *>(t->data) + offset * static_cast<int64_t>(TestTensor::bytes(t->dtype));
      t->sizes[0] = 1;
      t->sizes[2] = lengths[i];
    }
    s.launch(path);
    s.arguments = whole;
    first += lengths[i];
  }
  check_cuda(cudaDeviceSynchronize(), "sequences");
  const std::vector<double> alone = s.output.read_and_check_gaps(), alone_lse = s.lse.read_and_check_gaps();
  size_t compared = 0, different = 0;
  for (size_t i = 0; i < alone.size(); ++i) {
    if (std::isnan(alone[i])) continue;  // padding rows are nobody's
    ++compared;
    different += alone[i] != joint[i];
  }
  for (size_t i = 0; i < alone_lse.size(); ++i)
    if (!std::isnan(alone_lse[i])) different += alone_lse[i] != joint_lse[i];
  std::printf("%-8s %-52s %zu elements, %zu differ\n", path_name(path),
              padded ? "padded sequences" : "packed sequences", compared, different);
  CHECK(compared == static_cast<size_t>(378) * kHeads * kDim);
  CHECK(different == 0);
}

// Writes a value into one element.
void plant(const TestTensor &tensor, int64_t head, int64_t row, int64_t channel, float value) {
  const int64_t at = head * tensor.view.strides[1] + row * tensor.view.strides[2] + channel;
  const uint16_t bits = to_bits(value, tensor.view.dtype);
  check_cuda(cudaMemcpy(static_cast<uint16_t *>(tensor.view.data) + at, &bits, 2, cudaMemcpyHostToDevice), "plant");
}

// One NaN at `row` of a tensor of 600 rows; rows [first, end) may be reached by it, the others keep their bits.
void test_nan(int32_t path, int dim, const char *what, int64_t window, TestTensor Setup::*where, int64_t row, int first,
              int end, int channel) {
  NaiveSoftmax p = square(600, dim, SIEVE_DTYPE_BFLOAT16);
  p.query_heads = 1;
  p.window = window;
  Setup s(p, {});
  s.poison();
  s.launch(path);
  const std::vector<double> clean = s.output.read_and_check_gaps();
  plant(s.*where, 0, row, 5, NAN);
  s.poison();
  s.launch(path);
  const std::vector<double> dirty = s.output.read_and_check_gaps();
  size_t moved = 0, missing = 0;
  for (int r = 0; r < 600; ++r)
    for (int c = 0; c < dim; ++c) {
      const size_t i = static_cast<size_t>(r * dim + c);
      const bool reached = r >= first && r < end && (channel < 0 || c == channel);
      if (reached)
        missing += !std::isnan(dirty[i]);
      else
        moved += dirty[i] != clean[i];
    }
  std::printf("%-8s %-52s %zu elements outside moved, %zu inside are not NaN\n", path_name(path), what, moved, missing);
  CHECK(moved == 0);
  CHECK(missing == 0);
}

// Garbage behind the valid keys, as an unfilled cache holds it, is not seen.
void test_garbage_behind_keys(int32_t path) {
  NaiveSoftmax p = square(300, 64, SIEVE_DTYPE_BFLOAT16);
  p.causal = false;
  Setup s(p, {Layout::kHeadsFirst, false, false, false, {170}});
  s.launch(path);
  const std::vector<double> clean = s.output.read_and_check_gaps();
  for (int64_t row = 170; row < 300; ++row)
    for (int64_t channel = 0; channel < 64; channel += 7) {
      plant(s.key, 0, row, channel, NAN);
      plant(s.value, 0, row, channel, HUGE_VALF);
    }
  s.poison();
  s.launch(path);
  CHECK(largest_difference(s.output.read_and_check_gaps(), clean) == 0);
}

void test_repeats(int32_t path) {
  constexpr int kLaunches = 200;
  NaiveSoftmax p{4, 8, 2, 777, 777, 128, 128, true, 0, 0, 0, 0, 0, 0, false, 0, 1, SIEVE_DTYPE_BFLOAT16, false};
  Setup s(p, {});
  s.poison();
  s.launch(path);
  check_cuda(cudaDeviceSynchronize(), "repeats");
  const std::vector<uint8_t> expected = s.output.memory.read(), expected_lse = s.lse.memory.read();
  int different = 0;
  for (int i = 0; i < kLaunches; ++i) {
    s.poison();
    s.launch(path);
    if (i % 10 != 0 && i < kLaunches - 10) continue;  // reading back takes far longer than computing
    different += s.output.memory.read() != expected || s.lse.memory.read() != expected_lse;
  }
  std::printf("%-8s %-52s %d differ\n", path_name(path), "200 launches", different);
  CHECK(different == 0);
}

// Batch entries further than 2^31 elements apart, all tensors in one allocation.
void test_large_strides(int32_t path) {
  constexpr int64_t kFar = (int64_t{1} << 31) + 4096 * 8;
  NaiveSoftmax p{2, 2, 1, 200, 200, 64, 64, true, 0, 0, 0, 0, 0, 0, false, 0, 1, SIEVE_DTYPE_BFLOAT16, false};
  Setup s(p, {});
  s.poison();
  s.launch(path);
  const std::vector<double> expected = s.output.read_and_check_gaps();
  constexpr int64_t kSlot = 1 << 17;  // elements of one batch entry of one tensor, at most
  uint16_t *memory = nullptr;
  if (cudaMalloc(&memory, static_cast<size_t>(kFar + 4 * kSlot) * 2) != cudaSuccess) {
    cudaGetLastError();
    std::printf("%-8s %-52s not run: no memory\n", path_name(path), "large strides");
    return;
  }
  int slot = 0;
  const sieve_tensor near_output = s.arguments.output;
  for (sieve_tensor *t : {&s.arguments.query, &s.arguments.key, &s.arguments.value, &s.arguments.output}) {
    uint16_t *target = memory + slot++ * kSlot;
    for (int64_t b = 0; b < 2; ++b)
      check_cuda(cudaMemcpy(target + b * kFar, static_cast<uint16_t *>(t->data) + b * t->strides[0],
                            static_cast<size_t>(t->strides[0]) * 2, cudaMemcpyDeviceToDevice),
                 "far copy");
    t->data = target;
    t->strides[0] = kFar;
  }
  s.output.memory.fill(0xff);
  s.launch(path);
  for (int64_t b = 0; b < 2; ++b)
    check_cuda(cudaMemcpy(static_cast<uint16_t *>(near_output.data) + b * near_output.strides[0],
                          static_cast<uint16_t *>(s.arguments.output.data) + b * kFar,
                          static_cast<size_t>(near_output.strides[0]) * 2, cudaMemcpyDeviceToDevice),
               "near copy");
  const double difference = largest_difference(s.output.read_and_check_gaps(), expected);
  std::printf("%-8s %-52s largest difference %g\n", path_name(path), "batch stride beyond 2^31 elements", difference);
  CHECK(difference == 0);
  cudaFree(memory);
}

// Keys that repeat (stride 0) are what grouped heads are.
void test_repeated_heads(int32_t path) {
  NaiveSoftmax p = square(200, 64, SIEVE_DTYPE_BFLOAT16);
  Setup s(p, {});
  s.launch(path);
  const std::vector<double> expected = s.output.read_and_check_gaps();
  for (sieve_tensor *t : {&s.arguments.key, &s.arguments.value}) {
    t->sizes[1] = 2;
    t->strides[1] = 0;
  }
  s.poison();
  s.launch(path);
  CHECK(largest_difference(s.output.read_and_check_gaps(), expected) == 0);
}

// A captured graph replays with key lengths and row factors that changed in device memory.
void test_graph(int32_t path) {
  NaiveSoftmax p = square(300, 128, SIEVE_DTYPE_BFLOAT16);
  p.causal = false;
  p.row_factor = SIEVE_ROW_FACTOR_SSMAX;
  p.row_first = 0.5;
  Setup s(p, {Layout::kHeadsFirst, false, false, false, {100}});
  DeviceArray<float> first(1);
  first.write({0.5f});
  s.problem.row_first = {first.data(), 0, 0};
  cudaStream_t stream;
  cudaGraph_t graph;
  cudaGraphExec_t executable;
  check_cuda(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "stream");
  check_cuda(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "begin capture");
  s.launch(path, stream);
  check_cuda(cudaStreamEndCapture(stream, &graph), "end capture");
  check_cuda(cudaGraphInstantiate(&executable, graph, 0), "instantiate");
  for (const auto &[length, factor] : {std::pair{100, 0.5f}, std::pair{291, -0.25f}, std::pair{3, 1.0f}}) {
    s.key_lengths.write({length});
    first.write({factor});
    s.poison();
    check_cuda(cudaGraphLaunch(executable, stream), "graph launch");
    check_cuda(cudaStreamSynchronize(stream), "graph");
    s.p.row_first = static_cast<double>(factor);
    std::vector<double> exact, logs, plain;
    s.reference(false, exact, logs);
    s.reference(true, plain, logs);
    const double error = largest_difference(s.output.read_and_check_gaps(), exact);
    std::printf("%-8s graph replay, %3d keys, factor %5.2f %19s error %.2e\n", path_name(path), length,
                static_cast<double>(factor), "", error);
    CHECK(error <= 2 * largest_difference(plain, exact) + 1e-6);
  }
  cudaGraphExecDestroy(executable);
  cudaGraphDestroy(graph);
  cudaStreamDestroy(stream);
}

void test_properties(int32_t path) {
  const auto wanted = [&](const char *name) { return chosen(std::string(path_name(path)) + " properties: " + name); };
  if (wanted("packed sequences")) test_sequences(path, false);
  if (wanted("padded sequences")) test_sequences(path, true);
  for (const int dim : {64, 128}) {
    if (!wanted(dim == 64 ? "NaN D64" : "NaN D128")) continue;
    test_nan(path, dim, "NaN in query row 300", 0, &Setup::query, 300, 300, 301, -1);
    test_nan(path, dim, "NaN in key row 300", 0, &Setup::key, 300, 300, 600, -1);
    test_nan(path, dim, "NaN in value row 300", 0, &Setup::value, 300, 300, 600, 5);
    test_nan(path, dim, "NaN in value row 300, window 70", 70, &Setup::value, 300, 300, 370, 5);
  }
  if (wanted("garbage behind keys")) test_garbage_behind_keys(path);
  if (wanted("repeats")) test_repeats(path);
  if (wanted("large strides")) test_large_strides(path);
  if (path == SIEVE_PATH_GENERIC && wanted("repeated heads")) test_repeated_heads(path);
  if (wanted("graph")) test_graph(path);
}

}  // namespace sieve::test
