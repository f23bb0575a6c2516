// Where one sequence of a batch lies, and which keys its rows see.
#pragma once

#include "device/problem.h"
#include "device/ptx/math.h"

namespace sieve {

// Keys [first, end) of one query row; empty where end <= first. Rows are contiguous ranges under every mask of the
// problem.
struct KeyRange {
  int first;
  int end;
};

// One batch entry or one packed sequence.
struct Sequence {
  int batch;        // index into the batch dimension of the tensors
  int query_start;  // first row in the query tensor
  int key_start;    // first row in the key tensor
  int queries;
  int keys;
  int offset;  // position of query row 0

  __device__ static Sequence at(const ProblemView &problem, int index) {
    Sequence s;
    if (problem.query_starts != nullptr) {
      s.batch = 0;
      s.query_start = problem.query_starts[index];
      s.key_start = problem.key_starts[index];
      s.queries = problem.query_starts[index + 1] - s.query_start;
      s.keys = problem.key_starts[index + 1] - s.key_start;
    } else {
      s.batch = index;
      s.query_start = 0;
      s.key_start = 0;
      s.queries = problem.queries;
      s.keys = problem.key_lengths == nullptr ? problem.keys : min(problem.key_lengths[index], problem.keys);
    }
    s.offset = problem.align_end ? s.keys - s.queries : problem.query_offset;
    return s;
  }

  // Keys that row `row` of this sequence sees.
  __device__ KeyRange visible(const ProblemView &problem, int row) const {
    const int position = row + offset;
    const int first = problem.window > 0 ? position - problem.window + 1 : 0;
    const int end = problem.causal ? position + 1 : keys;
    return {max(min(first, keys), 0), max(min(end, keys), 0)};
  }
};

// What this thread block computes: a block of query rows of one head of one sequence. Blocks with most keys (the last
// rows, under a causal mask) start first, so that short ones fill the end of the launch.
struct BlockPlace {
  int query_block;
  int head;
  int sequence;

  __device__ static BlockPlace of(const ProblemView &problem, int query_blocks, int tile) {
    return {query_blocks - 1 - tile % query_blocks, tile / query_blocks % problem.query_heads,
            tile / query_blocks / problem.query_heads};
  }
};

// The place of a thread block that computes one tile, read again at every use: cheap, and no register over a long loop.
struct PlaceOfBlock {
  const ProblemView &problem;
  int query_blocks;
  __device__ BlockPlace get() const { return BlockPlace::of(problem, query_blocks, ptx::ctaid_x()); }
};

// A place kept in registers, where a thread block computes many tiles.
struct KeptPlace {
  BlockPlace place;
  __device__ const BlockPlace &get() const { return place; }
};

}  // namespace sieve
