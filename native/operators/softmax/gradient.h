// Softmax attention as a policy of the backward pipelines.
//
//   p_ij = exp2(c n_i s_ij - shift_i),   dp_ij = do_i . v_j,   ds_ij = p_ij (dp_ij - delta_i),   c = scale / ln 2
#pragma once

#include "device/ptx/math.h"

namespace sieve::softmax {

struct GradientArguments {
  float scale_log2;  // c
};

template <class ShapeType>
struct Gradient {
  using Shape = ShapeType;
  using Arguments = GradientArguments;

  __device__ static float factor(const Arguments &a) { return a.scale_log2; }
  __device__ static float weight(float score, float factor, float shift) {
    return ptx::ex2_approx(fmaf(score, factor, -shift));
  }
  __device__ static float gradient(float weight, float dweight, float delta) { return weight * (dweight - delta); }
};

}  // namespace sieve::softmax
