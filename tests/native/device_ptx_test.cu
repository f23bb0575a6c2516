// Each PTX wrapper does what its comment says, and the tile layout round-trips: known tiles through cp.async, ldmatrix,
// mma.
#include "device/element.h"
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
  result[9] = static_cast<float>(ptx::ctaid_x());
}

void test_scalars() {
  DeviceArray<float> result(10);
  scalars<<<1, 1>>>(result.data());
  const std::vector<float> r = result.read();
  CHECK(r[0] == 2.0f);
  CHECK(std::isnan(r[1]) && std::isnan(r[2]));
  CHECK(r[3] == 0.125f);
  CHECK(r[4] == 3.0f);
  CHECK(r[5] == 1.5f && r[6] == -2.0f && r[7] == 1.5f && r[8] == -2.0f);
  CHECK(r[9] == 0.0f);
}

// Small integers are exact in every type, so the comparison is exact.
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
  for (const int valid : {64, 33, 1}) {
    sieve::test::test_products<__nv_bfloat16>(SIEVE_DTYPE_BFLOAT16, valid);
    sieve::test::test_products<__half>(SIEVE_DTYPE_FLOAT16, valid);
  }
  return sieve::test::finish();
}
