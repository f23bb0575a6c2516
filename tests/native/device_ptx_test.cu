// The wrappers of device/ptx that every architecture has do what their comments say, and the tile layout round-trips:
// known tiles through cp.async, ldmatrix, mma. Small integers are exact in every type, so the comparisons are exact.
#include <algorithm>

#include "device/element.h"
#include "device/ptx/mma_integer.h"
#include "device/ptx/reduce.h"
#include "device/ptx/store_shared.h"
#include "device/warp_product.h"
#include "tests/native/support/check.h"
#include "tests/native/support/device_tensor.h"

namespace sieve::test {

// scores = q k^T and output = scores v for one warp: 32 x 64 queries, 64 x 64 keys and values, read with `valid` rows.
template <typename Element>
__global__ void products(const uint16_t *q, const uint16_t *k, const uint16_t *v, int valid, float *scores,
                         float *output) {
  using Rows = SharedTile<32, 64>;
  using Keys = SharedTile<64, 64>;
  extern __shared__ __align__(1024) uint8_t shared[];
  const uint32_t base = ptx::shared_address(shared);
  const uint32_t key_tile = base + Rows::kBytes, value_tile = key_tile + Keys::kBytes;
  Rows::load<64>(base, Rows::thread_source<64>(q, 64), 64, 32);
  Keys::load<64>(key_tile, Keys::thread_source<64>(k, 64), 64, valid);
  Keys::load<64>(value_tile, Keys::thread_source<64>(v, 64), 64, valid);
  ptx::cp_async_commit_group();
  ptx::cp_async_wait_group<0>();
  __syncthreads();
  if (threadIdx.x >= 32) return;
  RowsInRegisters<2, 32, 64> rows;
  RowsInShared<2, 32, 64> same_rows;
  rows.load(base, 0);
  same_rows.load(base, 0);
  Accumulators<2, 64> out = {};
  for (int first = 0; first < 64; first += 32) {
    Accumulators<2, 32> s;
    if (first == 0)
      score_product<Element, 2, 32, 64, 64>(s, rows, key_tile, first);
    else
      score_product<Element, 2, 32, 64, 64>(s, same_rows, key_tile, first);
    value_product<Element, false, 2, 32, 64, 64>(out, s, value_tile, first);
    for (int m = 0; m < 2; ++m)
      for (int n = 0; n < 4; ++n)
        for (int e = 0; e < 4; ++e)
          scores[(m * 16 + lane_index() / 4 + e / 2 * 8) * 64 + first + n * 8 + 2 * (lane_index() & 3) + e % 2] =
              s[m][n][e];
  }
  for (int m = 0; m < 2; ++m)
    for (int n = 0; n < 8; ++n)
      for (int e = 0; e < 4; ++e)
        output[(m * 16 + lane_index() / 4 + e / 2 * 8) * 64 + n * 8 + 2 * (lane_index() & 3) + e % 2] = out[m][n][e];
}

__global__ void scalars(float *result) {
  const float nan = __int_as_float(0x7fc00000);
  result[0] = ptx::max_nan(1.0f, 2.0f);
  result[1] = ptx::max_nan(nan, 2.0f);
  result[2] = ptx::max_nan(2.0f, nan);
  result[3] = ptx::ex2_approx(-3.0f);
  result[4] = ptx::lg2_approx(8.0f);
  result[5] = unpack<__nv_bfloat16>(ptx::cvt_x2<__nv_bfloat16>(1.5f, -2.0f)).x;
  result[6] = unpack<__nv_bfloat16>(ptx::cvt_x2<__nv_bfloat16>(1.5f, -2.0f)).y;
  result[7] = unpack<__half>(ptx::cvt_x2<__half>(1.5f, -2.0f)).x;
  result[8] = unpack<__half>(ptx::cvt_x2<__half>(1.5f, -2.0f)).y;
}

void test_scalars() {
  DeviceArray<float> result(9);
  scalars<<<1, 1>>>(result.data());
  const std::vector<float> r = result.read();
  CHECK(r[0] == 2.0f);
  CHECK(std::isnan(r[1]) && std::isnan(r[2]));
  CHECK(r[3] == 0.125f);
  CHECK(r[4] == 3.0f);
  CHECK(r[5] == 1.5f && r[6] == -2.0f && r[7] == 1.5f && r[8] == -2.0f);
}

// ex2 and lg2 over their range, cvt of what lies between two elements.
__global__ void approximations(const float *x, float *power, float *logarithm, uint32_t *bfloat16, uint32_t *half) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  power[i] = ptx::ex2_approx(x[i]);
  logarithm[i] = ptx::lg2_approx(fabsf(x[i]));
  bfloat16[i] = ptx::cvt_x2<__nv_bfloat16>(x[i], -x[i]);
  half[i] = ptx::cvt_x2<__half>(x[i], -x[i]);
}

void test_approximations() {
  constexpr size_t kCount = 1 << 16;
  std::vector<float> x(kCount);
  for (size_t i = 0; i < kCount; ++i) x[i] = (static_cast<float>(i) + 0.37f) * 0.003f - 100.0f;
  DeviceArray<float> dx(kCount), power(kCount), logarithm(kCount);
  DeviceArray<uint32_t> bfloat16(kCount), half(kCount);
  dx.write(x);
  approximations<<<kCount / 256, 256>>>(dx.data(), power.data(), logarithm.data(), bfloat16.data(), half.data());
  const std::vector<float> p = power.read(), l = logarithm.read();
  const std::vector<uint32_t> b = bfloat16.read(), h = half.read();
  const auto pair = [](float value, int32_t dtype) {
    return static_cast<uint32_t>(to_bits(value, dtype)) | static_cast<uint32_t>(to_bits(-value, dtype)) << 16;
  };
  double power_error = 0, logarithm_error = 0;
  int wrong = 0;
  for (size_t i = 0; i < kCount; ++i) {
    const double value = static_cast<double>(x[i]), e = std::exp2(value), g = std::log2(std::fabs(value));
    power_error = std::max(power_error, std::fabs(static_cast<double>(p[i]) - e) / e);
    logarithm_error = std::max(logarithm_error, std::fabs(static_cast<double>(l[i]) - g) / std::max(std::fabs(g), 1.0));
    wrong += b[i] != pair(x[i], SIEVE_DTYPE_BFLOAT16);
    wrong += h[i] != pair(x[i], SIEVE_DTYPE_FLOAT16);
  }
  std::printf("ex2 error %.1e, lg2 error %.1e\n", power_error, logarithm_error);
  CHECK(power_error <= 0x1p-21 && logarithm_error <= 0x1p-21);
  CHECK(wrong == 0);
}

// What may not be moved or kept gives the same values.
__global__ void read_anew(int *result) {
  const int thread = ptx::mov_here(static_cast<int>(threadIdx.x));
  result[ptx::ctaid_x() * static_cast<int>(blockDim.x) + thread] = ptx::mov_here(thread * 3) + 1000 * ptx::ctaid_x();
}

void test_read_anew() {
  DeviceArray<int> result(7 * 64);
  result.fill(0xff);
  read_anew<<<7, 64>>>(result.data());
  const std::vector<int> r = result.read();
  for (int i = 0; i < 7 * 64; ++i) CHECK(r[static_cast<size_t>(i)] == i % 64 * 3 + 1000 * (i / 64));
}

// Row r, column c of the 32 rows of 8 elements holds 8 r + c; lane l gives the address of row row_of_lane(l).
__device__ __host__ constexpr int row_of_lane(int lane) {
  return (lane * 5 + 3) % 32;
}

__global__ void load_matrices(uint32_t *plain, uint32_t *transposed) {
  __shared__ __align__(16) uint16_t rows[32 * 8];
  const int lane = static_cast<int>(threadIdx.x);
  for (int word = 0; word < 4; ++word) {
    const uint32_t low = static_cast<uint32_t>(8 * lane + 2 * word);
    ptx::store_shared(ptx::shared_address(&rows[8 * lane + 2 * word]), low | (low + 1) << 16);
  }
  __syncthreads();
  uint32_t d[4], t[4];
  const uint32_t address = ptx::shared_address(&rows[8 * row_of_lane(lane)]);
  ptx::ldmatrix_x4(d, address);
  ptx::ldmatrix_x4_trans(t, address);
  for (int i = 0; i < 4; ++i) {
    plain[4 * lane + i] = d[i];
    transposed[4 * lane + i] = t[i];
  }
}

void test_load_matrices() {
  DeviceArray<uint32_t> plain(128), transposed(128);
  load_matrices<<<1, 32>>>(plain.data(), transposed.data());
  const std::vector<uint32_t> d = plain.read(), t = transposed.read();
  int wrong = 0;
  for (int lane = 0; lane < 32; ++lane)
    for (int i = 0; i < 4; ++i) {
      const auto element = [&](int row, int column) {
        return static_cast<uint32_t>(8 * row_of_lane(8 * i + row) + column);
      };
      const int row = lane / 4, column = lane % 4 * 2;
      const size_t at = static_cast<size_t>(4 * lane + i);
      wrong += d[at] != (element(row, column) | element(row, column + 1) << 16);
      wrong += t[at] != (element(column, row) | element(column + 1, row) << 16);
    }
  CHECK(wrong == 0);
}

// d += a b, straight from the fragments that the headers describe: words of 2 or 4 elements, a = [16][8] words,
// b = [8 columns][8] words.
struct ProductOfBfloat16 {
  __device__ static void add(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    ptx::mma_m16n8k16<__nv_bfloat16>(d, a, b0, b1);
  }
};
struct ProductOfHalf {
  __device__ static void add(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    ptx::mma_m16n8k16<__half>(d, a, b0, b1);
  }
};
struct ProductOfBytes {
  __device__ static void add(int32_t (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    ptx::mma_m16n8k32(d, a, b0, b1);
  }
};

template <class Product, typename Sum>
__global__ void warp_product(const uint32_t *a, const uint32_t *b, Sum *sums) {
  const int group = lane_index() / 4, t = lane_index() % 4;
  const uint32_t rows[4] = {a[group * 8 + t], a[(group + 8) * 8 + t], a[group * 8 + t + 4], a[(group + 8) * 8 + t + 4]};
  Sum d[4];
  const auto place = [&](int e) { return (group + e / 2 * 8) * 8 + 2 * t + e % 2; };
  for (int e = 0; e < 4; ++e) d[e] = sums[place(e)];
  Product::add(d, rows, b[group * 8 + t], b[group * 8 + t + 4]);
  for (int e = 0; e < 4; ++e) sums[place(e)] = d[e];
}

// `Element` as the host keeps it, and the number that it stands for.
template <class Product, typename Sum, typename Element, class Make, class Number>
void test_warp_product(const Make &make, const Number &number) {
  constexpr int kDepth = 32 / static_cast<int>(sizeof(Element));
  std::vector<Element> a(16 * kDepth), b(8 * kDepth);
  for (size_t i = 0; i < a.size(); ++i) a[i] = make(static_cast<int>(i * 37 % 256));
  for (size_t i = 0; i < b.size(); ++i) b[i] = make(static_cast<int>(i * 101 % 256));
  DeviceArray<Element> da(a.size()), db(b.size());
  DeviceArray<Sum> sums(16 * 8);
  std::vector<Sum> start(16 * 8);
  for (size_t i = 0; i < start.size(); ++i) start[i] = static_cast<Sum>(i) * 10;
  da.write(a);
  db.write(b);
  sums.write(start);
  warp_product<Product, Sum><<<1, 32>>>(reinterpret_cast<const uint32_t *>(da.data()),
                                        reinterpret_cast<const uint32_t *>(db.data()), sums.data());
  const std::vector<Sum> found = sums.read();
  int wrong = 0;
  for (size_t row = 0; row < 16; ++row)
    for (size_t column = 0; column < 8; ++column) {
      Sum expected = start[row * 8 + column];
      for (size_t k = 0; k < kDepth; ++k) expected += number(a[row * kDepth + k]) * number(b[column * kDepth + k]);
      wrong += found[row * 8 + column] != expected;
    }
  CHECK(wrong == 0);
}

void test_warp_products() {
  const auto make = [](int32_t dtype) { return [=](int i) { return to_bits(static_cast<float>(i % 15 - 7), dtype); }; };
  const auto number = [](int32_t dtype) {
    return [=](uint16_t bits) { return static_cast<float>(from_bits(bits, dtype)); };
  };
  test_warp_product<ProductOfBfloat16, float, uint16_t>(make(SIEVE_DTYPE_BFLOAT16), number(SIEVE_DTYPE_BFLOAT16));
  test_warp_product<ProductOfHalf, float, uint16_t>(make(SIEVE_DTYPE_FLOAT16), number(SIEVE_DTYPE_FLOAT16));
  test_warp_product<ProductOfBytes, int32_t, int8_t>([](int i) { return static_cast<int8_t>(i - 128); },
                                                     [](int8_t x) { return static_cast<int32_t>(x); });
}

// Thread t copies 16, 8 and 4 bytes as three groups, of them sizes[t] bytes (all or none of the shorter ones), and
// looks at each as soon as it may. Copies of nothing have an address that nobody may read.
__global__ void copies(const uint32_t *source, const int *sizes, uint32_t *result) {
  __shared__ __align__(16) uint32_t target[32 * 8];
  const int thread = static_cast<int>(threadIdx.x), bytes = sizes[thread];
  uint32_t *mine = target + 8 * thread;
  for (int i = 0; i < 8; ++i) mine[i] = 0xffffffffu;
  __syncthreads();
  const uint32_t address = ptx::shared_address(mine);
  const uint32_t *from = bytes == 0 ? source + (int64_t{1} << 36) : source + 8 * thread;
  ptx::cp_async_16(address, from, bytes);
  ptx::cp_async_commit_group();
  ptx::cp_async_8(address + 16, from + 4, bytes < 8 ? 0 : 8);
  ptx::cp_async_commit_group();
  ptx::cp_async_4(address + 24, from + 6, bytes < 4 ? 0 : 4);
  ptx::cp_async_commit_group();
  uint32_t *out = result + 8 * thread;
  ptx::cp_async_wait_group<2>();
  for (int i = 0; i < 4; ++i) out[i] = mine[i];
  ptx::cp_async_wait_group<1>();
  for (int i = 4; i < 6; ++i) out[i] = mine[i];
  ptx::cp_async_wait_group<0>();
  for (int i = 6; i < 8; ++i) out[i] = mine[i];
}

void test_copies() {
  std::vector<uint32_t> source(32 * 8);
  std::vector<int> sizes(32);
  for (size_t i = 0; i < source.size(); ++i) source[i] = 0x01020304u * static_cast<uint32_t>(i % 60 + 1);
  for (int i = 0; i < 32; ++i) sizes[static_cast<size_t>(i)] = i * 7 % 17;
  DeviceArray<uint32_t> d(source.size()), result(source.size());
  DeviceArray<int> dsizes(32);
  d.write(source);
  dsizes.write(sizes);
  copies<<<1, 32>>>(d.data(), dsizes.data(), result.data());
  const std::vector<uint32_t> found = result.read();
  int wrong = 0;
  for (size_t t = 0; t < 32; ++t) {
    const int bytes = sizes[t];
    for (size_t word = 0; word < 8; ++word) {
      const int there = word < 4   ? std::clamp(bytes - 4 * static_cast<int>(word), 0, 4)
                        : word < 6 ? (bytes < 8 ? 0 : 4)
                                   : (bytes < 4 ? 0 : 4);
      const uint32_t mask = there == 4 ? 0xffffffffu : (1u << 8 * there) - 1;
      wrong += found[t * 8 + word] != (word == 7 ? 0xffffffffu : source[t * 8 + word] & mask);
    }
  }
  CHECK(wrong == 0);
}

__global__ void sums(float *one, float *four) {
  ptx::red_add(one + threadIdx.x % 32, static_cast<float>(threadIdx.x / 32 + 1));
  const float d[4] = {1, 2, 3, static_cast<float>(blockIdx.x % 2)};
  ptx::red_add_v4(four + 4 * (threadIdx.x % 8), d);
}

void test_sums() {
  constexpr int kBlocks = 200;
  DeviceArray<float> one(32), four(32);
  one.fill(0);
  four.fill(0);
  sums<<<kBlocks, 128>>>(one.data(), four.data());
  const std::vector<float> a = one.read(), b = four.read();
  for (size_t i = 0; i < 32; ++i) {
    CHECK(a[i] == kBlocks * (1 + 2 + 3 + 4));
    CHECK(b[i] == (i % 4 == 3 ? kBlocks / 2 * 16 : kBlocks * 16 * static_cast<float>(i % 4 + 1)));
  }
}

// Blocks take turns in adding to numbers that the block before wrote: what a block kept in its own cache is stale.
__global__ void turns(int32_t *turn, int *numbers, int count) {
  const int blocks = static_cast<int>(gridDim.x), thread = static_cast<int>(threadIdx.x);
  for (int mine = static_cast<int>(blockIdx.x); mine < count; mine += blocks) {
    if (thread == 0)
      while (ptx::load_acquire(turn) != mine) {
      }
    __syncthreads();
    numbers[thread] += mine;
    __syncthreads();
    if (thread == 0) ptx::store_release(turn, mine + 1);
  }
}

void test_turns() {
  constexpr int kTurns = 4000;
  DeviceArray<int32_t> turn(1);
  DeviceArray<int> numbers(128);
  turn.fill(0);
  numbers.fill(0);
  turns<<<16, 128>>>(turn.data(), numbers.data(), kTurns);
  check_cuda(cudaDeviceSynchronize(), "turns");
  CHECK(turn.read()[0] == kTurns);
  for (const int x : numbers.read()) CHECK(x == kTurns * (kTurns - 1) / 2);
}

template <typename Element>
void test_products(int32_t dtype, int valid) {
  std::vector<uint16_t> q(32 * 64), k(64 * 64), v(64 * 64);
  for (size_t i = 0; i < q.size(); ++i) q[i] = to_bits(static_cast<float>(i * 7 % 5) - 2, dtype);
  for (size_t i = 0; i < k.size(); ++i) k[i] = to_bits(static_cast<float>(i * 11 % 3) - 1, dtype);
  for (size_t i = 0; i < v.size(); ++i) v[i] = to_bits(static_cast<float>(i * 13 % 7) - 3, dtype);
  DeviceArray<uint16_t> dq(q.size()), dk(k.size()), dv(v.size());
  DeviceArray<float> scores(32 * 64), output(32 * 64);
  dq.write(q);
  dk.write(k);
  dv.write(v);
  products<Element><<<1, 64, 20480>>>(dq.data(), dk.data(), dv.data(), valid, scores.data(), output.data());
  check_cuda(cudaDeviceSynchronize(), "products");
  const std::vector<float> s = scores.read(), o = output.read();
  int wrong = 0;
  for (size_t i = 0; i < 32; ++i) {
    double expected[64] = {};
    for (size_t d = 0; d < 64; ++d) {
      double out = 0;
      for (size_t j = 0; j < static_cast<size_t>(valid); ++j) {
        double dot = 0;
        for (size_t c = 0; c < 64; ++c) dot += from_bits(q[i * 64 + c], dtype) * from_bits(k[j * 64 + c], dtype);
        expected[j] = dot;
        out += dot * from_bits(v[j * 64 + d], dtype);
      }
      wrong += out != static_cast<double>(o[i * 64 + d]);
    }
    for (size_t j = 0; j < 64; ++j) wrong += expected[j] != static_cast<double>(s[i * 64 + j]);
  }
  CHECK(wrong == 0);
}

}  // namespace sieve::test

int main() {
  int32_t count = 0;
  if (sieve_device_count(&count) != SIEVE_STATUS_OK) {
    std::printf("skipped: %s\n", sieve_last_message());
    return 77;
  }
  sieve::test::test_scalars();
  sieve::test::test_approximations();
  sieve::test::test_read_anew();
  sieve::test::test_load_matrices();
  sieve::test::test_warp_products();
  sieve::test::test_copies();
  sieve::test::test_sums();
  sieve::test::test_turns();
  for (const int valid : {64, 33, 1}) {
    sieve::test::test_products<__nv_bfloat16>(SIEVE_DTYPE_BFLOAT16, valid);
    sieve::test::test_products<__half>(SIEVE_DTYPE_FLOAT16, valid);
  }
  return sieve::test::finish();
}
