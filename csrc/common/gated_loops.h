// Shared by recurrences with several gates: their packed weights and the walk through time.
#pragma once

#include "common/gated_job.h"
#include "common/matmul.h"
#include "common/scan.h"
#include "common/weight_gradients.h"
#include "common/widening.h"

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

// Carries the gradients of a step's G gates, one row d_gi [G size] for each row of the batch, back to the states before
// it: back [rows][size] = d_gi W.
template <int G, class T>
void gated_flow(const T* const* d_gi, const T* packed, T* back, int64_t rows, int64_t size) {
  constexpr int64_t width = 2 * Simd<T>::lanes;
  for (int64_t column = 0; column < size; column += width) {
    const T* block = packed + column * G * size;
    const Widening<T> flow{d_gi, block, nullptr, nullptr, nullptr, back, G * size, size, column};
    over_rows<kFlowRows>(0, rows, flow);
  }
}

// Sets the rows [size] of `back` to zero where an episode begins at step t; `back` begins with row `first`.
template <class Job, class T>
void gated_erase(const Job& job, T* back, int64_t t, int64_t first, int64_t last) {
  for (int64_t b = first; b < last; ++b)
    if (job.reset[t * job.batch + b]) memset(back + (b - first) * job.size, 0, sizeof(T) * job.size);
}

// Fills tiles [first, last) of kOuterRows rows of d_w and d_b, where d_gi holds the gradients of all G gates.
template <int G, class Job>
void gated_weights(const Job& job, int64_t first, int64_t last) {
  const int64_t rows = G * job.size;
  const RowGradients<std::remove_reference_t<decltype(*job.d_gi)>> part{job.d_gi, rows, rows};
  outer_products(job.d_w, job.d_b, &part, rows, job.size, job.steps * job.batch, first, last,
                 [&](int64_t k) { return before(job, job.states, k / job.batch, k % job.batch); });
}

// The loops of a recurrence with G gates.
template <int G, class Job, class T>
constexpr GatedKernels<Job, T> gated_kernels(void (*forward)(const Job&, const T*, int64_t, int64_t),
                                             void (*backward)(const Job&, const T*, int64_t, int64_t),
                                             void (*weights)(const Job&, int64_t, int64_t)) {
  return {gates_packed_size<T, G>, pack_gates<T, G>, forward, backward, weights, kOuterRows};
}

}  // namespace memsuite::MEMSUITE_LEVEL
