// Shared by recurrences with several gates: their packed weights and the walk through time.
#pragma once

#include "common/matmul.h"
#include "common/scan.h"

namespace memsuite::MEMSUITE_LEVEL {

// Packs the weights [G D, D] of G gates into packed[block of units][D + 1][G][lanes]: first the biases, then the
// columns.
template <class T, int G>
void pack_gates(T* packed, const T* weights, const T* biases, int64_t size) {
  constexpr int L = Simd<T>::lanes;
  for (int64_t unit = 0; unit < size; unit += L) {
    T* block = packed + unit * G * (size + 1);
    const int count = size - unit < L ? static_cast<int>(size - unit) : L;
    memset(block, 0, sizeof(T) * G * L * (size + 1));
    for (int g = 0; g < G; ++g) {
      const T* bias = biases + g * size + unit;
      const T* from = weights + (g * size + unit) * size;
      T* to = block + g * L;
      for (int l = 0; l < count; ++l) to[l] = bias[l];
      for (int64_t k = 0; k < size; ++k) {
        to += G * L;
        for (int l = 0; l < count; ++l) to[l] = from[l * size + k];
      }
    }
  }
}

template <class T, int G>
int64_t gates_packed_size(int64_t size) {
  return G * (size + 1) * round_up<Simd<T>::lanes>(size);
}

// Runs a recurrence of G gates over rows [first, last) of the batch, from the first step to the last. At each step of
// time a Step computes every block of units, in tiles of at most `Most` rows.
template <int G, int Most, class Step, class Job, class T>
void gated_walk(const Job& job, const T* packed, int64_t first, int64_t last) {
  constexpr int L = Simd<T>::lanes;
  Scratch<T> zeros(job.size);
  Scratch<const T*> rows(last - first);
  memset(zeros.data, 0, sizeof(T) * job.size);
  for (int64_t t = 0; t < job.steps; ++t) {
    for (int64_t b = first; b < last; ++b) {
      const T* h = before(job, job.out, t, b);
      rows.data[b - first] = h == nullptr ? zeros.data : h;
    }
    for (int64_t unit = 0; unit < job.size; unit += L) {
      const int count = job.size - unit < L ? static_cast<int>(job.size - unit) : L;
      const Step step{job, rows.data, packed + unit * G * (job.size + 1), t, first, unit, count};
      over_rows<Most>(first, last, step);
    }
  }
}

}  // namespace memsuite::MEMSUITE_LEVEL
