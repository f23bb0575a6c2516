// Every wgmma wrapper against the host: both elements, every N, A from shared memory and from registers, both layouts
// of B, sums that begin with the product and sums that go on. Small integers make all results exact.
#include "device/ptx/cp_async.h"
#include "device/ptx/tma.h"
#include "device/ptx/wgmma.h"
#include "device/shared_tile.h"
#include "tests/native/support/check.h"
#include "tests/native/support/device_tensor.h"
#include "tests/native/support/hopper_only.h"

namespace sieve::test {

constexpr int kRows = 64, kDepth = 64, kSteps = kDepth / 16;
constexpr float kStart = 5;  // where sums that go on begin

// Rows of 64 elements to the swizzled layout.
template <int kCount>
__device__ void to_tile(uint8_t *tile, const uint16_t *source, int stride) {
  using Tile = SharedTile<kCount, 64>;
  for (int i = static_cast<int>(threadIdx.x); i < kCount * 8; i += static_cast<int>(blockDim.x))
    *reinterpret_cast<uint4 *>(tile + Tile::offset(i / 8, i % 8)) =
        *reinterpret_cast<const uint4 *>(source + i / 8 * stride + i % 8 * 8);
}

// Writes the accumulators of this thread as wgmma.h describes them.
template <int kN>
__device__ void write(float *target, const float (&d)[kN / 2]) {
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int i = 0; i < kN / 2; ++i)
    target[(16 * warp + lane / 4 + i / 2 % 2 * 8) * kN + i / 4 * 8 + lane % 4 * 2 + i % 2] = d[i];
}

// a = [64 rows][64]; b = [kN][64] or, transposed, [64][channels of whole panels]. fresh = a b, begun anew over garbage,
// with A in shared memory; continued = kStart + a b with A in registers. Where registers suffice, both products are
// under way at a time.
template <typename Element, int kN, bool kTransposeB>
__global__ void __launch_bounds__(128, 1)
    warpgroup_product(const uint16_t *a, const uint16_t *b, float *fresh, float *continued) {
  constexpr int kPanels = (kN + 63) / 64;
  constexpr bool kTogether = kN <= 96;
  constexpr int kBBytes = kTransposeB ? kPanels * kDepth * 128 : kN * 128;
  __shared__ __align__(1024) uint8_t a_tile[kRows * 128], b_tile[kBBytes];
  to_tile<kRows>(a_tile, a, kDepth);
  if constexpr (kTransposeB)
    for (int panel = 0; panel < kPanels; ++panel)
      to_tile<kDepth>(b_tile + panel * kDepth * 128, b + panel * 64, kPanels * 64);
  else
    to_tile<kN>(b_tile, b, kDepth);
  ptx::fence_proxy_async();
  __syncthreads();

  const uint64_t a_descriptor = ptx::matrix_descriptor(ptx::shared_address(a_tile), 0);
  const uint64_t b_descriptor = ptx::matrix_descriptor(ptx::shared_address(b_tile), kTransposeB ? kDepth * 128 : 0);
  constexpr int kBStep = (kTransposeB ? 16 * 128 : 32) >> 4;
  float d[kN / 2];
#pragma unroll
  for (int i = 0; i < kN / 2; ++i) d[i] = 1e6f;

  ptx::wgmma_fence();
#pragma unroll
  for (int k = 0; k < kSteps; ++k)
    ptx::Wgmma<Element, kN, kTransposeB>::shared(d, a_descriptor + static_cast<uint64_t>(k * 32 >> 4),
                                                 b_descriptor + static_cast<uint64_t>(k * kBStep), k > 0);
  ptx::wgmma_commit_group();
  if constexpr (!kTogether) {
    ptx::wgmma_wait_group<0>();
    write<kN>(fresh, d);
  }

  uint32_t rows[kSteps][4];
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const auto *words = reinterpret_cast<const uint32_t *>(a) + (16 * warp + lane / 4) * (kDepth / 2) + lane % 4;
#pragma unroll
  for (int k = 0; k < kSteps; ++k)
#pragma unroll
    for (int i = 0; i < 4; ++i) rows[k][i] = words[i % 2 * 8 * (kDepth / 2) + k * 8 + i / 2 * 4];
  float e[kN / 2];
#pragma unroll
  for (int i = 0; i < kN / 2; ++i) e[i] = kStart;
  ptx::wgmma_fence();
#pragma unroll
  for (int k = 0; k < kSteps; ++k)
    ptx::Wgmma<Element, kN, kTransposeB>::registers(e, rows[k], b_descriptor + static_cast<uint64_t>(k * kBStep), 1);
  ptx::wgmma_commit_group();
  if constexpr (kTogether) {
    ptx::wgmma_wait_group<1>();
    write<kN>(fresh, d);
  }
  ptx::wgmma_wait_group<0>();
  write<kN>(continued, e);
}

template <typename Element, int kN, bool kTransposeB>
void test() {
  constexpr int32_t kDtype = kNarrowExponent<Element> ? SIEVE_DTYPE_FLOAT16 : SIEVE_DTYPE_BFLOAT16;
  constexpr size_t kWidth = (kN + 63) / 64 * 64, kColumns = kN;
  const auto number = [](size_t i, size_t prime, int range) {
    return static_cast<float>(static_cast<int>(i * prime % 1009) % (2 * range + 1) - range);
  };
  std::vector<float> a(kRows * kDepth), b(kTransposeB ? kDepth * kWidth : kColumns * kDepth);
  for (size_t i = 0; i < a.size(); ++i) a[i] = number(i, 613, 4);
  for (size_t i = 0; i < b.size(); ++i) b[i] = number(i, 457, 3);
  const auto upload = [](const std::vector<float> &values, DeviceArray<uint16_t> &array) {
    std::vector<uint16_t> bits;
    for (const float x : values) bits.push_back(to_bits(x, kDtype));
    array.write(bits);
  };
  DeviceArray<uint16_t> da(a.size()), db(b.size());
  DeviceArray<float> fresh(kRows * kColumns), continued(kRows * kColumns);
  upload(a, da);
  upload(b, db);
  fresh.fill(0xff);
  continued.fill(0xff);
  warpgroup_product<Element, kN, kTransposeB><<<1, 128>>>(da.data(), db.data(), fresh.data(), continued.data());
  check_cuda(cudaGetLastError(), "warpgroup_product");
  check_cuda(cudaDeviceSynchronize(), "warpgroup_product");
  const std::vector<float> f = fresh.read(), c = continued.read();
  int wrong_fresh = 0, wrong_continued = 0;
  for (size_t row = 0; row < kRows; ++row)
    for (size_t column = 0; column < kColumns; ++column) {
      float sum = 0;
      for (size_t k = 0; k < kDepth; ++k)
        sum += a[row * kDepth + k] * (kTransposeB ? b[k * kWidth + column] : b[column * kDepth + k]);
      wrong_fresh += f[row * kColumns + column] != sum;
      wrong_continued += c[row * kColumns + column] != sum + kStart;
    }
  if (wrong_fresh + wrong_continued > 0)
    std::printf("%s N %d%s: wrong elements: %d with A in shared memory, %d with A in registers\n",
                kDtype == SIEVE_DTYPE_BFLOAT16 ? "bf16" : "fp16", kN, kTransposeB ? ", transposed B" : "", wrong_fresh,
                wrong_continued);
  CHECK(wrong_fresh == 0 && wrong_continued == 0);
}

template <int kN>
void test_width() {
  test<__nv_bfloat16, kN, false>();
  test<__nv_bfloat16, kN, true>();
  test<__half, kN, false>();
  test<__half, kN, true>();
}

}  // namespace sieve::test

int main() {
  using namespace sieve::test;
  if (!is_hopper()) return 77;
  test_width<32>();
  test_width<64>();
  test_width<80>();
  test_width<96>();
  test_width<128>();
  test_width<192>();
  test_width<256>();
  return finish();
}
