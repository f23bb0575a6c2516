#include "abi/softmax.h"

#include <cmath>

namespace sieve::softmax {

namespace {

[[noreturn]] void invalid(const std::string &message) {
  throw Failure(SIEVE_STATUS_INVALID_ARGUMENT, message);
}

void require_no_scalar(const char *name, const sieve_scalar &scalar, const char *why) {
  if (scalar.device != nullptr || scalar.value != 0 || scalar.head_stride != 0)
    invalid(format("%s is given; allowed: zero, %s", name, why));
}

RowFactorView require_row_factor(const sieve_attention_problem &p, const Dimensions &d) {
  require_range("problem.row_factor", p.row_factor, SIEVE_ROW_FACTOR_NONE, SIEVE_ROW_FACTOR_VECTOR);
  const bool has_first = p.row_factor == SIEVE_ROW_FACTOR_SSMAX || p.row_factor == SIEVE_ROW_FACTOR_ASENTMAX;
  const bool has_second = p.row_factor == SIEVE_ROW_FACTOR_ASENTMAX;
  RowFactorView view;
  view.kind = static_cast<RowFactorKind>(p.row_factor);
  if (has_first)
    view.first = require_scalar("problem.row_first", p.row_first);
  else
    require_no_scalar("problem.row_first", p.row_first, "only the row factors ssmax and asentmax have it");
  if (has_second)
    view.second = require_scalar("problem.row_second", p.row_second);
  else
    require_no_scalar("problem.row_second", p.row_second, "only the row factor asentmax has it");
  if (p.row_factor == SIEVE_ROW_FACTOR_VECTOR) {
    require_row_values({"problem.row_factors", &p.row_factors}, d);
    view.factors = view_of(p.row_factors);
  } else {
    require_absent("problem.row_factors", p.row_factors, "only the row factor vector has it");
  }
  return view;
}

}  // namespace

float require_scale(const sieve_attention_problem &p, const Dimensions &d) {
  require_finite("problem.scale", p.scale);
  if (p.scale < 0)
    invalid(
        format("problem.scale is %g; allowed: larger than 0, or 0 for 1 / sqrt(head_dim): the largest score of a row "
               "is found before scaling",
               static_cast<double>(p.scale)));
  return p.scale == 0 ? 1.0f / std::sqrt(static_cast<float>(d.head_dim)) : p.scale;
}

void plan_scores(const sieve_attention_problem &p, const Dimensions &d, Plan &plan) {
  plan.scale = require_scale(p, d);
  plan.problem.row_factor = require_row_factor(p, d);
  if (p.alibi_slopes != nullptr)
    throw Failure(
        SIEVE_STATUS_UNSUPPORTED,
        "problem.alibi_slopes is given; allowed: NULL, no CUDA kernel of softmax attention has a distance bias");
}

void plan_tensors(const sieve_context &context, const sieve_tensor &query, const sieve_tensor &key,
                  const sieve_tensor &value, const Dimensions &d, Plan &plan) {
  plan.tensor_batch = static_cast<int32_t>(d.batch);
  plan.query_rows = d.queries;
  plan.key_rows = d.keys;
  plan.head_dim = static_cast<int32_t>(d.head_dim);
  plan.value_dim = static_cast<int32_t>(d.value_dim);
  plan.query = view_of(query);
  plan.key = view_of(key);
  plan.value = view_of(value);
  plan.multiprocessors = context.multiprocessors;
}

void plan_outputs(const sieve_tensor &output, const sieve_tensor &lse, int32_t type, const Dimensions &d, Plan &plan) {
  require_output({"output", &output}, type, d);
  plan.output = view_of(output);
  plan.output_type = output_type_of(output);
  if (lse.data == nullptr) return;
  require_row_values({"lse", &lse}, d);
  require_positive_strides({"lse", &lse}, "it is written");
  plan.lse = view_of(lse);
}

}  // namespace sieve::softmax
