// Where one sequence of a batch lies, and which keys its rows see.
#pragma once

#include <algorithm>

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

// The order of pieces of work (blocks of the rows of a head of a sequence). Heads are taken in groups; within a group,
// block 0 of every head comes first, then block 1 of every head. The largest pieces are given the lowest numbers, so that
// small ones fill the end.
struct HeadGroups {
  int32_t blocks;  // of a head
  int32_t width;   // heads of a group
  struct Place {
    int head, block;
  };
  __device__ Place of(int index, int heads) const {
    const int first = index / (blocks * width) * width, present = min(width, heads - first);
    const int in_group = index - first * blocks;
    return {first + in_group % present, in_group / present};
  }
};

// Bytes that the heads of a group share and read again and again: about a quarter of the level-2 cache of a large GPU.
constexpr int64_t kHeadGroupBytes = int64_t{16} << 20;

// `heads` are shares of `sharing` neighbours each, which read the same `shared_bytes`. A group has as many shares as the
// cache holds. But where pieces differ in size (causal), it also needs enough of them: the largest piece of the last
// group ends last of all unless the others of that group, width * blocks * half of the largest, keep all `places` (thread
// blocks that run at once) busy as long. All groups have the same width where one of up
// to twice as many heads does that: a last group of few would have that end again.
inline HeadGroups head_groups(int64_t blocks, int64_t heads, int64_t sharing, int64_t shared_bytes, bool differ,
                              int64_t places) {
  const int64_t fitting = kHeadGroupBytes / std::max<int64_t>(shared_bytes, 1);
  const int64_t filling = differ ? (2 * places + blocks * sharing - 1) / (blocks * sharing) : 1;
  const int64_t shares = heads / sharing;
  const int64_t least = std::min(shares, std::max<int64_t>({1, fitting, filling}));
  int64_t width = least;
  while (shares % width != 0 && width < 2 * least) ++width;
  return {static_cast<int32_t>(blocks), static_cast<int32_t>(width * sharing)};
}

// The order of tiles: blocks of query rows, whose last see most keys under a causal mask.
using TileOrder = HeadGroups;

// `row_bytes` is what a key row of one head occupies in all tensors together.
inline TileOrder tile_order(const ProblemView &problem, int rows_per_tile, int row_bytes, int places) {
  return head_groups((problem.queries + rows_per_tile - 1) / rows_per_tile,
                     static_cast<int64_t>(problem.query_heads) * problem.batch, problem.group,
                     static_cast<int64_t>(problem.keys) * row_bytes, problem.causal, places);
}

// What a tile computes.
struct BlockPlace {
  int query_block;
  int head;
  int sequence;

  __device__ static BlockPlace of(const ProblemView &problem, const TileOrder &order, int tile) {
    const HeadGroups::Place place = order.of(tile, problem.query_heads * problem.batch);
    return {order.blocks - 1 - place.block, place.head % problem.query_heads, place.head / problem.query_heads};
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
