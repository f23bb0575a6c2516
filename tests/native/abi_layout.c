/*
 * Prints "structure size alignment" and, indented, "field offset size" for every structure of the interface. A
 * structure or field that is missing here is found by the test of the bindings, which compares both directions.
 */
#include <stddef.h>
#include <stdio.h>

#include "sieve/attention.h"

#define STRUCTURE(type) printf(#type " %zu %zu\n", sizeof(type), _Alignof(type))
#define FIELD(type, name) printf("  " #name " %zu %zu\n", offsetof(type, name), sizeof(((type *)0)->name))

int main(void) {
  STRUCTURE(sieve_device_info);
  FIELD(sieve_device_info, struct_size);
  FIELD(sieve_device_info, capability_major);
  FIELD(sieve_device_info, capability_minor);
  FIELD(sieve_device_info, multiprocessors);
  FIELD(sieve_device_info, memory_bytes);
  FIELD(sieve_device_info, cache_bytes);
  FIELD(sieve_device_info, shared_memory_bytes);
  FIELD(sieve_device_info, driver_version);
  FIELD(sieve_device_info, name);
  STRUCTURE(sieve_context_options);
  FIELD(sieve_context_options, struct_size);
  FIELD(sieve_context_options, device);
  FIELD(sieve_context_options, log_level);
  FIELD(sieve_context_options, reserved);
  FIELD(sieve_context_options, log);
  FIELD(sieve_context_options, log_user_data);
  STRUCTURE(sieve_tensor);
  FIELD(sieve_tensor, data);
  FIELD(sieve_tensor, sizes);
  FIELD(sieve_tensor, strides);
  FIELD(sieve_tensor, dtype);
  FIELD(sieve_tensor, reserved);
  STRUCTURE(sieve_scalar);
  FIELD(sieve_scalar, device);
  FIELD(sieve_scalar, value);
  FIELD(sieve_scalar, head_stride);
  STRUCTURE(sieve_attention_problem);
  FIELD(sieve_attention_problem, struct_size);
  FIELD(sieve_attention_problem, causal);
  FIELD(sieve_attention_problem, query_alignment);
  FIELD(sieve_attention_problem, path);
  FIELD(sieve_attention_problem, query_offset);
  FIELD(sieve_attention_problem, window);
  FIELD(sieve_attention_problem, query_starts);
  FIELD(sieve_attention_problem, key_starts);
  FIELD(sieve_attention_problem, key_lengths);
  FIELD(sieve_attention_problem, sequence_count);
  FIELD(sieve_attention_problem, longest_query);
  FIELD(sieve_attention_problem, scale);
  FIELD(sieve_attention_problem, row_factor);
  FIELD(sieve_attention_problem, row_first);
  FIELD(sieve_attention_problem, row_second);
  FIELD(sieve_attention_problem, row_factors);
  FIELD(sieve_attention_problem, alibi_slopes);
  FIELD(sieve_attention_problem, norm);
  FIELD(sieve_attention_problem, norm_eps);
  FIELD(sieve_attention_problem, norm_gain);
  FIELD(sieve_attention_problem, output_scale);
  FIELD(sieve_attention_problem, repeatability);
  FIELD(sieve_attention_problem, gate);
  STRUCTURE(sieve_kernel_info);
  FIELD(sieve_kernel_info, struct_size);
  FIELD(sieve_kernel_info, operation);
  FIELD(sieve_kernel_info, direction);
  FIELD(sieve_kernel_info, path);
  FIELD(sieve_kernel_info, dtype);
  FIELD(sieve_kernel_info, head_dim);
  FIELD(sieve_kernel_info, value_dim);
  FIELD(sieve_kernel_info, capability);
  STRUCTURE(sieve_support_query);
  FIELD(sieve_support_query, struct_size);
  FIELD(sieve_support_query, operation);
  FIELD(sieve_support_query, direction);
  FIELD(sieve_support_query, path);
  FIELD(sieve_support_query, dtype);
  FIELD(sieve_support_query, head_dim);
  FIELD(sieve_support_query, value_dim);
  FIELD(sieve_support_query, reserved);
  STRUCTURE(sieve_tda_forward_arguments);
  FIELD(sieve_tda_forward_arguments, struct_size);
  FIELD(sieve_tda_forward_arguments, reserved);
  FIELD(sieve_tda_forward_arguments, query1);
  FIELD(sieve_tda_forward_arguments, key1);
  FIELD(sieve_tda_forward_arguments, query2);
  FIELD(sieve_tda_forward_arguments, key2);
  FIELD(sieve_tda_forward_arguments, value);
  FIELD(sieve_tda_forward_arguments, output);
  FIELD(sieve_tda_forward_arguments, survivors1);
  FIELD(sieve_tda_forward_arguments, survivors2);
  FIELD(sieve_tda_forward_arguments, beta);
  FIELD(sieve_tda_forward_arguments, lambda);
  FIELD(sieve_tda_forward_arguments, kappa);
  FIELD(sieve_tda_forward_arguments, power);
  FIELD(sieve_tda_forward_arguments, survivor_tiles);
  STRUCTURE(sieve_softmax_forward_arguments);
  FIELD(sieve_softmax_forward_arguments, struct_size);
  FIELD(sieve_softmax_forward_arguments, reserved);
  FIELD(sieve_softmax_forward_arguments, query);
  FIELD(sieve_softmax_forward_arguments, key);
  FIELD(sieve_softmax_forward_arguments, value);
  FIELD(sieve_softmax_forward_arguments, output);
  FIELD(sieve_softmax_forward_arguments, lse);
  STRUCTURE(sieve_softmax_backward_arguments);
  FIELD(sieve_softmax_backward_arguments, struct_size);
  FIELD(sieve_softmax_backward_arguments, reserved);
  FIELD(sieve_softmax_backward_arguments, query);
  FIELD(sieve_softmax_backward_arguments, key);
  FIELD(sieve_softmax_backward_arguments, value);
  FIELD(sieve_softmax_backward_arguments, output);
  FIELD(sieve_softmax_backward_arguments, lse);
  FIELD(sieve_softmax_backward_arguments, output_gradient);
  FIELD(sieve_softmax_backward_arguments, query_gradient);
  FIELD(sieve_softmax_backward_arguments, key_gradient);
  FIELD(sieve_softmax_backward_arguments, value_gradient);
  FIELD(sieve_softmax_backward_arguments, row_factor_gradient);
  FIELD(sieve_softmax_backward_arguments, gate_gradient);
  FIELD(sieve_softmax_backward_arguments, row_first_gradient);
  FIELD(sieve_softmax_backward_arguments, row_second_gradient);
  STRUCTURE(sieve_softmax_decode_arguments);
  FIELD(sieve_softmax_decode_arguments, struct_size);
  FIELD(sieve_softmax_decode_arguments, splits);
  FIELD(sieve_softmax_decode_arguments, query);
  FIELD(sieve_softmax_decode_arguments, key);
  FIELD(sieve_softmax_decode_arguments, value);
  FIELD(sieve_softmax_decode_arguments, output);
  FIELD(sieve_softmax_decode_arguments, lse);
  FIELD(sieve_softmax_decode_arguments, page_table);
  FIELD(sieve_softmax_decode_arguments, page_table_width);
  return 0;
}
