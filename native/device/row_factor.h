// The factor by which the scores of a query row are multiplied, and its derivatives. One expression for forward,
// backward and decode: only so do they agree.
//
//   ssmax      n = first ln(max(visible keys, 1))
//   asentmax   n = 1 + first ln(position + 2)^second,   position = max(row + offset, 0)
//   vector     n = factors[batch, head, row]
#pragma once

#include "device/ptx/math.h"
#include "device/sequence.h"

namespace sieve {

// ln(position + 2): at least ln 2.
__device__ inline float log_position(const Sequence &sequence, int row) {
  return logf(static_cast<float>(max(row + sequence.offset, 0)) + 2.0f);
}

__device__ inline float log_visible(const ProblemView &problem, const Sequence &sequence, int row) {
  const KeyRange range = sequence.visible(problem, row);
  return logf(static_cast<float>(max(range.end - range.first, 1)));
}

// base ^ exponent for base > 0.
__device__ inline float positive_power(float base, float exponent) {
  return ptx::ex2_approx(exponent * log2f(base));
}

// `row` counts in the sequence and lies inside it.
__device__ inline float row_factor(const ProblemView &problem, const Sequence &sequence, int head, int row) {
  const RowFactorView &factor = problem.row_factor;
  switch (factor.kind) {
    case RowFactorKind::kSsmax:
      return factor.first.at(head) * log_visible(problem, sequence, row);
    case RowFactorKind::kAsentmax:
      return fmaf(factor.first.at(head), positive_power(log_position(sequence, row), factor.second.at(head)), 1.0f);
    case RowFactorKind::kVector:
      return *static_cast<const float *>(
          factor.factors.row(sequence.batch, head, static_cast<int64_t>(sequence.query_start) + row, 4));
    default:
      return 1.0f;
  }
}

// Derivatives of the factor by `first` and `second`; 0 where the kind has no such parameter.
struct RowFactorSlopes {
  float first;
  float second;
};

__device__ inline RowFactorSlopes row_factor_slopes(const ProblemView &problem, const Sequence &sequence, int head,
                                                    int row) {
  const RowFactorView &factor = problem.row_factor;
  if (factor.kind == RowFactorKind::kSsmax) return {log_visible(problem, sequence, row), 0.0f};
  if (factor.kind != RowFactorKind::kAsentmax) return {0.0f, 0.0f};
  const float logarithm = log_position(sequence, row);
  const float power = positive_power(logarithm, factor.second.at(head));
  return {power, factor.first.at(head) * power * logf(logarithm)};
}

}  // namespace sieve
