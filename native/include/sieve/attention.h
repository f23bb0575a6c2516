/*
 * SieveAttention: the whole C ABI.
 *
 * Rules that hold for every function
 *  - The return value is a sieve_status (0 = success) unless the comment says otherwise. On failure the calling
 *    thread's sieve_last_message() names the argument, the value received and the values allowed.
 *  - Arguments are checked in the order in which they are declared; the first failure is reported and nothing is
 * written.
 *  - No function allocates device memory, synchronizes or falls back to another algorithm unless its comment says so.
 *  - Structures that carry parameters begin with struct_size = sizeof(the structure) as the caller compiled it. Fields
 * are only ever appended; a library accepts the sizes of every older version of its major version, fields that an older
 *    caller does not have read as zero, and zero always means "the behaviour before the field existed".
 *  - Pointers named stream are a cudaStream_t (NULL = the legacy default stream). Work is ordered on that stream only.
 *  - A context may be used from several threads at once. Tensors are the caller's; the library keeps no pointer to
 * them.
 *
 * Naming scheme of the operators: sieve_<operator>_<direction>_workspace says how many bytes of device memory the call
 * needs, sieve_<operator>_<direction> enqueues it. <operator> is softmax, tda, diff, diff_v2, ssa, entmax or
 * support_basis, <direction> is forward, backward or decode. docs/abi.md shows how each operator uses the shared
 * structures.
 *
 * The header is C11 and the only input of the binding generator (bindings/).
 */
#ifndef SIEVE_ATTENTION_H
#define SIEVE_ATTENTION_H

#include <stdint.h>

#if defined(_WIN32)
#if defined(SIEVE_BUILDING_LIBRARY)
#define SIEVE_API __declspec(dllexport)
#else
#define SIEVE_API __declspec(dllimport)
#endif
#else
#define SIEVE_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* ---------------------------------------------------------------- versions, statuses, messages ----------------------
 */

/** Version of the binary interface; a caller compares its own value with sieve_abi_version(). */
typedef enum sieve_abi {
  /** The interface that this header declares. */
  SIEVE_ABI_VERSION = 1
} sieve_abi;

/** Outcome of a call. */
typedef enum sieve_status {
  /** The call did what it was asked. */
  SIEVE_STATUS_OK = 0,
  /** An argument is outside its documented domain. */
  SIEVE_STATUS_INVALID_ARGUMENT = 1,
  /** The arguments are meaningful, but no kernel of this build runs them on this device. */
  SIEVE_STATUS_UNSUPPORTED = 2,
  /** There is no usable CUDA device: no driver, a driver that is too old, no GPU, or a build without kernels. */
  SIEVE_STATUS_UNAVAILABLE = 3,
  /** Device or host memory is exhausted. */
  SIEVE_STATUS_OUT_OF_MEMORY = 4,
  /** The workspace is smaller than the matching _workspace function asked for. */
  SIEVE_STATUS_WORKSPACE_TOO_SMALL = 5,
  /** The CUDA driver reported an error; the message carries its name and text. */
  SIEVE_STATUS_DEVICE_ERROR = 6,
  /** A defect of the library. */
  SIEVE_STATUS_INTERNAL_ERROR = 7
} sieve_status;

/** Severity of a log message. */
typedef enum sieve_log_level {
  /** Every plan and launch. */
  SIEVE_LOG_TRACE = 0,
  /** Decisions: which kernel was chosen, and why. */
  SIEVE_LOG_DEBUG = 1,
  /** What a user wants to see once: the device in use. */
  SIEVE_LOG_INFORMATION = 2,
  /** Something unexpected that did not stop the call. */
  SIEVE_LOG_WARNING = 3,
  /** A failed call. */
  SIEVE_LOG_ERROR = 4,
  /** No message at all. */
  SIEVE_LOG_NONE = 5
} sieve_log_level;

/** Receives one UTF-8 message, valid during the call only; runs on the thread that called the library and must not
 * throw. */
typedef void (*sieve_log_callback)(void *user_data, int32_t level, const char *message);

/** Returns SIEVE_ABI_VERSION of the library (not a status). Never fails, never blocks. */
SIEVE_API uint32_t sieve_abi_version(void);

/** Returns the constant name of a status such as "SIEVE_STATUS_OK" (static UTF-8 text, not a status). */
SIEVE_API const char *sieve_status_name(int32_t status);

/** Returns the text of the calling thread's last failed call, valid until its next call (UTF-8, "" when there is none).
 */
SIEVE_API const char *sieve_last_message(void);

/** Returns one line about the build: version, CUDA toolkit and machine code inside (static UTF-8 text, not a status).
 */
SIEVE_API const char *sieve_build_description(void);

/* ---------------------------------------------------------------- devices and contexts ------------------------------
 */

/** What a CUDA device is. */
typedef struct sieve_device_info {
  /** sizeof(sieve_device_info). */
  uint32_t struct_size;
  /** Compute capability, major part. */
  int32_t capability_major;
  /** Compute capability, minor part. */
  int32_t capability_minor;
  /** Streaming multiprocessors. */
  int32_t multiprocessors;
  /** Device memory in bytes. */
  int64_t memory_bytes;
  /** Level-2 cache in bytes. */
  int64_t cache_bytes;
  /** Shared memory that one thread block may use, in bytes. */
  int32_t shared_memory_bytes;
  /** CUDA version of the driver, 1000 * major + 10 * minor. */
  int32_t driver_version;
  /** Name of the device, UTF-8, zero-terminated. */
  char name[256];
} sieve_device_info;

/** How a context is made. */
typedef struct sieve_context_options {
  /** sizeof(sieve_context_options). */
  uint32_t struct_size;
  /** CUDA ordinal of the device. */
  int32_t device;
  /** Least sieve_log_level that reaches log. */
  int32_t log_level;
  /** Must be zero. */
  int32_t reserved;
  /** Receives the messages of this context; NULL = none. */
  sieve_log_callback log;
  /** First argument of log. */
  void *log_user_data;
} sieve_context_options;

/** One device prepared for use. */
typedef struct sieve_context sieve_context;

/** Counts the CUDA devices. SIEVE_STATUS_UNAVAILABLE says why there is none; *count is 0 then. */
SIEVE_API int32_t sieve_device_count(int32_t *count);

/** Describes a device; info->struct_size is set by the caller. */
SIEVE_API int32_t sieve_device_describe(int32_t device, sieve_device_info *info);

/** Makes a context; the caller destroys it after everything that was made from it. Initializes the driver, hence slow.
 */
SIEVE_API int32_t sieve_context_create(const sieve_context_options *options, sieve_context **context);

/** Destroys a context (NULL is allowed). Callable from any thread, also while the driver shuts down. */
SIEVE_API int32_t sieve_context_destroy(sieve_context *context);

/* ---------------------------------------------------------------- memory, streams, events ---------------------------
 */

/** Direction of a copy. */
typedef enum sieve_copy_kind {
  /** Host memory to device memory. */
  SIEVE_COPY_TO_DEVICE = 0,
  /** Device memory to host memory. */
  SIEVE_COPY_TO_HOST = 1,
  /** Device memory to device memory. */
  SIEVE_COPY_ON_DEVICE = 2
} sieve_copy_kind;

/** Allocates device memory, aligned to 256 bytes. */
SIEVE_API int32_t sieve_memory_allocate(sieve_context *context, uint64_t bytes, void **memory);

/** Frees device memory (NULL is allowed). Waits for work that uses it, from any thread. */
SIEVE_API int32_t sieve_memory_free(sieve_context *context, void *memory);

/** Enqueues a copy. With pageable host memory the call returns only after the host memory was read or written. */
SIEVE_API int32_t sieve_memory_copy(sieve_context *context, void *target, const void *source, uint64_t bytes,
                                    int32_t kind, void *stream);

/** Enqueues setting every byte to value. */
SIEVE_API int32_t sieve_memory_fill(sieve_context *context, void *memory, uint8_t value, uint64_t bytes, void *stream);

/** Makes a stream that does not wait for the legacy default stream. */
SIEVE_API int32_t sieve_stream_create(sieve_context *context, void **stream);

/** Destroys a stream made by sieve_stream_create (NULL is allowed); its enqueued work still completes. */
SIEVE_API int32_t sieve_stream_destroy(sieve_context *context, void *stream);

/** Waits until everything enqueued on the stream has run, and reports errors of that work. */
SIEVE_API int32_t sieve_stream_synchronize(sieve_context *context, void *stream);

/** Makes an event that records device time. */
SIEVE_API int32_t sieve_event_create(sieve_context *context, void **event);

/** Destroys an event (NULL is allowed). */
SIEVE_API int32_t sieve_event_destroy(sieve_context *context, void *event);

/** Enqueues the event on a stream. */
SIEVE_API int32_t sieve_event_record(sieve_context *context, void *event, void *stream);

/** Waits for the later event and writes the device time between both, in milliseconds. */
SIEVE_API int32_t sieve_event_elapsed(sieve_context *context, void *earlier, void *later, float *milliseconds);

/* ---------------------------------------------------------------- what every attention problem has ------------------
 */

/** Element type of a tensor. */
typedef enum sieve_dtype {
  /** No tensor. */
  SIEVE_DTYPE_NONE = 0,
  /** IEEE binary16. */
  SIEVE_DTYPE_FLOAT16 = 1,
  /** bfloat16. */
  SIEVE_DTYPE_BFLOAT16 = 2,
  /** IEEE binary32. */
  SIEVE_DTYPE_FLOAT32 = 3,
  /** Signed 32-bit integer. */
  SIEVE_DTYPE_INT32 = 4
} sieve_dtype;

/** The operators of the interface. */
typedef enum sieve_operation {
  /** Softmax attention. */
  SIEVE_OPERATION_SOFTMAX = 0,
  /** Threshold differential attention. */
  SIEVE_OPERATION_TDA = 1,
  /** Differential attention V1. */
  SIEVE_OPERATION_DIFF = 2,
  /** Differential attention V2 and grouped. */
  SIEVE_OPERATION_DIFF_V2 = 3,
  /** Sparse sparse attention. */
  SIEVE_OPERATION_SSA = 4,
  /** Alpha-entmax attention. */
  SIEVE_OPERATION_ENTMAX = 5,
  /** Support-basis attention. */
  SIEVE_OPERATION_SUPPORT_BASIS = 6
} sieve_operation;

/** What an operator is asked to compute. */
typedef enum sieve_direction {
  /** Outputs from inputs. */
  SIEVE_DIRECTION_FORWARD = 0,
  /** Gradients of the inputs and parameters. */
  SIEVE_DIRECTION_BACKWARD = 1,
  /** Outputs of a few new rows against a key/value cache. */
  SIEVE_DIRECTION_DECODE = 2
} sieve_direction;

/** Family of kernels. */
typedef enum sieve_path {
  /** The fastest family that the device runs. */
  SIEVE_PATH_AUTOMATIC = 0,
  /** mma.sync and cp.async: compute capability 8.0 and newer. */
  SIEVE_PATH_GENERIC = 1,
  /** wgmma and the tensor memory accelerator: compute capability 9.0. */
  SIEVE_PATH_HOPPER = 2
} sieve_path;

/** Where query row i stands among the keys. */
typedef enum sieve_query_alignment {
  /** The last query row stands at the last key: position = i + keys - queries, of each sequence. */
  SIEVE_QUERY_ALIGNMENT_END = 0,
  /** position = i + query_offset. */
  SIEVE_QUERY_ALIGNMENT_OFFSET = 1
} sieve_query_alignment;

/** Factor by which the scores of a row are multiplied (see docs/abi.md). */
typedef enum sieve_row_factor {
  /** 1. */
  SIEVE_ROW_FACTOR_NONE = 0,
  /** row_first * ln(visible keys). */
  SIEVE_ROW_FACTOR_SSMAX = 1,
  /** 1 + row_first * ln(position + 2) ^ row_second. */
  SIEVE_ROW_FACTOR_ASENTMAX = 2,
  /** row_factors[batch, head, row]. */
  SIEVE_ROW_FACTOR_VECTOR = 3
} sieve_row_factor;

/** Normalization of an output row. */
typedef enum sieve_norm {
  /** None. */
  SIEVE_NORM_NONE = 0,
  /** RMSNorm over the value channels of a head: x * (mean(x^2) + norm_eps)^(-1/2) * norm_gain. */
  SIEVE_NORM_RMS = 1
} sieve_norm;

/** Whether results of gradients repeat bit for bit; forward and decode always do. */
typedef enum sieve_repeatability {
  /** The fastest order of summation. */
  SIEVE_REPEATABILITY_FASTEST = 0,
  /** The same bits in every run on the same device and build. */
  SIEVE_REPEATABILITY_BITWISE = 1
} sieve_repeatability;

/**
 * A view of device memory: [batch, heads, rows, channels], strides in elements. data = NULL means that an optional
 * tensor is absent. A tensor without channels (one value a row) has sizes[3] = 1. 16-bit tensors need strides[3] = 1,
 * data aligned to 16 bytes and the other strides of dimensions larger than 1 divisible by 8.
 */
typedef struct sieve_tensor {
  /** First element. */
  void *data;
  /** Elements of each dimension. */
  int64_t sizes[4];
  /** Elements from one index to the next, of each dimension. */
  int64_t strides[4];
  /** A sieve_dtype. */
  int32_t dtype;
  /** Must be zero. */
  int32_t reserved;
} sieve_tensor;

/** A parameter given by value or, where it must be able to change under a captured graph, as device memory. */
typedef struct sieve_scalar {
  /** Device memory, or NULL to use value. */
  const float *device;
  /** The parameter of all heads, where device is NULL. */
  float value;
  /** Elements of device from one query head to the next: 0 = one value for all heads, 1 = one value a head. */
  int32_t head_stride;
} sieve_scalar;

/**
 * Masks, sequences, row factors and the epilogue, shared by all operators. A key j is visible to the query row at
 * position p iff j < keys, and j <= p where causal, and j > p - window where window > 0. Fields that have no meaning
 * for an operator must be zero.
 */
typedef struct sieve_attention_problem {
  /** sizeof(sieve_attention_problem). */
  uint32_t struct_size;
  /** 1 = a row sees no key after its position, 0 = no such limit. */
  int32_t causal;
  /** A sieve_query_alignment. */
  int32_t query_alignment;
  /** A sieve_path. */
  int32_t path;
  /** Position of query row 0 where query_alignment is SIEVE_QUERY_ALIGNMENT_OFFSET, else zero; may be negative. */
  int64_t query_offset;
  /** Number of keys up to and including its own position that a row sees; 0 = no such limit. */
  int64_t window;
  /** Packed sequences (batch = 1): device memory, sequence_count + 1 ascending first rows of each query sequence; or
   * NULL. */
  const int32_t *query_starts;
  /** The same for keys and values; NULL exactly where query_starts is NULL. */
  const int32_t *key_starts;
  /** Valid key rows of each batch entry, device memory; NULL = all. Not together with packed sequences. */
  const int32_t *key_lengths;
  /** Number of packed sequences; 0 without them. */
  int32_t sequence_count;
  /** Upper limit of the query rows of one packed sequence; 0 without them. */
  int32_t longest_query;
  /** Factor of every score; 0 = 1 / sqrt(head_dim). */
  float scale;
  /** A sieve_row_factor. */
  int32_t row_factor;
  /** row_s or row_beta of the row factor. */
  sieve_scalar row_first;
  /** row_gamma of the row factor. */
  sieve_scalar row_second;
  /** Float32 [batch, query heads, rows, 1] for SIEVE_ROW_FACTOR_VECTOR. */
  sieve_tensor row_factors;
  /** Slopes of a linear distance bias, one for each query head, device memory; NULL = none. */
  const float *alibi_slopes;
  /** A sieve_norm, applied to the output row first. */
  int32_t norm;
  /** Added to the mean square, >= 0. */
  float norm_eps;
  /** Gain of the norm, one for each value channel, device memory; NULL = 1. Only with SIEVE_NORM_RMS. */
  const float *norm_gain;
  /** Factor of the output, applied after the norm. 0 is a valid factor: callers set 1 explicitly. */
  float output_scale;
  /** A sieve_repeatability. */
  int32_t repeatability;
  /** Float32 logits [batch, output heads, rows, 1]: the output is multiplied by sigmoid(gate), last; absent = 1. */
  sieve_tensor gate;
} sieve_attention_problem;

/* ---------------------------------------------------------------- which kernels there are ---------------------------
 */

/** One compiled kernel family member. */
typedef struct sieve_kernel_info {
  /** sizeof(sieve_kernel_info). */
  uint32_t struct_size;
  /** A sieve_operation. */
  int32_t operation;
  /** A sieve_direction. */
  int32_t direction;
  /** A sieve_path. */
  int32_t path;
  /** A sieve_dtype: that of queries, keys and values. */
  int32_t dtype;
  /** Channels of queries and keys. */
  int32_t head_dim;
  /** Channels of values. */
  int32_t value_dim;
  /** Least compute capability, 10 * major + minor. */
  int32_t capability;
} sieve_kernel_info;

/** Question whether a problem of this kind can be run. */
typedef struct sieve_support_query {
  /** sizeof(sieve_support_query). */
  uint32_t struct_size;
  /** A sieve_operation. */
  int32_t operation;
  /** A sieve_direction. */
  int32_t direction;
  /** A sieve_path. */
  int32_t path;
  /** A sieve_dtype. */
  int32_t dtype;
  /** Channels of queries and keys. */
  int32_t head_dim;
  /** Channels of values. */
  int32_t value_dim;
  /** Must be zero. */
  int32_t reserved;
} sieve_support_query;

/** Counts the kernels of this build (0 in a build without a CUDA compiler). */
SIEVE_API int32_t sieve_kernel_count(int32_t *count);

/** Describes kernel number index; info->struct_size is set by the caller. */
SIEVE_API int32_t sieve_kernel_describe(int32_t index, sieve_kernel_info *info);

/** SIEVE_STATUS_OK when the device of the context runs it, else SIEVE_STATUS_UNSUPPORTED with what would be. */
SIEVE_API int32_t sieve_support(const sieve_context *context, const sieve_support_query *query);

/**
 * Enqueues matrix products of random elements, of SIEVE_DTYPE_FLOAT16 or SIEVE_DTYPE_BFLOAT16, that never leave the
 * multiprocessors, for some milliseconds: what no kernel of the path can surpass. Writes how many floating-point
 * operations they are. For benchmarks.
 */
SIEVE_API int32_t sieve_products_run(const sieve_context *context, int32_t path, int32_t dtype, double *operations,
                                     void *stream);

/* ---------------------------------------------------------------- threshold differential attention ------------------
 */

/**
 * Images of rows by which threshold differential attention rules out most pairs of query and key without their exact
 * scores. Survivors and results are the same, bit for bit; only the time differs.
 */
typedef enum sieve_tda_screen {
  /** No images. */
  SIEVE_TDA_SCREEN_NONE = 0,
  /** 8 bits a channel. */
  SIEVE_TDA_SCREEN_INT8 = 1,
  /** 4 bits a channel: in a cache a quarter of the bytes of the keys, and some more candidates. Not in forward. */
  SIEVE_TDA_SCREEN_INT4 = 2
} sieve_tda_screen;

/**
 * Threshold differential attention, forward (arXiv 2601.12145).
 *
 *   s_t = cosine(query_t[i], key_t[j]),   tau_i = beta * sqrt(2 max(ln(n_i / kappa), 0) / head_dim),   n_i = visible
 * keys output_i = epilogue( sum_j ( (s_1 - tau_i)_+ ^ power  -  lambda (s_2 - tau_i)_+ ^ power ) value_j )
 *
 * Query head h uses key and value head h / (query heads / key heads). A row without a visible key or survivor gives 0.
 */
typedef struct sieve_tda_forward_arguments {
  /** sizeof(sieve_tda_forward_arguments). */
  uint32_t struct_size;
  /**
   * SIEVE_TDA_SCREEN_NONE, or SIEVE_TDA_SCREEN_INT8 where few pairs are expected to survive: worth it from some
   * thousand keys on, a loss where many pairs survive (docs/kernels.md has figures). Paths without such a kernel pass
   * over it.
   */
  int32_t screen;
  /** [batch, query heads, queries, head_dim], float16 or bfloat16. */
  sieve_tensor query1;
  /** [batch, key heads, keys, head_dim], dtype of query1. */
  sieve_tensor key1;
  /** Second view, like query1. May be absent where lambda is the value 0: the single-view operator. */
  sieve_tensor query2;
  /** Second view, like key1; absent exactly where query2 is. Not read where lambda is the value 0 without survivors2.
   */
  sieve_tensor key2;
  /** [batch, key heads, keys, value_dim], dtype of query1. */
  sieve_tensor value;
  /** [batch, query heads, queries, value_dim], dtype of query1 or float32. */
  sieve_tensor output;
  /** Optional int32 [batch, query heads, queries, 1]: keys above the threshold in view 1. */
  sieve_tensor survivors1;
  /** The same for view 2; absent where query2 is. */
  sieve_tensor survivors2;
  /** Steepness of the threshold; finite. */
  sieve_scalar beta;
  /** Weight of the second view; finite. */
  sieve_scalar lambda;
  /** Visible keys up to which the threshold stays 0; > 0. */
  float kappa;
  /** Exponent of the exceedance; >= 1. */
  float power;
  /**
   * Optional int32 [batch, query heads, query tiles, words]: which tiles of 64 query rows x 64 keys hold a survivor, two
   * bits a tile. Bit 2 (k % 16) + t of word k / 16 is set where a row of the tile has a survivor among the keys
   * [64 k, 64 k + 64) in view t + 1, t = 0, 1; rows and keys count within their sequence. query tiles = ceil(queries / 64)
   * and tile q holds rows [64 q, 64 q + 64); with packed sequences it is queries / 64 + sequence_count (rounded down), and
   * tile q of sequence s lies at query_starts[s] / 64 + s + q. words = ceil(keys / 1024), of the key tensor. Every word of
   * a tile that has a row is written.
   */
  sieve_tensor survivor_tiles;
} sieve_tda_forward_arguments;

/** Bytes of workspace for sieve_tda_forward; aligned to 256 bytes, not read before it is written. */
SIEVE_API int32_t sieve_tda_forward_workspace(const sieve_context *context, const sieve_attention_problem *problem,
                                              const sieve_tda_forward_arguments *arguments, uint64_t *bytes);

/** Enqueues threshold differential attention, forward. Bitwise repeatable. */
SIEVE_API int32_t sieve_tda_forward(const sieve_context *context, const sieve_attention_problem *problem,
                                    const sieve_tda_forward_arguments *arguments, void *workspace,
                                    uint64_t workspace_bytes, void *stream);

/**
 * Threshold differential attention, backward: gradients of a scalar whose derivative by output is output_gradient. The
 * problem is that of the forward call. Gradients are optional: data = NULL means not wanted.
 *
 * Pairs without a survivor cost nothing but finding them: with the bitmap of the forward call only its tiles are
 * visited; without it, or with a norm (whose gradient needs the sums before it), forward runs again inside the call.
 */
typedef struct sieve_tda_backward_arguments {
  /** sizeof(sieve_tda_backward_arguments). */
  uint32_t struct_size;
  /** Of forward inside the call, as in sieve_tda_forward_arguments; changes no bit of the gradients without a norm. */
  int32_t screen;
  /** The input of the forward call. */
  sieve_tensor query1;
  /** The input of the forward call. */
  sieve_tensor key1;
  /** The input of the forward call. */
  sieve_tensor query2;
  /** The input of the forward call. */
  sieve_tensor key2;
  /** The input of the forward call. */
  sieve_tensor value;
  /** [batch, query heads, queries, value_dim], dtype of query1. */
  sieve_tensor output_gradient;
  /**
   * Optional: the result of the forward call. Not used with SIEVE_NORM_RMS, nor where lambda is the value 0 and a gradient
   * of lambda is wanted.
   */
  sieve_tensor survivor_tiles;
  /** Like query1, dtype of query1 or float32. */
  sieve_tensor query1_gradient;
  /** Like key1, dtype of query1 or float32; summed over the query heads of the group. */
  sieve_tensor key1_gradient;
  /** Like query2, dtype of query1 or float32; absent where query2 is. */
  sieve_tensor query2_gradient;
  /** Like key2, dtype of query1 or float32; absent where query2 is. */
  sieve_tensor key2_gradient;
  /** Like value, dtype of query1 or float32; summed over the query heads of the group. */
  sieve_tensor value_gradient;
  /** Float32 [batch, query heads, queries, 1]: gradient of the gate's logits. Only with a gate. */
  sieve_tensor gate_gradient;
  /** Device memory, one float for each value channel: gradient of problem.norm_gain (of gains of 1 where it is NULL). Only
   * with SIEVE_NORM_RMS; NULL = not wanted. */
  float *norm_gain_gradient;
  /** Device memory, one float for each query head; the gradient of a beta that heads share is their sum. NULL = not wanted. */
  float *beta_gradient;
  /** The same for kappa. */
  float *kappa_gradient;
  /** The same for lambda; NULL where query2 is absent. */
  float *lambda_gradient;
  /** Of the forward call. */
  sieve_scalar beta;
  /** Of the forward call. */
  sieve_scalar lambda;
  /** Of the forward call. */
  float kappa;
  /** Of the forward call. */
  float power;
} sieve_tda_backward_arguments;

/** Bytes of workspace for sieve_tda_backward; aligned to 256 bytes, not read before it is written. */
SIEVE_API int32_t sieve_tda_backward_workspace(const sieve_context *context, const sieve_attention_problem *problem,
                                               const sieve_tda_backward_arguments *arguments, uint64_t *bytes);

/** Enqueues threshold differential attention, backward. Bitwise repeatable, whatever problem.repeatability asks for. */
SIEVE_API int32_t sieve_tda_backward(const sieve_context *context, const sieve_attention_problem *problem,
                                     const sieve_tda_backward_arguments *arguments, void *workspace,
                                     uint64_t workspace_bytes, void *stream);

/**
 * A cache of keys and values for threshold differential attention, and what it keeps beside them. It is contiguous, one
 * tensor row a key, or paged: then the tensors hold pages, page size divisible by 16, and page_table names the pages of
 * each batch entry in order. entries is the batch or the number of pages, rows the room of an entry or the page size.
 *
 * The inverse norms and the images are written by sieve_tda_append and read by sieve_tda_decode. The images of 16 keys
 * (rows 16 i to 16 i + 15 of an entry) are 4 p + 16 words with 8 bits a channel, 2 p + 16 with 4, p = 64 for head_dim up
 * to 64, else 128; what stands in them is the library's own.
 */
typedef struct sieve_tda_cache {
  /** sizeof(sieve_tda_cache). */
  uint32_t struct_size;
  /** A sieve_tda_screen. */
  int32_t screen;
  /** [entries, key heads, rows, head_dim], float16 or bfloat16. */
  sieve_tensor key1;
  /** Second view, like key1; absent for the single-view operator. */
  sieve_tensor key2;
  /** [entries, key heads, rows, value_dim], dtype of key1. */
  sieve_tensor value;
  /** Float32 [entries, key heads, rows, 1]: 1 / max(norm, 1e-12) of each key. */
  sieve_tensor inverse_norms1;
  /** The same for view 2; absent exactly where key2 is. */
  sieve_tensor inverse_norms2;
  /** Int32 [entries, key heads, ceil(rows / 16), words], contiguous words, aligned to 16 bytes; absent without screen. */
  sieve_tensor images1;
  /** The same for view 2; absent without screen, and where key2 is. */
  sieve_tensor images2;
  /** Device memory, [batch, page_table_width] numbers of pages, those behind the valid keys unread; NULL = contiguous. */
  const int32_t *page_table;
  /** Pages of one batch entry in page_table; 0 without one. */
  int64_t page_table_width;
} sieve_tda_cache;

/**
 * The newest keys of every sequence enter the cache: the last `rows` of the key_lengths[b] valid ones (of all rows,
 * without lengths). Where new tensors are given, they are copied to the places of these keys; where they are absent, the
 * keys and values are in the cache already. Then inverse norms and images of these keys are written.
 */
typedef struct sieve_tda_append_arguments {
  /** sizeof(sieve_tda_append_arguments). */
  uint32_t struct_size;
  /** Sequences. */
  int32_t batch;
  /** The cache. */
  const sieve_tda_cache *cache;
  /** Newest keys of each sequence. An entry with fewer valid keys takes its last ones. */
  int64_t rows;
  /** Valid keys of each sequence, the new ones among them, device memory; NULL = all rows. */
  const int32_t *key_lengths;
  /** [batch, key heads, rows, head_dim], dtype of the cache; or absent. */
  sieve_tensor new_key1;
  /** Second view; absent exactly where new_key1 or the cache's key2 is. */
  sieve_tensor new_key2;
  /** [batch, key heads, rows, value_dim]; absent exactly where new_key1 is. */
  sieve_tensor new_value;
} sieve_tda_append_arguments;

/** Enqueues the keys' entry into the cache. Needs no workspace. Bitwise repeatable. */
SIEVE_API int32_t sieve_tda_append(const sieve_context *context, const sieve_tda_append_arguments *arguments,
                                   void *stream);

/**
 * Threshold differential attention of a few new query rows against a cache, as sieve_tda_forward computes the rows at
 * their places. problem.key_lengths says how many keys of each entry are valid; the work adapts to it on the device, so
 * a captured graph replays with grown caches. The rows stand at the end of each entry's keys unless the problem says
 * otherwise. Value rows are read for survivors only. A screen changes which bytes are read, not the result: the same
 * keys survive, and for equal splits the output is the same bit for bit. With more than 32 rows (queries * query heads /
 * key heads) the images are not read, because so many rows ask for so many keys that reading all of them is faster.
 */
typedef struct sieve_tda_decode_arguments {
  /** sizeof(sieve_tda_decode_arguments). */
  uint32_t struct_size;
  /** Parts in which the keys of one head are read side by side; 0 = chosen by the library. */
  int32_t splits;
  /** [batch, query heads, queries, head_dim], dtype of the cache; queries * query heads / key heads is at most 64. */
  sieve_tensor query1;
  /** Second view, like query1; absent exactly where the cache's key2 is. */
  sieve_tensor query2;
  /** The cache. */
  const sieve_tda_cache *cache;
  /** [batch, query heads, queries, value_dim], dtype of query1 or float32. */
  sieve_tensor output;
  /** Optional int32 [batch, query heads, queries, 1]: keys above the threshold in view 1. */
  sieve_tensor survivors1;
  /** The same for view 2; absent where query2 is. */
  sieve_tensor survivors2;
  /** Steepness of the threshold; finite. */
  sieve_scalar beta;
  /** Weight of the second view; finite. */
  sieve_scalar lambda;
  /** Visible keys up to which the threshold stays 0; > 0. */
  float kappa;
  /** Exponent of the exceedance; >= 1. */
  float power;
} sieve_tda_decode_arguments;

/** Bytes of workspace for sieve_tda_decode; aligned to 256 bytes, not read before it is written. */
SIEVE_API int32_t sieve_tda_decode_workspace(const sieve_context *context, const sieve_attention_problem *problem,
                                             const sieve_tda_decode_arguments *arguments, uint64_t *bytes);

/** Enqueues threshold differential attention, decode. Bitwise repeatable for equal splits. */
SIEVE_API int32_t sieve_tda_decode(const sieve_context *context, const sieve_attention_problem *problem,
                                   const sieve_tda_decode_arguments *arguments, void *workspace,
                                   uint64_t workspace_bytes, void *stream);

/* ---------------------------------------------------------------- softmax attention ---------------------------------
 */

/**
 * Softmax attention, forward (arXiv 1706.03762, equation 1).
 *
 *   s_ij = scale * n_i * query[i] . key[j],   n_i = the row factor (1 without one)
 *   lse_i = ln sum_j exp(s_ij),   output_i = epilogue( sum_j exp(s_ij - lse_i) value_j ),   j over the visible keys
 *
 * Query head h uses key and value head h / (query heads / key heads). A row without a visible key gives output 0 and
 * lse -infinity.
 */
typedef struct sieve_softmax_forward_arguments {
  /** sizeof(sieve_softmax_forward_arguments). */
  uint32_t struct_size;
  /** Must be zero. */
  int32_t reserved;
  /** [batch, query heads, queries, head_dim], float16 or bfloat16. */
  sieve_tensor query;
  /** [batch, key heads, keys, head_dim], dtype of query. */
  sieve_tensor key;
  /** [batch, key heads, keys, value_dim], dtype of query. */
  sieve_tensor value;
  /** [batch, query heads, queries, value_dim], dtype of query or float32. */
  sieve_tensor output;
  /** Optional float32 [batch, query heads, queries, 1]: natural logarithm of the sum of exponentials. */
  sieve_tensor lse;
} sieve_softmax_forward_arguments;

/** Bytes of workspace for sieve_softmax_forward; aligned to 256 bytes, not read before it is written. */
SIEVE_API int32_t sieve_softmax_forward_workspace(const sieve_context *context, const sieve_attention_problem *problem,
                                                  const sieve_softmax_forward_arguments *arguments, uint64_t *bytes);

/** Enqueues softmax attention, forward. Bitwise repeatable. */
SIEVE_API int32_t sieve_softmax_forward(const sieve_context *context, const sieve_attention_problem *problem,
                                        const sieve_softmax_forward_arguments *arguments, void *workspace,
                                        uint64_t workspace_bytes, void *stream);

/**
 * Softmax attention, backward: gradients of a scalar whose derivative by output is output_gradient. The problem is that
 * of the forward call, without a norm (SIEVE_NORM_NONE); a gate and an output scale are allowed. Gradient tensors are
 * optional: data = NULL means not wanted.
 */
typedef struct sieve_softmax_backward_arguments {
  /** sizeof(sieve_softmax_backward_arguments). */
  uint32_t struct_size;
  /** Must be zero. */
  int32_t reserved;
  /** The input of the forward call. */
  sieve_tensor query;
  /** The input of the forward call. */
  sieve_tensor key;
  /** The input of the forward call. */
  sieve_tensor value;
  /** The result of the forward call, after its epilogue; dtype of query or float32. */
  sieve_tensor output;
  /** The result of the forward call. */
  sieve_tensor lse;
  /** [batch, query heads, queries, value_dim], dtype of query. */
  sieve_tensor output_gradient;
  /** Like query, dtype of query or float32. */
  sieve_tensor query_gradient;
  /** Like key, dtype of query or float32; summed over the query heads of the group. */
  sieve_tensor key_gradient;
  /** Like value, dtype of query or float32; summed over the query heads of the group. */
  sieve_tensor value_gradient;
  /** Float32 [batch, query heads, queries, 1]: gradient of the row factors n_i. Only with a row factor. */
  sieve_tensor row_factor_gradient;
  /** Float32 [batch, query heads, queries, 1]: gradient of the gate's logits. Only with a gate. */
  sieve_tensor gate_gradient;
  /** Device memory, one float for each query head: gradient of row_first; NULL = not wanted. */
  float *row_first_gradient;
  /** Device memory, one float for each query head: gradient of row_second; NULL = not wanted. */
  float *row_second_gradient;
} sieve_softmax_backward_arguments;

/** Bytes of workspace for sieve_softmax_backward; aligned to 256 bytes, not read before it is written. */
SIEVE_API int32_t sieve_softmax_backward_workspace(const sieve_context *context, const sieve_attention_problem *problem,
                                                   const sieve_softmax_backward_arguments *arguments, uint64_t *bytes);

/** Enqueues softmax attention, backward. Bitwise repeatable where problem.repeatability asks for it. */
SIEVE_API int32_t sieve_softmax_backward(const sieve_context *context, const sieve_attention_problem *problem,
                                         const sieve_softmax_backward_arguments *arguments, void *workspace,
                                         uint64_t workspace_bytes, void *stream);

/**
 * Softmax attention of a few new query rows against a cache of keys and values. The cache is contiguous, one tensor row
 * a key, or paged: then key and value hold pages, and page_table names the pages of each batch entry in order.
 * problem.key_lengths says how many keys of each entry are valid; the work adapts to it on the device, so a captured
 * graph replays with grown caches. The rows stand at the end of each entry's keys unless the problem says otherwise.
 */
typedef struct sieve_softmax_decode_arguments {
  /** sizeof(sieve_softmax_decode_arguments). */
  uint32_t struct_size;
  /** Parts in which the keys of one head are read side by side; 0 = chosen by the library. */
  int32_t splits;
  /** [batch, query heads, queries, head_dim], float16 or bfloat16; queries * query heads / key heads is at most 64. */
  sieve_tensor query;
  /** [batch, key heads, keys, head_dim], or [pages, key heads, page size, head_dim]; dtype of query. */
  sieve_tensor key;
  /** [batch, key heads, keys, value_dim], or [pages, key heads, page size, value_dim]; dtype of query. */
  sieve_tensor value;
  /** [batch, query heads, queries, value_dim], dtype of query or float32. */
  sieve_tensor output;
  /** Optional float32 [batch, query heads, queries, 1]. */
  sieve_tensor lse;
  /** Device memory, [batch, page_table_width] numbers of pages, those behind the valid keys unread; NULL = contiguous. */
  const int32_t *page_table;
  /** Pages of one batch entry in page_table; 0 without one. */
  int64_t page_table_width;
} sieve_softmax_decode_arguments;

/** Bytes of workspace for sieve_softmax_decode; aligned to 256 bytes, not read before it is written. */
SIEVE_API int32_t sieve_softmax_decode_workspace(const sieve_context *context, const sieve_attention_problem *problem,
                                                 const sieve_softmax_decode_arguments *arguments, uint64_t *bytes);

/** Enqueues softmax attention, decode. Bitwise repeatable for equal splits. */
SIEVE_API int32_t sieve_softmax_decode(const sieve_context *context, const sieve_attention_problem *problem,
                                       const sieve_softmax_decode_arguments *arguments, void *workspace,
                                       uint64_t workspace_bytes, void *stream);

/* ---------------------------------------------------------------- differential attention ----------------------------
 */

/**
 * Differential attention, first version, forward (arXiv 2410.05258).
 *
 *   s_t = scale * query_t[i] . key_t[j],   lse_t = ln sum_j exp(s_t),   O_t = sum_j exp(s_t - lse_t) value_j
 *   output_i = epilogue( O_1 - lambda O_2 ),   t = 1, 2,   j over the visible keys
 *
 * Query head h uses key and value head h / (query heads / key heads), stream t of both. The streams are tensors of their
 * own: interleaved heads and halves of the heads are strides. The paper's layer has norm = SIEVE_NORM_RMS, norm_eps =
 * 1e-5, a gain and output_scale = 1 - lambda_init. There is no row factor. A row without a visible key gives output 0
 * and both lse -infinity.
 */
typedef struct sieve_diff_forward_arguments {
  /** sizeof(sieve_diff_forward_arguments). */
  uint32_t struct_size;
  /** Must be zero. */
  int32_t reserved;
  /** [batch, query heads, queries, head_dim], float16 or bfloat16. */
  sieve_tensor query1;
  /** [batch, key heads, keys, head_dim], dtype of query1. */
  sieve_tensor key1;
  /** Second stream, like query1. */
  sieve_tensor query2;
  /** Second stream, like key1. */
  sieve_tensor key2;
  /** [batch, key heads, keys, value_dim], dtype of query1. */
  sieve_tensor value;
  /** [batch, query heads, queries, value_dim], dtype of query1 or float32. */
  sieve_tensor output;
  /** Optional float32 [batch, query heads, queries, 1]: natural logarithm of the first stream's sum of exponentials. */
  sieve_tensor lse1;
  /** The same of the second stream. */
  sieve_tensor lse2;
  /**
   * Optional, like output: O_1, which backward needs. float32 or dtype of query1; the difference is taken of what is
   * stored, so a 16-bit type rounds both streams before it.
   */
  sieve_tensor output1;
  /** O_2, of output1's dtype; absent exactly where output1 is. */
  sieve_tensor output2;
  /** Weight of the second stream; finite. */
  sieve_scalar lambda;
} sieve_diff_forward_arguments;

/** Bytes of workspace for sieve_diff_forward; aligned to 256 bytes, not read before it is written. */
SIEVE_API int32_t sieve_diff_forward_workspace(const sieve_context *context, const sieve_attention_problem *problem,
                                               const sieve_diff_forward_arguments *arguments, uint64_t *bytes);

/** Enqueues differential attention, forward. Bitwise repeatable. */
SIEVE_API int32_t sieve_diff_forward(const sieve_context *context, const sieve_attention_problem *problem,
                                     const sieve_diff_forward_arguments *arguments, void *workspace,
                                     uint64_t workspace_bytes, void *stream);

/**
 * Differential attention, first version, backward: gradients of a scalar whose derivative by output is output_gradient.
 * The problem is that of the forward call. Gradients are optional: data = NULL means not wanted.
 */
typedef struct sieve_diff_backward_arguments {
  /** sizeof(sieve_diff_backward_arguments). */
  uint32_t struct_size;
  /** Must be zero. */
  int32_t reserved;
  /** The input of the forward call. */
  sieve_tensor query1;
  /** The input of the forward call. */
  sieve_tensor key1;
  /** The input of the forward call. */
  sieve_tensor query2;
  /** The input of the forward call. */
  sieve_tensor key2;
  /** The input of the forward call. */
  sieve_tensor value;
  /** The result of the forward call. */
  sieve_tensor lse1;
  /** The result of the forward call. */
  sieve_tensor lse2;
  /** The result of the forward call; float32 where differences of nearly equal streams matter. */
  sieve_tensor output1;
  /** The result of the forward call, of output1's dtype. */
  sieve_tensor output2;
  /** [batch, query heads, queries, value_dim], dtype of query1. */
  sieve_tensor output_gradient;
  /** Like query1, dtype of query1 or float32. */
  sieve_tensor query1_gradient;
  /** Like key1, dtype of query1 or float32; summed over the query heads of the group. */
  sieve_tensor key1_gradient;
  /** Like query1_gradient. */
  sieve_tensor query2_gradient;
  /** Like key1_gradient. */
  sieve_tensor key2_gradient;
  /** Like value, dtype of query1 or float32; summed over the query heads of the group. */
  sieve_tensor value_gradient;
  /** Float32 [batch, query heads, queries, 1]: gradient of the gate's logits. Only with a gate. */
  sieve_tensor gate_gradient;
  /** The input of the forward call. */
  sieve_scalar lambda;
  /** Device memory: gradient of lambda, one float for each query head where lambda.head_stride is 1, else one float. */
  float *lambda_gradient;
  /** Device memory, one float for each value channel: gradient of the norm's gain. Only with SIEVE_NORM_RMS. */
  float *gain_gradient;
} sieve_diff_backward_arguments;

/** Bytes of workspace for sieve_diff_backward; aligned to 256 bytes, not read before it is written. */
SIEVE_API int32_t sieve_diff_backward_workspace(const sieve_context *context, const sieve_attention_problem *problem,
                                                const sieve_diff_backward_arguments *arguments, uint64_t *bytes);

/**
 * Enqueues differential attention, backward. The gradients of lambda, gain and gate are always bitwise repeatable, the
 * others where problem.repeatability asks for it.
 */
SIEVE_API int32_t sieve_diff_backward(const sieve_context *context, const sieve_attention_problem *problem,
                                      const sieve_diff_backward_arguments *arguments, void *workspace,
                                      uint64_t workspace_bytes, void *stream);

/**
 * Differential attention of a few new query rows against a cache that keeps two keys and one value, as
 * sieve_diff_forward computes the rows at their places. Cache, pages and lengths are those of
 * sieve_softmax_decode_arguments; both key tensors are divided into the same pages. Fastest where the keys of both streams
 * lie side by side (key2.data = key1.data + head_dim elements, equal strides), lse1 and lse2 are absent and twice the rows
 * of a key head are at most 64: then keys and values are read once for both streams, else the values twice.
 */
typedef struct sieve_diff_decode_arguments {
  /** sizeof(sieve_diff_decode_arguments). */
  uint32_t struct_size;
  /** Parts in which the keys of one head are read side by side; 0 = chosen by the library. */
  int32_t splits;
  /** [batch, query heads, queries, head_dim], float16 or bfloat16; queries * query heads / key heads is at most 64. */
  sieve_tensor query1;
  /** [batch, key heads, keys, head_dim], or [pages, key heads, page size, head_dim]; dtype of query1. */
  sieve_tensor key1;
  /** Second stream, like query1. */
  sieve_tensor query2;
  /** Second stream, like key1. */
  sieve_tensor key2;
  /** [batch, key heads, keys, value_dim], or [pages, key heads, page size, value_dim]; dtype of query1. */
  sieve_tensor value;
  /** [batch, query heads, queries, value_dim], dtype of query1 or float32. */
  sieve_tensor output;
  /** Optional float32 [batch, query heads, queries, 1]. */
  sieve_tensor lse1;
  /** Optional float32 [batch, query heads, queries, 1]. */
  sieve_tensor lse2;
  /** Weight of the second stream; finite. */
  sieve_scalar lambda;
  /** Device memory, [batch, page_table_width] numbers of pages, those behind the valid keys unread; NULL = contiguous. */
  const int32_t *page_table;
  /** Pages of one batch entry in page_table; 0 without one. */
  int64_t page_table_width;
} sieve_diff_decode_arguments;

/** Bytes of workspace for sieve_diff_decode; aligned to 256 bytes, not read before it is written. */
SIEVE_API int32_t sieve_diff_decode_workspace(const sieve_context *context, const sieve_attention_problem *problem,
                                              const sieve_diff_decode_arguments *arguments, uint64_t *bytes);

/** Enqueues differential attention, decode. Bitwise repeatable for equal splits. */
SIEVE_API int32_t sieve_diff_decode(const sieve_context *context, const sieve_attention_problem *problem,
                                    const sieve_diff_decode_arguments *arguments, void *workspace,
                                    uint64_t workspace_bytes, void *stream);

/* ---------------------------------------------------------------- differential attention, second version ------------
 */

/**
 * Differential attention, second version and grouped, forward: softmax heads in groups of `signals` signal heads and, last,
 * one noise head.
 *
 *   O_h as sieve_softmax_forward gives it, h over all query heads
 *   output_s = epilogue( O_s - sigmoid(lambda_logit_s) O_n ),   s a signal head, n the noise head of its group
 *
 * The query heads are a multiple of signals + 1 and of the key heads; query head h uses key and value head
 * h / (query heads / key heads), so a group may lie on more than one. The output heads are the signal heads in their
 * order. One signal is the second version; it has no norm. There is no row factor.
 */
typedef struct sieve_diff_v2_forward_arguments {
  /** sizeof(sieve_diff_v2_forward_arguments). */
  uint32_t struct_size;
  /** Signal heads of a noise head, 1 or more. */
  int32_t signals;
  /** [batch, query heads, queries, head_dim], float16 or bfloat16. */
  sieve_tensor query;
  /** [batch, key heads, keys, head_dim], dtype of query. */
  sieve_tensor key;
  /** [batch, key heads, keys, value_dim], dtype of query. */
  sieve_tensor value;
  /** Float32 [batch, output heads, queries, 1]; output heads = query heads / (signals + 1) * signals. */
  sieve_tensor lambda_logit;
  /** [batch, output heads, queries, value_dim], dtype of query or float32. */
  sieve_tensor output;
  /** Optional float32 [batch, query heads, queries, 1]: natural logarithm of the sum of exponentials. */
  sieve_tensor lse;
  /**
   * Optional [batch, query heads, queries, value_dim]: O_h, which backward needs. float32 or dtype of query; the
   * difference is taken of what is stored.
   */
  sieve_tensor outputs;
} sieve_diff_v2_forward_arguments;

/** Bytes of workspace for sieve_diff_v2_forward; aligned to 256 bytes, not read before it is written. */
SIEVE_API int32_t sieve_diff_v2_forward_workspace(const sieve_context *context, const sieve_attention_problem *problem,
                                                  const sieve_diff_v2_forward_arguments *arguments, uint64_t *bytes);

/** Enqueues differential attention, second version, forward. Bitwise repeatable. */
SIEVE_API int32_t sieve_diff_v2_forward(const sieve_context *context, const sieve_attention_problem *problem,
                                        const sieve_diff_v2_forward_arguments *arguments, void *workspace,
                                        uint64_t workspace_bytes, void *stream);

/**
 * Differential attention, second version and grouped, backward: gradients of a scalar whose derivative by output is
 * output_gradient. The problem is that of the forward call. Gradients are optional: data = NULL means not wanted.
 */
typedef struct sieve_diff_v2_backward_arguments {
  /** sizeof(sieve_diff_v2_backward_arguments). */
  uint32_t struct_size;
  /** That of the forward call. */
  int32_t signals;
  /** The input of the forward call. */
  sieve_tensor query;
  /** The input of the forward call. */
  sieve_tensor key;
  /** The input of the forward call. */
  sieve_tensor value;
  /** The input of the forward call. */
  sieve_tensor lambda_logit;
  /** The result of the forward call. */
  sieve_tensor lse;
  /** The result of the forward call. */
  sieve_tensor outputs;
  /** [batch, output heads, queries, value_dim], dtype of query. */
  sieve_tensor output_gradient;
  /** Like query, dtype of query or float32. */
  sieve_tensor query_gradient;
  /** Like key, dtype of query or float32; summed over the query heads that use it. */
  sieve_tensor key_gradient;
  /** Like value, dtype of query or float32; summed over the query heads that use it. */
  sieve_tensor value_gradient;
  /** Float32 [batch, output heads, queries, 1]. */
  sieve_tensor lambda_logit_gradient;
  /** Float32 [batch, output heads, queries, 1]: gradient of the gate's logits. Only with a gate. */
  sieve_tensor gate_gradient;
  /** Device memory, one float for each value channel: gradient of the norm's gain. Only with SIEVE_NORM_RMS. */
  float *gain_gradient;
} sieve_diff_v2_backward_arguments;

/** Bytes of workspace for sieve_diff_v2_backward; aligned to 256 bytes, not read before it is written. */
SIEVE_API int32_t sieve_diff_v2_backward_workspace(const sieve_context *context, const sieve_attention_problem *problem,
                                                   const sieve_diff_v2_backward_arguments *arguments, uint64_t *bytes);

/**
 * Enqueues differential attention, second version, backward. The gradients of logits, gain and gate are always bitwise
 * repeatable, the others where problem.repeatability asks for it.
 */
SIEVE_API int32_t sieve_diff_v2_backward(const sieve_context *context, const sieve_attention_problem *problem,
                                         const sieve_diff_v2_backward_arguments *arguments, void *workspace,
                                         uint64_t workspace_bytes, void *stream);

/**
 * Differential attention, second version and grouped, of a few new query rows against a cache, as sieve_diff_v2_forward
 * computes the rows at their places. Cache, pages and lengths are those of sieve_softmax_decode_arguments.
 */
typedef struct sieve_diff_v2_decode_arguments {
  /** sizeof(sieve_diff_v2_decode_arguments). */
  uint32_t struct_size;
  /** Parts in which the keys of one head are read side by side; 0 = chosen by the library. */
  int32_t splits;
  /** Signal heads of a noise head, 1 or more. */
  int32_t signals;
  /** Must be zero. */
  int32_t reserved;
  /** [batch, query heads, queries, head_dim], float16 or bfloat16; queries * query heads / key heads is at most 64. */
  sieve_tensor query;
  /** [batch, key heads, keys, head_dim], or [pages, key heads, page size, head_dim]; dtype of query. */
  sieve_tensor key;
  /** [batch, key heads, keys, value_dim], or [pages, key heads, page size, value_dim]; dtype of query. */
  sieve_tensor value;
  /** Float32 [batch, output heads, queries, 1]; output heads = query heads / (signals + 1) * signals. */
  sieve_tensor lambda_logit;
  /** [batch, output heads, queries, value_dim], dtype of query or float32. */
  sieve_tensor output;
  /** Optional float32 [batch, query heads, queries, 1]. */
  sieve_tensor lse;
  /** Device memory, [batch, page_table_width] numbers of pages, those behind the valid keys unread; NULL = contiguous. */
  const int32_t *page_table;
  /** Pages of one batch entry in page_table; 0 without one. */
  int64_t page_table_width;
} sieve_diff_v2_decode_arguments;

/** Bytes of workspace for sieve_diff_v2_decode; aligned to 256 bytes, not read before it is written. */
SIEVE_API int32_t sieve_diff_v2_decode_workspace(const sieve_context *context, const sieve_attention_problem *problem,
                                                 const sieve_diff_v2_decode_arguments *arguments, uint64_t *bytes);

/** Enqueues differential attention, second version, decode. Bitwise repeatable for equal splits. */
SIEVE_API int32_t sieve_diff_v2_decode(const sieve_context *context, const sieve_attention_problem *problem,
                                       const sieve_diff_v2_decode_arguments *arguments, void *workspace,
                                       uint64_t workspace_bytes, void *stream);

#ifdef __cplusplus
}
#endif

#endif /* SIEVE_ATTENTION_H */
