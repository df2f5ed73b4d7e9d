// pscan and the diagonal scan: one thread walks through time for each number of the state.
//
// They read and write each number once, so memory is what they cost: neighbouring threads take neighbouring numbers of
// a row, and a thread asks for the next steps' numbers before it works on these, as nothing but the state waits for
// anything.
#include "common.cuh"

namespace memsuite::cuda {
namespace {

// Calls read(i, t) for the kAhead steps from `begin` on of a walk, forwards or from the end, as far as there are steps.
template <bool Reverse, class Number, class Read>
__device__ inline void each_step(int64_t begin, int64_t steps, const Read& read) {
#pragma unroll
  for (int i = 0; i < kAhead<Number>; ++i) {
    const int64_t step = begin + i;
    if (step < steps) read(i, Reverse ? steps - 1 - step : step);
  }
}

template <class T>
struct PscanAhead {
  T x[kAhead<T>], y[kAhead<T>];
  bool erase[kAhead<T>];
};

template <class T>
__global__ void __launch_bounds__(kThreads) pscan_forward(PscanJob<T> job) {
  const int64_t column = int64_t(blockIdx.x) * blockDim.x + threadIdx.x, width = job.batch * job.size;
  if (column >= width) return;
  const int64_t b = column / job.size;
  PscanAhead<T> now, next;
  const auto fetch = [&](PscanAhead<T>& to, int64_t begin) {
    each_step<false, T>(begin, job.steps, [&](int i, int64_t t) {
      to.x[i] = job.x[t * width + column];
      to.erase[i] = job.reset[t * job.batch + b];
    });
  };
  T h = job.h0[column];
  fetch(now, 0);
  for (int64_t begin = 0; begin < job.steps; begin += kAhead<T>) {
    fetch(next, begin + kAhead<T>);
    each_step<false, T>(begin, job.steps, [&](int i, int64_t t) {
      h = tanh_of(now.erase[i] ? now.x[i] : now.x[i] + h);
      job.out[t * width + column] = h;
    });
    now = next;
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads) pscan_reverse(PscanJob<T> job) {
  const int64_t column = int64_t(blockIdx.x) * blockDim.x + threadIdx.x, width = job.batch * job.size;
  if (column >= width) return;
  const int64_t b = column / job.size;
  PscanAhead<T> now, next;
  const auto fetch = [&](PscanAhead<T>& to, int64_t begin) {
    each_step<true, T>(begin, job.steps, [&](int i, int64_t t) {
      to.x[i] = job.grad[t * width + column];
      to.y[i] = job.states[t * width + column];
      to.erase[i] = job.reset[t * job.batch + b];
    });
  };
  T back = 0;  // the gradient that the step after sends, erased by its reset
  fetch(now, 0);
  for (int64_t begin = 0; begin < job.steps; begin += kAhead<T>) {
    fetch(next, begin + kAhead<T>);
    each_step<true, T>(begin, job.steps, [&](int i, int64_t t) {
      const T d = (now.x[i] + back) * (T(1) - now.y[i] * now.y[i]);
      job.dx[t * width + column] = d;
      back = now.erase[i] ? T(0) : d;
    });
    now = next;
  }
  job.d_h0[column] = back;
}

// The diagonal scan over numbers that are real (Number = T) or complex (Number = Pair<T>).
template <class Number>
struct Diagonal {
  int64_t steps, batch, size;
  const Number *a, *x, *h0, *states, *grad;
  const bool* reset;
  Number *out, *d_a, *dx, *d_h0;
};

template <class Number>
struct DiagonalAhead {
  Number a[kAhead<Number>], x[kAhead<Number>], y[kAhead<Number>];
  bool erase[kAhead<Number>];
};

template <class Number, bool Constant>
__global__ void __launch_bounds__(kThreads) diagonal_forward(Diagonal<Number> job) {
  const int64_t column = int64_t(blockIdx.x) * blockDim.x + threadIdx.x, width = job.batch * job.size;
  if (column >= width) return;
  const int64_t b = column / job.size;
  const Number none = zero(job.a), decay = Constant ? job.a[column % job.size] : none;
  DiagonalAhead<Number> now, next;
  const auto fetch = [&](DiagonalAhead<Number>& to, int64_t begin) {
    each_step<false, Number>(begin, job.steps, [&](int i, int64_t t) {
      if (!Constant) to.a[i] = job.a[t * width + column];
      to.x[i] = job.x[t * width + column];
      to.erase[i] = job.reset[t * job.batch + b];
    });
  };
  Number h = job.h0[column];
  fetch(now, 0);
  for (int64_t begin = 0; begin < job.steps; begin += kAhead<Number>) {
    fetch(next, begin + kAhead<Number>);
    each_step<false, Number>(begin, job.steps, [&](int i, int64_t t) {
      h = carry(Constant ? decay : now.a[i], now.erase[i] ? none : h, now.x[i]);
      job.out[t * width + column] = h;
    });
    now = next;
  }
}

template <class Number, bool Constant>
__global__ void __launch_bounds__(kThreads) diagonal_reverse(Diagonal<Number> job) {
  const int64_t column = int64_t(blockIdx.x) * blockDim.x + threadIdx.x, width = job.batch * job.size;
  if (column >= width) return;
  const int64_t b = column / job.size;
  const Number none = zero(job.a), decay = Constant ? job.a[column % job.size] : none;
  DiagonalAhead<Number> now, next;
  const auto fetch = [&](DiagonalAhead<Number>& to, int64_t begin) {
    each_step<true, Number>(begin, job.steps, [&](int i, int64_t t) {
      if (!Constant) to.a[i] = job.a[t * width + column];
      to.x[i] = job.grad[t * width + column];
      to.y[i] = t == 0 ? job.h0[column] : job.states[(t - 1) * width + column];
      to.erase[i] = job.reset[t * job.batch + b];
    });
  };
  Number back = none, total = none;
  fetch(now, 0);
  for (int64_t begin = 0; begin < job.steps; begin += kAhead<Number>) {
    fetch(next, begin + kAhead<Number>);
    each_step<true, Number>(begin, job.steps, [&](int i, int64_t t) {
      const Number d = plus(now.x[i], back);
      const Number slope = conjugate_times(now.erase[i] ? none : now.y[i], d);
      job.dx[t * width + column] = d;
      if (Constant) {
        total = plus(total, slope);
      } else {
        job.d_a[t * width + column] = slope;
      }
      back = now.erase[i] ? none : conjugate_times(Constant ? decay : now.a[i], d);
    });
    now = next;
  }
  if (Constant) job.d_a[column] = total;
  job.d_h0[column] = back;
}

template <class Number, class T>
Diagonal<Number> as_numbers(const DiagonalJob<T>& job) {
  const auto in = [](const T* p) { return reinterpret_cast<const Number*>(p); };
  const auto out = [](T* p) { return reinterpret_cast<Number*>(p); };
  const int64_t size = job.size / int64_t(sizeof(Number) / sizeof(T));
  return {job.steps,     job.batch,    size,         in(job.a),    in(job.x),    in(job.h0),   in(job.states),
          in(job.grad), job.reset, out(job.out), out(job.d_a), out(job.dx), out(job.d_h0)};
}

template <class Number, class T>
int run_diagonal(const DiagonalJob<T>& given, bool reverse, void* stream) {
  const Diagonal<Number> job = as_numbers<Number>(given);
  const dim3 grid(blocks(job.batch * job.size, kThreads));
  if (reverse)
    return given.constant ? launch(diagonal_reverse<Number, true>, grid, kThreads, 0, stream, job)
                          : launch(diagonal_reverse<Number, false>, grid, kThreads, 0, stream, job);
  return given.constant ? launch(diagonal_forward<Number, true>, grid, kThreads, 0, stream, job)
                        : launch(diagonal_forward<Number, false>, grid, kThreads, 0, stream, job);
}

}  // namespace

const char* error_text(int code) { return cudaGetErrorString(static_cast<cudaError_t>(code)); }

template <class T>
int pscan(const PscanJob<T>& job, void* stream) {
  return launch(pscan_forward<T>, dim3(blocks(job.batch * job.size, kThreads)), kThreads, 0, stream, job);
}

template <class T>
int pscan_backward(const PscanJob<T>& job, void* stream) {
  return launch(pscan_reverse<T>, dim3(blocks(job.batch * job.size, kThreads)), kThreads, 0, stream, job);
}

template <class T>
int diagonal(const DiagonalJob<T>& job, bool complex, void* stream) {
  return complex ? run_diagonal<Pair<T>>(job, false, stream) : run_diagonal<T>(job, false, stream);
}

template <class T>
int diagonal_backward(const DiagonalJob<T>& job, T* total, bool complex, void* stream) {
  const int code = complex ? run_diagonal<Pair<T>>(job, true, stream) : run_diagonal<T>(job, true, stream);
  if (code != 0 || !job.constant) return code;
  return launch_sum_rows<T>(total, job.d_a, job.batch, job.size, stream);
}

template int pscan<float>(const PscanJob<float>&, void*);
template int pscan<double>(const PscanJob<double>&, void*);
template int pscan_backward<float>(const PscanJob<float>&, void*);
template int pscan_backward<double>(const PscanJob<double>&, void*);
template int diagonal<float>(const DiagonalJob<float>&, bool, void*);
template int diagonal<double>(const DiagonalJob<double>&, bool, void*);
template int diagonal_backward<float>(const DiagonalJob<float>&, float*, bool, void*);
template int diagonal_backward<double>(const DiagonalJob<double>&, double*, bool, void*);

}  // namespace memsuite::cuda
