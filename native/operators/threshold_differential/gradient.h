// Threshold differential attention as a policy of the sparse backward pipeline.
//
//   e_t = cosine_t - tau_i                 the forward's expression (weights.h), so that the same pairs survive
//   w   = (e_1)_+^p - lambda (e_2)_+^p     D_1 = p (e_1)_+^(p-1) G     D_2 = -lambda p (e_2)_+^(p-1) G
//
// G is a product with the upstream gradient as it is stored; the factor f_i of its row (output scale, gate, norm) is
// kept apart: what key sums take from a row is multiplied by it, what query sums take is not, their row is in the end.
//
//   sums of query row i:  s = sum_j D_t rk_j k_j       dq = f_i rq_i (s - q_i rq_i^2 (q_i . s))
//   sums of key j:        s = sum_i D_t f_i rq_i q_i   dk = rk_j (s - k_j rk_j^2 (k_j . s))       dv = sum_i w f_i dx_i
//
// The second term is the gradient of the normalization; a row whose norm is below its floor has none.
//
// fp16 has too few exponents for f_i and for w: f_i is stored divided by upstream_scale, its bound, and weights of a
// group of heads are multiplied by a power of two that keeps the largest possible one below 2^14.
#pragma once

#include <type_traits>

#include "device/sparse_gradient_sm80.h"
#include "operators/threshold_differential/backward_problem.h"
#include "operators/threshold_differential/inverse_norms.h"
#include "operators/threshold_differential/weights.h"

namespace sieve::threshold_differential {

struct GradientArguments {
  ScalarView beta;
  ScalarView lambda;
  float kappa;
  float power;
  Power power_kind;
  float upstream_scale;
  int32_t head_dim;
  SurvivorTiles survivor_tiles;
  TensorView gate_gradient;  // data = nullptr: not wanted from here
  float *row_sums;           // [blocks][kRowSums]; nullptr: not wanted
};

template <class ShapeType>
struct Gradient {
  using Shape = ShapeType;
  using Arguments = GradientArguments;
  static constexpr int kViews = Shape::kViews;
  static constexpr bool kScaled = kNarrowExponent<typename Shape::Element>;
  enum QueryScalar { kThreshold = 0, kQueryNorm = 1, kUpstream = 1 + kViews };
  static constexpr int kQueryScalars = 2 + kViews;
  static constexpr int kKeyScalars = kViews;  // inverse norms
  using QueryFloats = float[kQueryScalars];
  using KeyFloats = float[kKeyScalars];

  __device__ static int active(const Arguments &a, const ProblemView &problem, const Sequence &sequence, int head,
                               int query_tile, int key_tile) {
    return SurvivorTiles::bits(a.survivor_tiles.row(problem, sequence, head, query_tile), key_tile);
  }

  __device__ static float exceedance(float score, int view, const QueryFloats &q, const KeyFloats &k) {
    return fmaf(score * k[view], q[kQueryNorm + view], -q[kThreshold]);
  }

  __device__ static float tile(const Arguments &a, int head) { return a.lambda.at(head); }

  // Of the weights, for the group of heads that begins at `head`.
  __device__ static float key_scale(const Arguments &a, const ProblemView &problem, const Sequence &sequence,
                                    int head) {
    if constexpr (!kScaled) return 1.0f;
    float exponent = 100.0f;
    for (int i = head; i < head + problem.group; ++i) {
      const float least = fminf(threshold(a.beta.at(i), a.kappa, sequence.keys, a.head_dim), 0.0f);
      const float bound = a.power * log2f(1.0001f - least) + log2f(1.0f + fabsf(a.lambda.at(i)));
      exponent = fminf(exponent, floorf(14.0f - bound));
    }
    return exp2f(fmaxf(exponent, -100.0f));
  }

  template <class Function>
  __device__ static void with_power(const Arguments &a, Function &&function) {
    switch (a.power_kind) {
      case Power::kOne:
        return function(std::integral_constant<Power, Power::kOne>{});
      case Power::kTwo:
        return function(std::integral_constant<Power, Power::kTwo>{});
      case Power::kThree:
        return function(std::integral_constant<Power, Power::kThree>{});
      case Power::kGeneral:
        return function(std::integral_constant<Power, Power::kGeneral>{});
    }
  }

  // Derivative of the power at e >= 0; 0 at 0, where the pair does not survive.
  template <Power kPower>
  __device__ static float slope(float e, float power) {
    if constexpr (kPower == Power::kOne) return e > 0.0f ? 1.0f : e;
    if constexpr (kPower == Power::kTwo) return 2.0f * e;
    if constexpr (kPower == Power::kThree) return 3.0f * e * e;
    return e > 0.0f ? power * ptx::ex2_approx((power - 1.0f) * ptx::lg2_approx(e)) : e;
  }

  // 0 times what is not finite is 0 here: a pair without a weight has no gradient.
  __device__ static float times(float weight, float x) { return weight == 0.0f ? 0.0f : weight * x; }

  // fp16 would make an infinity of what only is large.
  __device__ static float narrow(float x) {
    if constexpr (!kScaled) return x;
    return x > 65504.0f ? 65504.0f : x < -65504.0f ? -65504.0f : x;
  }

  // Of a query row: for the gradients of its threshold, of lambda, and of its gate.
  struct Sums {
    static constexpr int kCount = kRowSums;
    float threshold = 0, lambda = 0, gate = 0;

    __device__ void reduce() {
      threshold = row_sum(threshold);
      lambda = row_sum(lambda);
      gate = row_sum(gate);
    }
    __device__ void write(float (&rows)[kRowSums][kSparseGradientTile], int row) const {
      rows[0][row] = threshold;
      rows[1][row] = lambda;
      rows[2][row] = gate;
    }
  };

  template <Power kPower, bool kOwnsKeys>
  __device__ static float weigh(const Arguments &a, const float &lambda, const float &key_scale,
                                const float (&excess)[kViews], float g, const QueryFloats &q, const KeyFloats &k,
                                float (&gradients)[kViews], Sums &sums) {
    float weight = 0.0f;
#pragma unroll
    for (int view = 0; view < kViews; ++view) {
      const float e = ptx::max_nan(excess[view], 0.0f);
      const float own = exceedance_power<kPower>(e, a.power);
      const float d = times(slope<kPower>(e, a.power), g);
      const float gradient = view == 0 ? d : -lambda * d;
      if constexpr (kOwnsKeys) {
        gradients[view] = narrow(times(gradient, q[kUpstream] * q[kQueryNorm + view]));
      } else {
        gradients[view] = narrow(times(gradient, k[view]));
        sums.threshold -= gradient;
        if (view == 1) sums.lambda -= times(own, g);
      }
      weight = view == 0 ? own : fmaf(-lambda, own, weight);
    }
    if constexpr (kOwnsKeys)
      weight = narrow(times(weight, kScaled ? q[kUpstream] * key_scale : q[kUpstream]));
    else
      sums.gate += times(weight, g);
    return weight;
  }

  template <bool kOfQueries, int kCount, int kColumns>
  __device__ static void poison(float (&scalars)[kCount][kColumns], int column) {
#pragma unroll
    for (int view = 0; view < kViews; ++view)
      scalars[kOfQueries ? kQueryNorm + view : view][column] = __int_as_float(0x7fc00000);
  }

  struct Finish {
    float scale;
    float projection;  // this times the row is taken from its sum first
  };

  __device__ static Finish finish(float inverse_norm, float factor, float dot) {
    const bool projects = dot != 0.0f && !(inverse_norm >= 1.0f / kNormFloor);
    return {factor * inverse_norm, projects ? inverse_norm * (inverse_norm * dot) : 0.0f};
  }
  __device__ static Finish finish_query(const Arguments &a, int view, const QueryFloats &q, float dot) {
    return finish(q[kQueryNorm + view], q[kUpstream] * a.upstream_scale, dot);
  }
  __device__ static Finish finish_key(const Arguments &a, int view, const KeyFloats &k, float dot) {
    return finish(k[view], a.upstream_scale, dot);
  }
  __device__ static float finish_value(const Arguments &a, float key_scale) {
    return a.upstream_scale / key_scale;
  }

  // Gradients of gates without a norm; what this block adds to those of beta, kappa and lambda.
  template <int kRows>
  __device__ static void close_rows(const Arguments &a, const ProblemView &problem, const SparseGradientPlace &place,
                                    const float (&scalars)[kQueryScalars][kRows],
                                    const float (&sums)[kRowSums][kRows]) {
    static_assert(kRows == 64, "two warps, one row a thread");
    __shared__ float partial[2][kRowSums];
    const int thread = static_cast<int>(threadIdx.x);
    if (thread < kRows) {
      float parameters[kRowSums] = {};
      if (thread < place.rows) {
        const int row = place.first_row + thread;
        const float factor = scalars[kUpstream][thread] * a.upstream_scale;
        if (a.gate_gradient.data != nullptr) {
          const int64_t tensor_row = place.sequence.query_start + static_cast<int64_t>(row);
          const EpilogueView &epilogue = problem.epilogue;
          const float logit =
              epilogue.gate[place.sequence.batch * epilogue.gate_batch_stride + place.head * epilogue.gate_head_stride +
                            tensor_row * epilogue.gate_row_stride];
          *static_cast<float *>(a.gate_gradient.row(place.sequence.batch, place.head, tensor_row, 4)) =
              times(sums[2][thread], factor / (1.0f + expf(logit)));
        }
        const KeyRange range = place.sequence.visible(problem, row);
        const float unit = threshold(1.0f, a.kappa, range.end - range.first, a.head_dim);
        const float of_threshold = times(sums[0][thread], factor);
        parameters[0] = of_threshold * unit;
        parameters[1] =
            unit > 0.0f ? of_threshold * (-a.beta.at(place.head) / (static_cast<float>(a.head_dim) * a.kappa * unit))
                        : 0.0f;
        parameters[2] = times(sums[1][thread], factor);
      }
#pragma unroll
      for (int i = 0; i < kRowSums; ++i) {
#pragma unroll
        for (int step = 16; step > 0; step /= 2) parameters[i] += __shfl_xor_sync(0xffffffffu, parameters[i], step);
        if (thread % 32 == 0) partial[thread / 32][i] = parameters[i];
      }
    }
    __syncthreads();
    if (thread < kRowSums && a.row_sums != nullptr)
      a.row_sums[static_cast<int64_t>(blockIdx.x) * kRowSums + thread] = partial[0][thread] + partial[1][thread];
  }

  __device__ static void no_rows(const Arguments &a, int block) {
    if (static_cast<int>(threadIdx.x) < kRowSums && a.row_sums != nullptr)
      a.row_sums[static_cast<int64_t>(block) * kRowSums + threadIdx.x] = 0.0f;
  }
};

}  // namespace sieve::threshold_differential
