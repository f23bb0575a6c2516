// What a thread block that owns a block of keys has to do: the query tiles that see them.
#pragma once

#include "device/key_blocks.h"

namespace sieve {

template <int kQueryBlock, int kKeyBlock>
struct KeyBlockWork {
  KeyBlockPlace place;
  Sequence sequence;
  int first_key;
  int first_tile, tiles;
  int64_t padded_row;  // of query row 0 of the sequence

  // False where the block belongs to no sequence.
  __device__ static bool find(const ProblemView &problem, const HeadGroups &order, int index, KeyBlockWork &work) {
    work.place = KeyBlockPlace::of(problem, order, kKeyBlock, index);
    if (work.place.sequence < 0) return false;
    work.sequence = Sequence::at(problem, work.place.sequence);
    work.first_key = work.place.key_block * kKeyBlock;
    if (problem.key_starts != nullptr && work.first_key >= work.sequence.keys) return false;
    work.padded_row = PaddedRows::first(problem, work.sequence, work.place.sequence);
    const RowRange rows = rows_that_see(problem, work.sequence, work.first_key,
                                        min(work.first_key + kKeyBlock, work.sequence.keys));
    work.first_tile = rows.first / kQueryBlock;
    work.tiles = rows.first < rows.end ? (rows.end + kQueryBlock - 1) / kQueryBlock - work.first_tile : 0;
    return true;
  }

  // Whether some row of the tile does not see some key of the block.
  __device__ bool is_masked(const ProblemView &problem, int tile) const {
    const int top = tile * kQueryBlock, bottom = top + kQueryBlock - 1;
    return bottom >= sequence.queries || sequence.visible(problem, bottom).first > first_key ||
           sequence.visible(problem, top).end < first_key + kKeyBlock;
  }

  // Thread blocks that add to the sums of these rows before this one, where the last keys begin.
  __device__ int turn(const ProblemView &problem, int tile) const {
    return blocks_behind(problem, sequence, place.key_block, kKeyBlock, tile * kQueryBlock, kQueryBlock);
  }
};

}  // namespace sieve
