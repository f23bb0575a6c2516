// The wrappers of device/ptx that need compute capability 9.0, without wgmma: stmatrix, mbarrier, the copy engine,
// registers and barriers of warpgroups, kernels that overlap.
#include <cuda.h>

#include <string>

#include "device/ptx/grid_dependency.h"
#include "device/ptx/mbarrier.h"
#include "device/ptx/stmatrix.h"
#include "device/ptx/tma.h"
#include "device/ptx/warpgroup.h"
#include "device/shared_tile.h"
#include "device/tensor_map.h"
#include "tests/native/support/check.h"
#include "tests/native/support/device_tensor.h"
#include "tests/native/support/hopper_only.h"

namespace sieve::test {

__device__ int thread_index() {
  return static_cast<int>(threadIdx.x);
}

// Lane l gives the address of row row_of_lane(l); register i of lane l holds 8 l + 2 i and 8 l + 2 i + 1.
__device__ __host__ constexpr int row_of_lane(int lane) {
  return (lane * 5 + 3) % 32;
}

__global__ void store_matrices(uint32_t *plain, uint32_t *transposed) {
  __shared__ __align__(16) uint32_t rows[2][32 * 4];
  const int lane = thread_index();
  uint32_t d[4];
  for (int i = 0; i < 4; ++i) {
    const uint32_t low = static_cast<uint32_t>(8 * lane + 2 * i);
    d[i] = low | (low + 1) << 16;
  }
  ptx::stmatrix_x4(ptx::shared_address(&rows[0][4 * row_of_lane(lane)]), d);
  ptx::stmatrix_x4_trans(ptx::shared_address(&rows[1][4 * row_of_lane(lane)]), d);
  __syncwarp();
  for (int i = 0; i < 4; ++i) {
    plain[4 * lane + i] = rows[0][4 * lane + i];
    transposed[4 * lane + i] = rows[1][4 * lane + i];
  }
}

void test_store_matrices() {
  DeviceArray<uint32_t> plain(128), transposed(128);
  store_matrices<<<1, 32>>>(plain.data(), transposed.data());
  check_cuda(cudaDeviceSynchronize(), "store_matrices");
  const std::vector<uint32_t> d = plain.read(), t = transposed.read();
  const auto half = [](const std::vector<uint32_t> &rows, int row, int column) {
    return rows[static_cast<size_t>(4 * row + column / 2)] >> 16 * (column % 2) & 0xffff;
  };
  int wrong = 0;
  for (int i = 0; i < 4; ++i)
    for (int row = 0; row < 8; ++row)
      for (int column = 0; column < 8; ++column) {
        const uint32_t held = static_cast<uint32_t>(8 * (4 * row + column / 2) + 2 * i + column % 2);
        wrong += half(d, row_of_lane(8 * i + row), column) != held;
        wrong += half(t, row_of_lane(8 * i + column), row) != held;
      }
  CHECK(wrong == 0);
}

// Phases of a barrier of 64 threads, which exchange numbers through shared memory; result counts what was wrong.
__global__ void phases(int *result) {
  __shared__ uint64_t barrier;
  __shared__ int numbers[2][64];
  const uint32_t address = ptx::shared_address(&barrier);
  const int thread = thread_index();
  if (thread == 0) {
    ptx::mbarrier_init(address, 64);
    ptx::fence_mbarrier_init();
  }
  __syncthreads();
  int wrong = !ptx::mbarrier_try_wait(address, 1);  // the phase before the first one is complete
  ptx::mbarrier_wait(address, 1);
  for (int phase = 0; phase < 20; ++phase) {
    const uint32_t parity = static_cast<uint32_t>(phase & 1);
    numbers[phase & 1][thread] = 100 * phase + thread;
    if (thread == phase) wrong += ptx::mbarrier_try_wait(address, parity);  // its own arrival is missing
    ptx::mbarrier_arrive(address);
    ptx::mbarrier_wait(address, parity);
    wrong += numbers[phase & 1][63 - thread] != 100 * phase + 63 - thread;
    wrong += !ptx::mbarrier_try_wait(address, parity);
  }
  atomicAdd(result, wrong);
}

// Two pieces of a block of memory complete one phase; the bytes are announced first.
constexpr int kBulk = 4096, kFirstPiece = 1040;

__global__ void bulk_copies(const uint8_t *source, uint8_t *target, int *result) {
  __shared__ __align__(128) uint8_t shared[kBulk];
  __shared__ uint64_t barrier;
  const uint32_t address = ptx::shared_address(&barrier), memory = ptx::shared_address(shared);
  if (threadIdx.x == 0) {
    ptx::mbarrier_init(address, 1);
    ptx::fence_mbarrier_init();
  }
  __syncthreads();
  for (int round = 0; round < 4; ++round) {
    if (threadIdx.x == 0) {
      ptx::mbarrier_arrive_expect_tx(address, kBulk);
      ptx::cp_async_bulk(memory, source + round * kBulk, kFirstPiece, address);
      if (ptx::mbarrier_try_wait(address, static_cast<uint32_t>(round & 1))) atomicAdd(result, 1);  // bytes are missing
      ptx::cp_async_bulk(memory + kFirstPiece, source + round * kBulk + kFirstPiece, kBulk - kFirstPiece, address);
    }
    ptx::mbarrier_wait(address, static_cast<uint32_t>(round & 1));
    for (int i = thread_index(); i < kBulk; i += static_cast<int>(blockDim.x)) target[round * kBulk + i] = shared[i];
    ptx::fence_proxy_async();
    __syncthreads();
  }
}

void test_barriers() {
  DeviceArray<int> result(1);
  result.fill(0);
  phases<<<1, 64>>>(result.data());
  check_cuda(cudaDeviceSynchronize(), "phases");
  CHECK(result.read()[0] == 0);
  std::vector<uint8_t> source(4 * kBulk);
  for (size_t i = 0; i < source.size(); ++i) source[i] = static_cast<uint8_t>(i * 31 % 251);
  DeviceArray<uint8_t> from(source.size()), to(source.size());
  from.write(source);
  bulk_copies<<<1, 96>>>(from.data(), to.data(), result.data());
  check_cuda(cudaDeviceSynchronize(), "bulk_copies");
  CHECK(to.read() == source);
  CHECK(result.read()[0] == 0);
}

// A tensor [batch, heads, rows, channels] of numbered elements, with gaps of 0xffff behind the channels of each row.
struct NumberedTensor {
  static constexpr int kBatch = 2, kHeads = 3, kRows = 21, kChannels = 72, kPitch = 88;
  static constexpr int kBoxRows = 16;
  DeviceArray<uint16_t> memory{kBatch * kHeads * kRows * kPitch};
  CUtensorMap map;

  static int64_t index(int b, int head, int row, int channel) {
    return ((b * kHeads + head) * kRows + row) * kPitch + channel;
  }
  static bool inside(int row, int channel) { return row >= 0 && row < kRows && channel >= 0 && channel < kChannels; }
  NumberedTensor() {
    std::vector<uint16_t> numbers(memory.count(), 0xffff);
    for (int b = 0; b < kBatch; ++b)
      for (int head = 0; head < kHeads; ++head)
        for (int row = 0; row < kRows; ++row)
          for (int c = 0; c < kChannels; ++c) {
            const size_t at = static_cast<size_t>(index(b, head, row, c));
            numbers[at] = static_cast<uint16_t>(at + 1);
          }
    memory.write(numbers);
    TensorView view;
    view.data = memory.data();
    view.batch_stride = kHeads * kRows * kPitch;
    view.head_stride = kRows * kPitch;
    view.row_stride = kPitch;
    check_cuda(encode_tensor_map(&map, view, {kBatch, kHeads, kRows, kChannels}, kBoxRows, true), "encode");
  }
};

// Element (row, channel) of a box.
__device__ uint16_t &element(uint8_t *box, int row, int channel) {
  using Tile = SharedTile<NumberedTensor::kBoxRows, kPanel>;
  return *reinterpret_cast<uint16_t *>(box + Tile::offset(row, channel / 8) + channel % 8 * 2);
}

constexpr int kBoxElements = NumberedTensor::kBoxRows * kPanel;

__global__ void load_box(const __grid_constant__ CUtensorMap map, int channel, int row, int head, int b,
                         uint16_t *target) {
  __shared__ __align__(1024) uint8_t box[kBoxElements * 2];
  __shared__ uint64_t barrier;
  const uint32_t address = ptx::shared_address(&barrier);
  if (threadIdx.x == 0) {
    ptx::prefetch_tensormap(&map);
    ptx::mbarrier_init(address, 1);
    ptx::fence_mbarrier_init();
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    ptx::mbarrier_arrive_expect_tx(address, kBoxElements * 2);
    ptx::cp_async_bulk_tensor_4d(ptx::shared_address(box), &map, channel, row, head, b, address);
  }
  ptx::mbarrier_wait(address, 0);
  for (int i = thread_index(); i < kBoxElements; i += static_cast<int>(blockDim.x))
    target[i] = element(box, i / kPanel, i % kPanel);
}

void test_loads() {
  const NumberedTensor tensor;
  const std::vector<uint16_t> numbers = tensor.memory.read();
  DeviceArray<uint16_t> target(kBoxElements);
  int wrong = 0;
  for (const int row : {0, 16, -5, 21})  // whole, clipped below, clipped above, outside
    for (const int channel : {0, 64, 8}) {
      target.fill(0xff);
      load_box<<<1, 64>>>(tensor.map, channel, row, 2, 1, target.data());
      check_cuda(cudaDeviceSynchronize(), "load_box");
      const std::vector<uint16_t> box = target.read();
      for (int r = 0; r < NumberedTensor::kBoxRows; ++r)
        for (int c = 0; c < kPanel; ++c) {
          const bool inside = NumberedTensor::inside(row + r, channel + c);
          const uint16_t expected =
              inside ? numbers[static_cast<size_t>(NumberedTensor::index(1, 2, row + r, channel + c))] : uint16_t{0};
          wrong += box[static_cast<size_t>(r * kPanel + c)] != expected;
        }
    }
  CHECK(wrong == 0);
}

// Stores a box of numbers 1000 + i at (row, channel) of head 0 and one of 4000 + i at the same place of head 1, out of
// two places; then the first place, which has been read by then, takes a box of 7000 + i for head 2.
__global__ void store_boxes(const __grid_constant__ CUtensorMap map, int channel, int row, int b) {
  __shared__ __align__(1024) uint8_t boxes[2][kBoxElements * 2];
  const auto fill = [&](int place, int first) {
    for (int i = thread_index(); i < kBoxElements; i += static_cast<int>(blockDim.x))
      element(boxes[place], i / kPanel, i % kPanel) = static_cast<uint16_t>(first + i);
    ptx::fence_proxy_async();
    __syncthreads();
  };
  const auto store = [&](int place, int head) {
    if (threadIdx.x != 0) return;
    ptx::cp_async_bulk_tensor_4d_store(&map, channel, row, head, b, ptx::shared_address(boxes[place]));
    ptx::cp_async_bulk_commit_group();
  };
  fill(0, 1000);
  store(0, 0);
  fill(1, 4000);
  store(1, 1);
  if (threadIdx.x == 0) ptx::cp_async_bulk_wait_group_read<1>();
  __syncthreads();
  fill(0, 7000);
  store(0, 2);
  if (threadIdx.x == 0) ptx::cp_async_bulk_wait_group_read<0>();
}

void test_stores() {
  for (const int row : {0, 16})  // whole, clipped; a store at a negative row is an illegal instruction
    for (const int channel : {0, 64, 8}) {
      NumberedTensor tensor;
      std::vector<uint16_t> expected = tensor.memory.read();
      for (int head = 0; head < 3; ++head)
        for (int i = 0; i < kBoxElements; ++i)
          if (NumberedTensor::inside(row + i / kPanel, channel + i % kPanel))
            expected[static_cast<size_t>(NumberedTensor::index(1, head, row + i / kPanel, channel + i % kPanel))] =
                static_cast<uint16_t>(1000 + 3000 * head + i);
      store_boxes<<<1, 64>>>(tensor.map, channel, row, 1);
      check_cuda(cudaDeviceSynchronize(),
                 ("store_boxes at row " + std::to_string(row) + ", channel " + std::to_string(channel)).c_str());
      CHECK(tensor.memory.read() == expected);
    }
}

// Two halves of a block hand numbers to and fro over two named barriers: the writers arrive, the readers wait. Then 96
// of its 128 threads ask whether any of them is the chosen one.
__global__ void named_barriers(int *result) {
  __shared__ int numbers[64];
  const int thread = thread_index();
  int wrong = 0;
  if (thread < 64) {
    for (int round = 0; round < 50; ++round) {
      if (round > 0) ptx::bar_sync(2, 128);
      numbers[thread] = 1000 * round + thread;
      ptx::bar_arrive(1, 128);
    }
  } else {
    for (int round = 0; round < 50; ++round) {
      ptx::bar_sync(1, 128);
      wrong += numbers[127 - thread] != 1000 * round + 127 - thread;
      if (round < 49) ptx::bar_arrive(2, 128);
    }
  }
  __syncthreads();
  if (thread < 96)
    for (int round = 0; round < 100; ++round) wrong += ptx::bar_red_or(3, 96, thread == round) != (round < 96);
  wrong += __popc(__ballot_sync(0xffffffffu, ptx::elect_sync())) != 1;
  atomicAdd(result, wrong);
}

void test_named_barriers() {
  DeviceArray<int> result(1);
  result.fill(0);
  named_barriers<<<1, 128>>>(result.data());
  check_cuda(cudaDeviceSynchronize(), "named_barriers");
  CHECK(result.read()[0] == 0);
}

// A block of three warpgroups starts with 168 registers a thread; one gives most of them to the others, which keep 200
// numbers alive at a time.
constexpr int kAlive = 200, kRounds = 7;

__device__ __host__ inline uint32_t mix(uint32_t a, uint32_t b) {
  return a * 2654435761u + b;
}

__global__ void __launch_bounds__(384, 1) registers(const uint32_t *source, uint32_t *target) {
  const int warpgroup = __shfl_sync(0xffffffffu, thread_index() / 128, 0);
  if (warpgroup == 0) {
    ptx::setmaxnreg_dec<24>();
    if (thread_index() == 0) target[0] = source[0];
  } else {
    ptx::setmaxnreg_inc<240>();
    uint32_t x[kAlive];
#pragma unroll
    for (int i = 0; i < kAlive; ++i) x[i] = source[i] + threadIdx.x;
#pragma unroll 1
    for (int round = 0; round < kRounds; ++round)
#pragma unroll
      for (int i = 0; i < kAlive; ++i) x[i] = mix(x[i], x[(i + kAlive - 1) % kAlive]);
#pragma unroll
    for (int i = 0; i < kAlive; ++i) target[thread_index() * kAlive + i] = x[i];
  }
}

void test_registers() {
  std::vector<uint32_t> source(kAlive);
  for (size_t i = 0; i < source.size(); ++i) source[i] = static_cast<uint32_t>(i * i + 5);
  DeviceArray<uint32_t> from(kAlive), to(384 * kAlive);
  from.write(source);
  registers<<<1, 384>>>(from.data(), to.data());
  check_cuda(cudaDeviceSynchronize(), "registers");
  const std::vector<uint32_t> found = to.read();
  CHECK(found[0] == source[0]);
  int wrong = 0;
  for (size_t thread = 128; thread < 384; ++thread) {
    std::vector<uint32_t> x(source);
    for (uint32_t &value : x) value += static_cast<uint32_t>(thread);
    for (int round = 0; round < kRounds; ++round)
      for (size_t i = 0; i < kAlive; ++i) x[i] = mix(x[i], x[(i + kAlive - 1) % kAlive]);
    for (size_t i = 0; i < kAlive; ++i) wrong += found[thread * kAlive + i] != x[i];
  }
  CHECK(wrong == 0);
}

// The first kernel lets the second one start, then takes its time; the second waits for what the first writes.
__global__ void first_kernel(int *numbers, int value) {
  ptx::griddepcontrol_launch_dependents();
  const long long start = clock64();
  while (clock64() - start < 100000) {
  }
  numbers[blockIdx.x * blockDim.x + threadIdx.x] = value;
}
__global__ void second_kernel(const int *numbers, int *sum) {
  ptx::griddepcontrol_wait();
  atomicAdd(sum, numbers[(gridDim.x - 1 - blockIdx.x) * blockDim.x + threadIdx.x]);
}

void test_overlap() {
  constexpr int kBlocks = 16, kThreads = 128;
  DeviceArray<int> numbers(kBlocks * kThreads), sum(1);
  numbers.fill(0);
  sum.fill(0);
  cudaStream_t stream;
  check_cuda(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "stream");
  check_cuda(cudaDeviceSynchronize(), "fill");
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = 1;
  int expected = 0;
  for (int value = 1; value <= 20; ++value) {
    // The first kernel of the next round is launched without the attribute: it waits for all of this one.
    first_kernel<<<kBlocks, kThreads, 0, stream>>>(numbers.data(), value);
    cudaLaunchConfig_t config{};
    config.gridDim = kBlocks;
    config.blockDim = kThreads;
    config.stream = stream;
    config.attrs = &attribute;
    config.numAttrs = 1;
    check_cuda(cudaLaunchKernelEx(&config, second_kernel, static_cast<const int *>(numbers.data()), sum.data()),
               "second_kernel");
    expected += value * kBlocks * kThreads;
  }
  check_cuda(cudaStreamSynchronize(stream), "overlap");
  CHECK(sum.read()[0] == expected);
  cudaStreamDestroy(stream);
}

}  // namespace sieve::test

int main() {
  using namespace sieve::test;
  if (!is_hopper()) return 77;
  test_store_matrices();
  test_barriers();
  test_loads();
  test_stores();
  test_named_barriers();
  test_registers();
  test_overlap();
  return finish();
}
