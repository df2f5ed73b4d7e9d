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

// The rows that the filter sees at a step, and their number.
template <class T>
struct ConvView {
  Scratch<const T*> from;
  int64_t seen = 0;
  explicit ConvView(int64_t width) : from(width) {}

  void set(const ShortConvJob<T>& job, int64_t t, int64_t b) {
    seen = seen_behind(job, t, b);
    for (int64_t lag = 0; lag < seen; ++lag) from.data[lag] = conv_row(job, job.x, job.buffer, t - lag, b);
  }

  template <bool F>
  MEMSUITE_INLINE Vec<T> sum(const ShortConvJob<T>& job, int64_t i, int n) const {
    Vec<T> sum = load<F>(job.bias + i, n);
    for (int64_t lag = 0; lag < seen; ++lag)
      sum += load<F>(from.data[lag] + i, n) * load<F>(job.taps + lag * job.size + i, n);
    return sum;
  }
};

template <class T>
void conv_forward(const ShortConvJob<T>& job, int64_t first, int64_t last) {
  ConvView<T> view(job.width);
  for (int64_t t = 0; t < job.steps; ++t) {
    for (int64_t b = first; b < last; ++b) {
      view.set(job, t, b);
      T* y = job.y + (t * job.batch + b) * job.size;
      over<T>(job.size, [&](auto full, int64_t i, int n) __attribute__((always_inline)) {
        constexpr bool F = decltype(full)::value;
        const Vec<T> sum = view.template sum<F>(job, i, n);
        store<F>(y + i, job.silu ? sum * sigmoid<T>(sum) : sum, n);
      });
    }
  }
}

// The gradients of the sums at the last `width` steps, [width][batch of the range][size]: those that the gradient of an
// input needs.
template <class T>
struct ConvFlows {
  const int64_t width, first, batch, size;
  Scratch<T> memory;
  ConvFlows(const ShortConvJob<T>& job, int64_t first, int64_t last)
      : width(job.width),
        first(first),
        batch(last - first),
        size(job.size),
        memory(job.width * (last - first) * job.size) {}
  T* at(int64_t t, int64_t b) const { return memory.data + ((t % width) * batch + b - first) * size; }
};

// The gradient of the sum at step t, which goes to `flow`, to the gradients of the taps and to that of the bias.
template <class T>
MEMSUITE_INLINE void conv_sums(const ShortConvJob<T>& job, const ConvView<T>& view, const T* grad, T* flow, T* sums) {
  over<T>(job.size, [&](auto full, int64_t i, int n) __attribute__((always_inline)) {
    constexpr bool F = decltype(full)::value;
    Vec<T> d_sum = load<F>(grad + i, n);
    if (job.silu) {
      const Vec<T> sum = view.template sum<F>(job, i, n), sigma = sigmoid<T>(sum);
      d_sum *= sigma + sum * sigma * (splat<T>(1) - sigma);
    }
    store<F>(flow + i, d_sum, n);
    for (int64_t lag = 0; lag < view.seen; ++lag) {
      T* tap = sums + lag * job.size + i;
      store<F>(tap, load<F>(tap, n) + d_sum * load<F>(view.from.data[lag] + i, n), n);
    }
    T* bias = sums + job.width * job.size + i;
    store<F>(bias, load<F>(bias, n) + d_sum, n);
  });
}

// The gradient of the input at step t, from the gradients of the sums that saw it.
template <class T>
MEMSUITE_INLINE void conv_flow(const ShortConvJob<T>& job, const ConvFlows<T>& flows, int64_t t, int64_t b) {
  const int64_t seen = seen_ahead(job, t, b);
  T* to = conv_row(job, job.d_x, job.d_buffer, t, b);
  over<T>(job.size, [&](auto full, int64_t i, int n) __attribute__((always_inline)) {
    constexpr bool F = decltype(full)::value;
    Vec<T> sum = {};
    for (int64_t lag = t < 0 ? -t : 0; lag < seen; ++lag)
      sum += load<F>(flows.at(t + lag, b) + i, n) * load<F>(job.taps + lag * job.size + i, n);
    store<F>(to + i, sum, n);
  });
}

// Takes environments [first, last) from the last step to the first; sums [width + 1][size] gets the gradients of the
// taps and of the bias over them.
template <class T>
void conv_backward(const ShortConvJob<T>& job, T* sums, int64_t first, int64_t last) {
  ConvView<T> view(job.width);
  const ConvFlows<T> flows(job, first, last);
  memset(sums, 0, sizeof(T) * (job.width + 1) * job.size);
  for (int64_t t = job.steps - 1; t > -job.width; --t) {
    for (int64_t b = first; b < last; ++b) {
      if (t >= 0) {
        view.set(job, t, b);
        conv_sums(job, view, job.grad + (t * job.batch + b) * job.size, flows.at(t, b), sums);
      }
      conv_flow(job, flows, t, b);
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
