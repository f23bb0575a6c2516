// What the backward pipelines share: thread blocks own key blocks and visit the query tiles that see them.
#pragma once

#include "device/problem.h"
#include "device/sequence.h"

namespace sieve {

// Numbers that belong to query rows, in arrays [query heads][padded rows]. Sequences begin at multiples of kPaddedRows,
// so that whole tiles can be read: packed sequence s at tile query_starts[s] / kPaddedRows + s, batch entry b of any
// other problem at tile b * ceil(queries / kPaddedRows).
constexpr int kPaddedRows = 128;

__host__ __device__ inline int64_t padded_rows(int64_t tensor_batch, int64_t query_rows, int64_t packed_sequences) {
  const int64_t tiles = packed_sequences > 0 ? query_rows / kPaddedRows + packed_sequences
                                             : tensor_batch * ((query_rows + kPaddedRows - 1) / kPaddedRows);
  return tiles * kPaddedRows;
}

__device__ inline int64_t padded_start(const ProblemView &problem, const Sequence &sequence, int index) {
  const int64_t tile = problem.query_starts != nullptr
                           ? sequence.query_start / kPaddedRows + index
                           : static_cast<int64_t>(index) * ((problem.queries + kPaddedRows - 1) / kPaddedRows);
  return tile * kPaddedRows;
}

// A tile of padded rows of one head of one sequence, for kernels whose thread blocks take one each. `tiles` of the
// longest sequence.
struct PaddedTile {
  int first_row;  // of the sequence
  int head;
  int sequence;

  __device__ static PaddedTile of(const ProblemView &problem, int tiles, int number) {
    return {number % tiles * kPaddedRows, number / tiles % problem.query_heads, number / tiles / problem.query_heads};
  }
};

// The key block of a thread block. Packed sequences are cut like the padded rows above: the number of key blocks is
// known without their lengths, and some stay empty.
struct KeyPlace {
  int block;
  int key_head;
  int index;  // of the sequence

  // `blocks` a head, all packed sequences together. `reversed`: the last keys of a sequence first.
  template <int kKeyBlock>
  __device__ static KeyPlace of(const ProblemView &problem, int blocks, bool reversed, int number) {
    const int key_heads = problem.query_heads / problem.group;
    int block = number % blocks;
    if (reversed) block = blocks - 1 - block;
    const int key_head = number / blocks % key_heads;
    if (problem.key_starts == nullptr) return {block, key_head, number / blocks / key_heads};
    int low = 0, high = problem.batch - 1;  // the last sequence that begins at or before this block
    while (low < high) {
      const int middle = (low + high + 1) / 2;
      if (problem.key_starts[middle] / kKeyBlock + middle <= block)
        low = middle;
      else
        high = middle - 1;
    }
    return {block - (problem.key_starts[low] / kKeyBlock + low), key_head, low};
  }
};

template <int kKeyBlock>
__host__ __device__ inline int64_t key_blocks(int64_t key_rows, int64_t packed_sequences) {
  return packed_sequences > 0 ? key_rows / kKeyBlock + packed_sequences : (key_rows + kKeyBlock - 1) / kKeyBlock;
}

// What a thread block does: the query tiles that see a key of its block. Ranges of keys do not decrease from row to
// row, so these tiles are neighbours.
template <int kQueryBlock, int kKeyBlock>
struct KeyBlockWork {
  KeyPlace place;
  Sequence sequence;
  int first_key;
  int first_tile, tiles;
  int64_t padded_row;  // of query row 0 of the sequence

  __device__ static KeyBlockWork of(const ProblemView &p, const KeyPlace &place) {
    KeyBlockWork w;
    w.place = place;
    w.sequence = Sequence::at(p, place.index);
    w.first_key = place.block * kKeyBlock;
    w.first_tile = w.tiles = 0;
    w.padded_row = padded_start(p, w.sequence, place.index);
    const int last_key = min(w.first_key + kKeyBlock, w.sequence.keys) - 1;
    int top = 0, bottom = w.sequence.queries - 1;
    if (p.causal) top = max(top, w.first_key - w.sequence.offset);
    if (p.window > 0) bottom = min(bottom, last_key - w.sequence.offset + p.window - 1);
    if (last_key < w.first_key || bottom < top) return w;
    w.first_tile = top / kQueryBlock;
    w.tiles = bottom / kQueryBlock + 1 - w.first_tile;
    return w;
  }

  // Whether some row of the tile does not see some key of the block.
  __device__ bool is_masked(const ProblemView &problem, int tile) const {
    const int top = tile * kQueryBlock, bottom = top + kQueryBlock - 1;
    return bottom >= sequence.queries || sequence.visible(problem, bottom).first > first_key ||
           sequence.visible(problem, top).end < first_key + kKeyBlock;
  }

  // Key blocks that visit the tile before this one, in the order of the blocks or in the reverse.
  __device__ int rank(const ProblemView &problem, int tile, bool reversed) const {
    if (!reversed) return place.block - sequence.visible(problem, tile * kQueryBlock).first / kKeyBlock;
    const int bottom = min((tile + 1) * kQueryBlock, sequence.queries) - 1;
    return (sequence.visible(problem, bottom).end - 1) / kKeyBlock - place.block;
  }
};

}  // namespace sieve
