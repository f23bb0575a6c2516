// Where a block of keys lies, for pipelines whose thread blocks own keys, and which query rows see it.
#pragma once

#include "device/padded_rows.h"

namespace sieve {

// A block of keys of one key head of one sequence. The first keys have most query rows under a causal mask.
struct KeyBlockPlace {
  int key_block;
  int key_head;
  int sequence;  // -1: no key of any sequence

  // Order of the blocks of `size` keys, of which `places` run at once. What a group of heads shares in the level-2 cache
  // are query rows, which all blocks pass in the same direction: they need not fit as a whole. A packed problem has
  // sequence s begin at block key_starts[s] / size + s of its heads.
  static HeadGroups order(const ProblemView &problem, int size, int places) {
    const bool packed = problem.query_starts != nullptr;
    return head_groups(packed ? problem.keys / size + problem.batch : (problem.keys + size - 1) / size,
                       static_cast<int64_t>(problem.query_heads) / problem.group * (packed ? 1 : problem.batch), 1,
                       kHeadGroupBytes, problem.causal, places);
  }

  // How many blocks there are.
  static int64_t count(const ProblemView &problem, const HeadGroups &order) {
    return static_cast<int64_t>(order.blocks) * (problem.query_heads / problem.group) *
           (problem.query_starts != nullptr ? 1 : problem.batch);
  }

  __device__ static KeyBlockPlace of(const ProblemView &problem, const HeadGroups &order, int size, int index) {
    const int key_heads = problem.query_heads / problem.group;
    if (problem.query_starts == nullptr) {
      const HeadGroups::Place place = order.of(index, key_heads * problem.batch);
      return {place.block, place.head % key_heads, place.head / key_heads};
    }
    const HeadGroups::Place place = order.of(index, key_heads);
    int sequence = 0;  // the last one that begins at or before the block
    for (int end = problem.batch; end - sequence > 1;) {
      const int middle = (sequence + end) / 2;
      if (problem.key_starts[middle] / size + middle <= place.block)
        sequence = middle;
      else
        end = middle;
    }
    const int first = problem.key_starts[sequence] / size + sequence;
    return {place.block - first, place.head, place.block < first ? -1 : sequence};
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
