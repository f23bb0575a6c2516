// In how many parts decode reads the keys of a key head side by side: what device/decode_splits.h needs to know of this
// operator. The numbers are measurements of an H200, LADDER.md has them.
#pragma once

#include "device/decode_splits.h"
#include "sieve/attention.h"

namespace sieve::softmax {

// Thread blocks that run at once and are worth having. One of the Hopper path keeps a multiprocessor's copies going as
// long as each of its warps has the rows to itself (up to 16 packed rows: 125 us with one, 127 with two, of 537 MB);
// with more rows its arithmetic needs a second (64 rows of 64 channels: 385 us with one, 291 with two). A block of the
// generic path waits for its copies, so two take turns. `rows` are those of one key head: query rows x heads of the
// group.
inline int64_t decode_places(int32_t path, int64_t rows, int32_t multiprocessors) {
  return multiprocessors * (path == SIEVE_PATH_HOPPER && rows <= 16 ? 1 : 2);
}

}  // namespace sieve::softmax
