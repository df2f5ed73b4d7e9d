// The arguments of a kernel of one step of the matrix-state recurrence; see memsuite/ops/scans/matrix_step.py.
// No torch here.
#pragma once

#include <cstdint>

#include "matrix_scan/rule.h"

namespace memsuite {

// q is [batch, query_heads, keys], k [batch, key_heads, keys] and v [batch, heads, values]; query_heads and key_heads
// are either `heads`, or 1 where all heads share them. log_decay is [batch, heads, keys] if the channels of the keys
// decay on their own, else [batch, heads]. The states s and next are [batch, heads, keys, values]. beta [batch, heads]
// is null without the delta rule, erase and address [batch, heads, keys] without an edit. The gradients have the shapes
// of what they belong to.
template <class T>
struct MatrixStepJob {
  int64_t batch, heads, query_heads, key_heads, keys, values;
  bool channels;
  Rule rule;
  const T *q = nullptr, *k = nullptr, *v = nullptr, *log_decay = nullptr, *s = nullptr;
  const T *beta = nullptr, *erase = nullptr, *address = nullptr, *grad = nullptr, *grad_next = nullptr;
  T *y = nullptr, *next = nullptr;
  T *d_q = nullptr, *d_k = nullptr, *d_v = nullptr, *d_log_decay = nullptr, *d_s = nullptr;
  T *d_beta = nullptr, *d_erase = nullptr, *d_address = nullptr;
};

// Over rows [first, last) of the batch, indexed by the rule.
template <class T>
struct MatrixStepKernels {
  void (*forward[3])(const MatrixStepJob<T>&, int64_t first, int64_t last);
  void (*backward[3])(const MatrixStepJob<T>&, int64_t first, int64_t last);
};

}  // namespace memsuite
