// The short causal convolution of many models, with one filter per channel, cut where an episode begins.
//
// Memory traffic determines its cost: a row of the output reads a few rows of the input, and all but one of these are
// still in the cache.
#pragma once

#include "common/offer.h"
#include "short_conv/job.h"

namespace memsuite::MEMSUITE_LEVEL {

// The row of step t of an environment; steps before the first are in the buffer.
template <class T, class Number>
MEMSUITE_INLINE Number* conv_row(const ShortConvJob<T>& job, Number* steps, Number* buffer, int64_t t, int64_t b) {
  const int64_t lags = job.width - 1;
  return t >= 0 ? steps + (t * job.batch + b) * job.size : buffer + (b * lags + lags + t) * job.size;
}

template <class T>
MEMSUITE_INLINE bool begins(const ShortConvJob<T>& job, int64_t t, int64_t b) {
  return t >= 0 && job.reset[t * job.batch + b];
}

// The number of steps t, t - 1, .. that a filter sees at step t: those since the episode began.
template <class T>
MEMSUITE_INLINE int64_t seen_behind(const ShortConvJob<T>& job, int64_t t, int64_t b) {
  int64_t count = 1;
  while (count < job.width && !begins(job, t - count + 1, b)) ++count;
  return count;
}

// The number of steps t, t + 1, .. that see step t: those up to the end or the next beginning.
template <class T>
MEMSUITE_INLINE int64_t seen_ahead(const ShortConvJob<T>& job, int64_t t, int64_t b) {
  int64_t count = 1;
  while (count < job.width && t + count < job.steps && !begins(job, t + count, b)) ++count;
  return count;
}

template <class T>
void conv_forward(const ShortConvJob<T>& job, int64_t first, int64_t last) {
  Scratch<const T*> from(job.width);
  for (int64_t t = 0; t < job.steps; ++t) {
    for (int64_t b = first; b < last; ++b) {
      const int64_t seen = seen_behind(job, t, b);
      for (int64_t lag = 0; lag < seen; ++lag) from.data[lag] = conv_row(job, job.x, job.buffer, t - lag, b);
      T* y = job.y + (t * job.batch + b) * job.size;
      over<T>(job.size, [&](auto full, int64_t i, int n) __attribute__((always_inline)) {
        constexpr bool F = decltype(full)::value;
        Vec<T> sum = load<F>(job.bias + i, n);
        for (int64_t lag = 0; lag < seen; ++lag)
          sum += load<F>(from.data[lag] + i, n) * load<F>(job.taps + lag * job.size + i, n);
        store<F>(y + i, sum, n);
      });
    }
  }
}

// The gradient of the input at step t.
template <class T>
MEMSUITE_INLINE void conv_flow(const ShortConvJob<T>& job, int64_t t, int64_t b) {
  const int64_t seen = seen_ahead(job, t, b);
  T* to = conv_row(job, job.d_x, job.d_buffer, t, b);
  over<T>(job.size, [&](auto full, int64_t i, int n) __attribute__((always_inline)) {
    constexpr bool F = decltype(full)::value;
    Vec<T> sum = {};
    for (int64_t lag = t < 0 ? -t : 0; lag < seen; ++lag) {
      const T* grad = job.grad + ((t + lag) * job.batch + b) * job.size;
      sum += load<F>(grad + i, n) * load<F>(job.taps + lag * job.size + i, n);
    }
    store<F>(to + i, sum, n);
  });
}

// Takes environments [first, last); sums [width + 1][size] gets the gradients of the taps and of the bias over them.
template <class T>
void conv_backward(const ShortConvJob<T>& job, T* sums, int64_t first, int64_t last) {
  Scratch<const T*> from(job.width);
  memset(sums, 0, sizeof(T) * (job.width + 1) * job.size);
  for (int64_t t = 1 - job.width; t < job.steps; ++t) {
    for (int64_t b = first; b < last; ++b) {
      conv_flow(job, t, b);
      if (t < 0) continue;
      const int64_t seen = seen_behind(job, t, b);
      for (int64_t lag = 0; lag < seen; ++lag) from.data[lag] = conv_row(job, job.x, job.buffer, t - lag, b);
      const T* grad = job.grad + (t * job.batch + b) * job.size;
      over<T>(job.size, [&](auto full, int64_t i, int n) __attribute__((always_inline)) {
        constexpr bool F = decltype(full)::value;
        const Vec<T> flow = load<F>(grad + i, n);
        for (int64_t lag = 0; lag < seen; ++lag) {
          T* tap = sums + lag * job.size + i;
          store<F>(tap, load<F>(tap, n) + flow * load<F>(from.data[lag] + i, n), n);
        }
        T* bias = sums + job.width * job.size + i;
        store<F>(bias, load<F>(bias, n) + flow, n);
      });
    }
  }
}

template <class T>
struct Offer<ShortConvKernels<T>> {
  static constexpr ShortConvKernels<T> all() {
    ShortConvKernels<T> all{};
    all.forward = conv_forward<T>;
    all.backward = conv_backward<T>;
    return all;
  }
};
template const ShortConvKernels<float>& offered();
template const ShortConvKernels<double>& offered();

}  // namespace memsuite::MEMSUITE_LEVEL
