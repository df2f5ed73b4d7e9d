// The arguments of a kernel of the matrix-state recurrence; see memsuite/ops/scans/matrix_scan.py. No torch here.
#pragma once

#include <cstdint>

#include "matrix_scan/rule.h"

namespace memsuite {

// q is [steps, batch, query_heads, keys], k [steps, batch, key_heads, keys] and v [steps, batch, heads, values];
// query_heads and key_heads are either `heads`, or 1 where all heads share them. log_decay is [steps, batch, heads,
// keys] if the channels of the keys decay on their own, else [steps, batch, heads]. beta [steps, batch, heads] is null
// without the delta rule, erase and address [steps, batch, heads, keys] without an edit. `states` holds the state
// before each chunk of time, [chunks, batch, heads, keys, values].
template <class T>
struct MatrixScanJob {
  int64_t steps, batch, heads, query_heads, key_heads, keys, values, chunk;
  bool channels;
  Rule rule;
  const T *q = nullptr, *k = nullptr, *v = nullptr, *log_decay = nullptr, *s0 = nullptr;
  const T *beta = nullptr, *erase = nullptr, *address = nullptr, *grad = nullptr, *grad_last = nullptr;
  const bool* reset = nullptr;
  T *y = nullptr, *states = nullptr, *last = nullptr;
  T *d_q = nullptr, *d_k = nullptr, *d_v = nullptr, *d_log_decay = nullptr, *d_s0 = nullptr;
  T *d_beta = nullptr, *d_erase = nullptr, *d_address = nullptr;
};

// Indexed by whether the channels decay on their own, and by the rule; an edit has decays of channels. Forward: heads
// [first, last) of batch x heads. Backward: groups of `together` such heads, which one thread takes in order because
// they share a gradient.
template <class T>
struct MatrixScanKernels {
  void (*forward[2][3])(const MatrixScanJob<T>&, int64_t first, int64_t last);
  void (*backward[2][3])(const MatrixScanJob<T>&, int64_t together, int64_t first, int64_t last);
};

}  // namespace memsuite
