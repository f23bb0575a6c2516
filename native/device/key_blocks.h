// Where a block of keys lies, for pipelines whose thread blocks own keys, and which query rows see it.
#pragma once

#include "device/padded_rows.h"

namespace sieve {

// A block of keys of one key head of one sequence. Blocks of a head follow one another, so that those which run side by
// side share their queries in the level-2 cache.
struct KeyBlockPlace {
  int key_block;
  int key_head;
  int sequence;  // -1: no key of any sequence

  // Key blocks of one head, all sequences together. Sequence s of a packed problem begins at block key_starts[s] / size
  // + s of them.
  __host__ __device__ static int64_t blocks_of_head(const ProblemView &problem, int size) {
    return problem.query_starts != nullptr ? static_cast<int64_t>(problem.keys / size) + problem.batch
                                           : static_cast<int64_t>((problem.keys + size - 1) / size) * problem.batch;
  }

  __device__ static KeyBlockPlace of(const ProblemView &problem, int size, int index) {
    const int key_heads = problem.query_heads / problem.group;
    if (problem.query_starts == nullptr) {
      const int blocks = (problem.keys + size - 1) / size;
      return {index % blocks, index / blocks % key_heads, index / blocks / key_heads};
    }
    const int blocks = problem.keys / size + problem.batch;
    const int block = index % blocks;
    int sequence = 0;  // the last one that begins at or before the block
    for (int end = problem.batch; end - sequence > 1;) {
      const int middle = (sequence + end) / 2;
      if (problem.key_starts[middle] / size + middle <= block)
        sequence = middle;
      else
        end = middle;
    }
    const int first = problem.key_starts[sequence] / size + sequence;
    return {block - first, index / blocks, block < first ? -1 : sequence};
  }
};

// Query rows [first, end) of which one may see a key of [first_key, end_key); empty where end <= first.
struct RowRange {
  int first;
  int end;
};

__device__ inline RowRange rows_that_see(const ProblemView &problem, const Sequence &sequence, int first_key,
                                         int end_key) {
  if (first_key >= end_key) return {0, 0};
  const int first = problem.causal ? max(first_key - sequence.offset, 0) : 0;
  const int end =
      problem.window > 0 ? min(end_key - 1 + problem.window - sequence.offset, sequence.queries) : sequence.queries;
  return {first, end};
}

// Blocks of keys after `key_block` that also visit the query rows [first_row, first_row + rows): the turn of this
// block, where the last one begins.
__device__ inline int blocks_behind(const ProblemView &problem, const Sequence &sequence, int key_block, int size,
                                    int first_row, int rows) {
  const int last_row = min(first_row + rows, sequence.queries) - 1;
  return (sequence.visible(problem, last_row).end - 1) / size - key_block;
}

}  // namespace sieve
