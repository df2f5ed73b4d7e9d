// The loops of one instruction set for a recurrence with several gates, such as the GRU and the LSTM. No torch here.
#pragma once

#include <cstdint>

namespace memsuite {

// Over environments [first, last). The forward pass reads weights that pack() has packed into packed_size() numbers,
// the backward pass reads the weights of a Packed<T>. The gradient of the weights is computed after it, over tiles of
// outer_rows rows.
template <class Job, class T>
struct GatedKernels {
  int64_t (*packed_size)(int64_t size);
  void (*pack)(T* packed, const T* weights, const T* biases, int64_t size);
  void (*forward)(const Job&, const T* packed, int64_t first, int64_t last);
  void (*backward)(const Job&, const T* packed, int64_t first, int64_t last);
  void (*weights)(const Job&, int64_t first, int64_t last);
  int64_t outer_rows;
};

}  // namespace memsuite
