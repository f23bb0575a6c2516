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
  int index;   // of the packed sequence, or the batch entry

  __device__ static Sequence at(const ProblemView &problem, int index) {
    Sequence s;
    s.index = index;
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

// The order of tiles (a tile is a block of query rows of one head of one sequence). Heads are taken in groups whose
// keys and values stay in the level-2 cache together; within a group, tiles with most keys (the last rows, under a
// causal mask) come first, so that short ones fill the end.
struct TileOrder {
  int32_t query_blocks;  // of the longest sequence
  int32_t head_group;
};

// Bytes of keys and values that a group of heads may have: about a quarter of the level-2 cache of a large GPU.
constexpr int64_t kHeadGroupBytes = int64_t{16} << 20;

// `row_bytes` is what a key row of one head occupies in all tensors together.
inline TileOrder tile_order(const ProblemView &problem, int rows_per_tile, int row_bytes) {
  const int64_t head_bytes = static_cast<int64_t>(problem.keys) * row_bytes;
  const int64_t heads = static_cast<int64_t>(problem.query_heads) * problem.batch;
  const int64_t fitting = head_bytes > kHeadGroupBytes ? 1 : kHeadGroupBytes / head_bytes;
  const int64_t group = fitting * problem.group;
  return {(problem.queries + rows_per_tile - 1) / rows_per_tile, static_cast<int32_t>(group < heads ? group : heads)};
}

// What a tile computes.
struct BlockPlace {
  int query_block;
  int head;
  int sequence;

  __device__ static BlockPlace of(const ProblemView &problem, const TileOrder &order, int tile) {
    const int heads = problem.query_heads * problem.batch;
    const int first = tile / (order.query_blocks * order.head_group) * order.head_group;
    const int width = min(order.head_group, heads - first);
    const int in_group = tile - first * order.query_blocks;
    const int head = first + in_group % width;
    return {order.query_blocks - 1 - in_group / width, head % problem.query_heads, head / problem.query_heads};
  }
};

// The place of a thread block that computes one tile, read again at every use: cheap, and no register over a long loop.
struct PlaceOfBlock {
  const ProblemView &problem;
  const TileOrder &order;
  __device__ BlockPlace get() const { return BlockPlace::of(problem, order, ptx::ctaid_x()); }
};

// A place kept in registers, where a thread block computes many tiles.
struct KeptPlace {
  BlockPlace place;
  __device__ const BlockPlace &get() const { return place; }
};

}  // namespace sieve
