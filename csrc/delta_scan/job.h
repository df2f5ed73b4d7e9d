// The arguments of a kernel of the edited matrix state; see memsuite/ops/scans/delta_scan.py. No torch here.
#pragma once

#include <cstdint>

namespace memsuite {

// q, k, log_decay, erase, address and their gradients are [steps, heads, keys]; v, y, grad and d_v [steps, heads,
// values], where `heads` counts those of all environments, `heads_each` in each. erase and address are null without an
// erasure. `states` holds the state before each chunk of time, [chunks, heads, keys, values].
template <class T>
struct DeltaScanJob {
  int64_t steps, batch, heads_each, keys, values, chunk;
  const T *q = nullptr, *k = nullptr, *v = nullptr, *log_decay = nullptr, *erase = nullptr, *address = nullptr;
  const T *s0 = nullptr, *grad = nullptr, *grad_last = nullptr;
  const bool* reset = nullptr;  // [steps, batch]
  T *y = nullptr, *states = nullptr, *last = nullptr;
  T *d_q = nullptr, *d_k = nullptr, *d_v = nullptr, *d_log_decay = nullptr, *d_erase = nullptr, *d_address = nullptr;
  T* d_s0 = nullptr;
};

// Over heads [first, last) of all environments; indexed by whether there is an erasure.
template <class T>
struct DeltaScanKernels {
  void (*forward[2])(const DeltaScanJob<T>&, int64_t first, int64_t last);
  void (*backward[2])(const DeltaScanJob<T>&, int64_t first, int64_t last);
};

}  // namespace memsuite
