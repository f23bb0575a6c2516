// Softmax attention between abi/ and its kernels: the plans of its calls, and the lists of kernels.
#pragma once

#include "abi/kernel_table.h"
#include "device/problem.h"

namespace sieve::softmax {

// Rows of the padded per-row arrays of the backward pass come in tiles of this many.
constexpr int kPaddedRows = 128;

// What forward, backward and decode share. Made by abi/ from validated arguments; nothing is decided after it.
struct Plan {
  ProblemView problem;
  int32_t tensor_batch = 0;
  int64_t query_rows = 0;  // of the tensors, also with packed sequences
  int64_t key_rows = 0;
  int32_t head_dim = 0;  // of the tensors; a kernel's own may be larger
  int32_t value_dim = 0;
  TensorView query;
  TensorView key;
  TensorView value;
  TensorView output;
  OutputType output_type = OutputType::kElement;
  TensorView lse;  // data = nullptr: not wanted
  float scale = 1;
  int32_t multiprocessors = 0;
};

struct ForwardPlan : Plan {
  int32_t *next_tile = nullptr;  // counter of kernels whose blocks compute many tiles
};

// Backward keeps per query row up to three floats, in padded arrays (device/padded_rows.h):
//   shifts   (lse - ln sigmoid(gate)) / ln 2;  +infinity for rows outside the sequence or without a key
//   deltas   output . output_gradient / (output_scale sigmoid(gate));  0 for those rows, and where the divisor is 0
//   factors  the row factor n_i, where the problem has one
// With p'_ij = exp2(scale n_i / ln 2 * q_i . k_j - shifts_i) <= 1 and ds_ij = p'_ij (do_i . v_j - deltas_i) the
// gradients are output_scale times: dv_j = sum_i p'_ij do_i, dk_j = scale sum_i n_i ds_ij q_i, dq_i = scale n_i sum_j
// ds_ij k_j. So the gate costs the pairs nothing, and output_scale may be 0 or negative. Pairs that a row does not see
// have p' = ds = 0.
struct BackwardPlan : Plan {
  TensorView output_gradient;
  TensorView query_gradient;  // data = nullptr: not wanted
  TensorView key_gradient;
  TensorView value_gradient;
  OutputType query_gradient_type = OutputType::kElement;
  OutputType key_gradient_type = OutputType::kElement;
  OutputType value_gradient_type = OutputType::kElement;
  TensorView row_factor_gradient;
  TensorView gate_gradient;
  float *row_first_gradient = nullptr;
  float *row_second_gradient = nullptr;
  bool bitwise = false;
  int64_t padded_rows = 0;  // of one query head, all sequences together
  float *shifts = nullptr;
  float *deltas = nullptr;
  float *factors = nullptr;  // null without a row factor
  // Sums for the query gradient, without scale and row factor: [query heads][padded rows / 64][dim / 8][128][4], the
  // accumulators of 64 query rows (16 a warp, 4 warps) in the order in which the threads hold them; dim is the kernel's
  // compiled_head_dim. Null where no gradient of queries or row factors is wanted.
  float *query_sums = nullptr;
  int32_t *turns = nullptr;  // [query heads][padded rows / 64][2]: who may add next, where the order is fixed
};

// With pages, problem.keys is what a full page table holds, and key_rows the size of a page.
struct DecodePlan : Plan {
  const int32_t *page_table = nullptr;
  int64_t page_table_width = 0;
  int32_t page_size = 0;  // 0 = contiguous
  int32_t pages = 0;
  int32_t splits = 1;
  float *partial_outputs = nullptr;  // [splits][batch][query heads][queries][value_dim]
  float *partial_lses = nullptr;     // [splits][batch][query heads][queries], base 2
};

// A kernel for tensors of the described dims, and its launch, which returns a cudaError_t. Several share the launch of
// one compiled shape that covers their dims.
template <class PlanType>
struct Kernel {
  KernelDescription description;
  int (*launch)(const PlanType &plan, void *stream);
  int32_t compiled_head_dim;
  int32_t compiled_value_dim;
};

// The only lists of supported shapes; empty in a build without kernels.
template <class PlanType>
struct Kernels {
  const Kernel<PlanType> *first;
  int count;
};
Kernels<ForwardPlan> forward_kernels();
Kernels<BackwardPlan> backward_kernels();
Kernels<DecodePlan> decode_kernels();

}  // namespace sieve::softmax
