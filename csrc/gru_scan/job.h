// What a kernel of the GRU recurrence is given; see memsuite/ops/scans/gru_scan.py. No torch here.
#pragma once

#include <cstdint>

namespace memsuite {

// out, states, candidates, grad and d_gn are [steps, batch, size]; gi, gates and d_gi [steps, batch, 3 size];
// weights and d_w [3 size, size], unless the binding says that they are transposed.
template <class T>
struct GruScanJob {
  int64_t steps, batch, size;
  const T *gi = nullptr, *h0 = nullptr, *states = nullptr, *weights = nullptr, *biases = nullptr, *grad = nullptr;
  const bool* reset = nullptr;
  T *out = nullptr, *gates = nullptr, *candidates = nullptr;
  T *d_gi = nullptr, *d_gn = nullptr, *d_h0 = nullptr, *d_w = nullptr, *d_b = nullptr;
  T* previous = nullptr;  // CUDA only: the states before each step, [steps, batch, size]
};

// Over environments [first, last). The forward pass reads weights that pack() has packed into packed_size() numbers,
// the backward pass those of a Packed<T>. The gradient of the weights is made after it, over tiles of outer_rows rows.
template <class T>
struct GruScanKernels {
  int64_t (*packed_size)(int64_t size);
  void (*pack)(T* packed, const T* weights, const T* biases, int64_t size);
  void (*forward)(const GruScanJob<T>&, const T* packed, int64_t first, int64_t last);
  void (*backward)(const GruScanJob<T>&, const T* packed, int64_t first, int64_t last);
  void (*weights)(const GruScanJob<T>&, int64_t first, int64_t last);
  int64_t outer_rows;
};

}  // namespace memsuite
