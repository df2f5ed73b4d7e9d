// The selective scan of Mamba: every channel has N states with input-dependent decay and drive.
//
// The cost is one exponential per step, channel and state. The channels are along the lanes. A block of time is
// computed for one vector of channels before the next, so that its states stay in the first-level cache. The forward
// pass saves the state before each block, and the backward pass recomputes the states within the block.
#pragma once

#include "common/fold.h"
#include "common/offer.h"
#include "selective_scan/job.h"

namespace memsuite::MEMSUITE_LEVEL {

// A block of time of one environment, for channels [d, d + n).
template <class T>
struct Span {
  int64_t begin, end, b, d;
  int n;
};

// Transposes in [rows][columns] to out [columns][rows].
template <class T>
void swap_axes(T* out, const T* in, int64_t rows, int64_t columns) {
  for (int64_t i = 0; i < columns; ++i)
    for (int64_t k = 0; k < rows; ++k) out[i * rows + k] = in[k * columns + i];
}

// Advances state [N][D] through a block. Forward it writes y; backward it fills kept[step][N][3] with the decay and the
// states before and after each step.
template <class T, bool Full, bool Backward>
MEMSUITE_INLINE void selective_block(const SelectiveScanJob<T>& job, const T* a, T* state, Vec<T>* kept, Span<T> s) {
  const int64_t N = job.states_each, D = job.size;
  for (int64_t t = s.begin; t < s.end; ++t) {
    const int64_t row = t * job.batch + s.b;
    const bool erased = job.reset[row];
    const T *b = job.b + row * N, *c = job.c + row * N;
    const Vec<T> dt = load<Full>(job.dt + row * D + s.d, s.n);
    const Vec<T> write = dt * load<Full>(job.u + row * D + s.d, s.n);
    Vec<T> y = {};
    for (int64_t i = 0; i < N; ++i) {
      T* at = state + i * D + s.d;
      const Vec<T> decay = exp<T>(dt * load<Full>(a + i * D + s.d, s.n));
      const Vec<T> old = erased ? Vec<T>{} : load<Full>(at, s.n);
      const Vec<T> h = decay * old + write * splat<T>(b[i]);
      store<Full>(at, h, s.n);
      if constexpr (Backward) {
        Vec<T>* keep = kept + ((t - s.begin) * N + i) * 3;
        keep[0] = decay, keep[1] = old, keep[2] = h;
      } else {
        y += splat<T>(c[i]) * h;
      }
    }
    if constexpr (!Backward) store<Full>(job.y + row * D + s.d, y, s.n);
  }
}

template <class T>
void selective_forward(const SelectiveScanJob<T>& job, int64_t first, int64_t last) {
  const int64_t N = job.states_each, D = job.size;
  Scratch<T> a(N * D), state(N * D);
  swap_axes(a.data, job.a, D, N);
  for (int64_t b = first; b < last; ++b) {
    swap_axes(state.data, job.h0 + b * N * D, D, N);
    for (int64_t begin = 0, block = 0; begin < job.steps; begin += job.block, ++block) {
      const int64_t end = begin + job.block < job.steps ? begin + job.block : job.steps;
      memcpy(job.saved + (block * job.batch + b) * N * D, state.data, sizeof(T) * N * D);
      over<T>(D, [&](auto full, int64_t d, int n) __attribute__((always_inline)) {
        selective_block<T, decltype(full)::value, false>(job, a.data, state.data, nullptr, {begin, end, b, d, n});
      });
    }
    swap_axes(job.last + b * N * D, state.data, N, D);
  }
}

template <class T>
struct SelectiveFlow {
  const T* a;
  T *back, *d_a;            // [N][D] of this environment
  Vec<T>*kept, *d_b, *d_c;  // of the block: [step][N][3], [step][N]
};

// Takes a block in reverse, for channels [d, d + n): fills d_u and d_dt, and adds to d_b and d_c. The sums of d_b and
// d_c over lanes are computed later.
template <class T, bool Full>
MEMSUITE_INLINE void selective_flow(const SelectiveScanJob<T>& job, const SelectiveFlow<T>& f, Span<T> s) {
  const int64_t N = job.states_each, D = job.size;
  for (int64_t t = s.end - 1; t >= s.begin; --t) {
    const int64_t row = t * job.batch + s.b, step = t - s.begin;
    const bool erased = job.reset[row];
    const T *b = job.b + row * N, *c = job.c + row * N;
    const Vec<T> grad = load<Full>(job.grad + row * D + s.d, s.n);
    const Vec<T> dt = load<Full>(job.dt + row * D + s.d, s.n), u = load<Full>(job.u + row * D + s.d, s.n);
    const Vec<T> write = dt * u;
    Vec<T> d_write = {}, d_rate = {};
    for (int64_t i = 0; i < N; ++i) {
      const Vec<T>* kept = f.kept + (step * N + i) * 3;
      T *back = f.back + i * D + s.d, *d_a = f.d_a + i * D + s.d;
      const Vec<T> flow = load<Full>(back, s.n) + splat<T>(c[i]) * grad;
      const Vec<T> through = kept[0] * flow;
      const Vec<T> d_exponent = through * kept[1];
      f.d_c[step * N + i] += grad * kept[2];
      f.d_b[step * N + i] += write * flow;
      d_write += splat<T>(b[i]) * flow;
      d_rate += d_exponent * load<Full>(f.a + i * D + s.d, s.n);
      store<Full>(d_a, load<Full>(d_a, s.n) + d_exponent * dt, s.n);
      store<Full>(back, erased ? Vec<T>{} : through, s.n);
    }
    store<Full>(job.d_u + row * D + s.d, d_write * dt, s.n);
    store<Full>(job.d_dt + row * D + s.d, d_rate + d_write * u, s.n);
  }
}

// Takes environments [first, last); d_a [N][D] gets the sum over them.
template <class T>
void selective_backward(const SelectiveScanJob<T>& job, T* d_a, int64_t first, int64_t last) {
  const int64_t N = job.states_each, D = job.size;
  Scratch<T> a(N * D), state(N * D), back(N * D);
  Scratch<Vec<T>> kept(job.block * N * 3), d_b(job.block * N), d_c(job.block * N);
  swap_axes(a.data, job.a, D, N);
  memset(d_a, 0, sizeof(T) * N * D);
  const SelectiveFlow<T> flow{a.data, back.data, d_a, kept.data, d_b.data, d_c.data};
  for (int64_t b = first; b < last; ++b) {
    swap_axes(back.data, job.grad_last + b * N * D, D, N);
    for (int64_t block = (job.steps + job.block - 1) / job.block - 1; block >= 0; --block) {
      const int64_t begin = block * job.block;
      const int64_t end = begin + job.block < job.steps ? begin + job.block : job.steps;
      memcpy(state.data, job.saved + (block * job.batch + b) * N * D, sizeof(T) * N * D);
      memset(d_b.data, 0, sizeof(Vec<T>) * job.block * N);
      memset(d_c.data, 0, sizeof(Vec<T>) * job.block * N);
      over<T>(D, [&](auto full, int64_t d, int n) __attribute__((always_inline)) {
        constexpr bool F = decltype(full)::value;
        selective_block<T, F, true>(job, a.data, state.data, kept.data, {begin, end, b, d, n});
        selective_flow<T, F>(job, flow, {begin, end, b, d, n});
      });
      for (int64_t t = begin; t < end; ++t) {
        for (int64_t i = 0; i < N; ++i) {
          job.d_b[(t * job.batch + b) * N + i] = sum_in_order<T>(d_b.data[(t - begin) * N + i]);
          job.d_c[(t * job.batch + b) * N + i] = sum_in_order<T>(d_c.data[(t - begin) * N + i]);
        }
      }
    }
    swap_axes(job.d_h0 + b * N * D, back.data, N, D);
  }
}

template <class T>
struct Offer<SelectiveScanKernels<T>> {
  static constexpr SelectiveScanKernels<T> all() {
    SelectiveScanKernels<T> all{};
    all.forward = selective_forward<T>;
    all.backward = selective_backward<T>;
    return all;
  }
};
template const SelectiveScanKernels<float>& offered();
template const SelectiveScanKernels<double>& offered();

}  // namespace memsuite::MEMSUITE_LEVEL
