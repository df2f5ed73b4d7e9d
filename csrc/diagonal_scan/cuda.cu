// The diagonal scan: one thread per number of the state walks through time; see common/cuda_walk.cuh.
#include "common/cuda_walk.cuh"
#include "diagonal_scan/cuda.h"

namespace memsuite::cuda {
namespace {

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
      const Number d_decay = conjugate_times(now.erase[i] ? none : now.y[i], d);
      job.dx[t * width + column] = d;
      if (Constant) {
        total = plus(total, d_decay);
      } else {
        job.d_a[t * width + column] = d_decay;
      }
      back = now.erase[i] ? none : conjugate_times(Constant ? decay : now.a[i], d);
    });
    now = next;
  }
  if (Constant) job.d_a[column] = total;
  job.d_h0[column] = back;
}

template <class Number, class T>
Diagonal<Number> as_numbers(const DiagonalScanJob<T>& job) {
  const auto in = [](const T* p) { return reinterpret_cast<const Number*>(p); };
  const auto out = [](T* p) { return reinterpret_cast<Number*>(p); };
  const int64_t size = job.size / int64_t(sizeof(Number) / sizeof(T));
  return {job.steps,    job.batch, size,         in(job.a),    in(job.x),   in(job.h0),   in(job.states),
          in(job.grad), job.reset, out(job.out), out(job.d_a), out(job.dx), out(job.d_h0)};
}

template <class Number, class T>
int run_diagonal(const DiagonalScanJob<T>& given, bool reverse, void* stream) {
  const Diagonal<Number> job = as_numbers<Number>(given);
  const dim3 grid(blocks(job.batch * job.size, kThreads));
  if (reverse)
    return given.constant ? launch(diagonal_reverse<Number, true>, grid, kThreads, 0, stream, job)
                          : launch(diagonal_reverse<Number, false>, grid, kThreads, 0, stream, job);
  return given.constant ? launch(diagonal_forward<Number, true>, grid, kThreads, 0, stream, job)
                        : launch(diagonal_forward<Number, false>, grid, kThreads, 0, stream, job);
}

}  // namespace

template <class T>
int diagonal_scan(const DiagonalScanJob<T>& job, void* stream) {
  return job.complex ? run_diagonal<Pair<T>>(job, false, stream) : run_diagonal<T>(job, false, stream);
}

template <class T>
int diagonal_scan_backward(const DiagonalScanJob<T>& job, void* stream) {
  const int code = job.complex ? run_diagonal<Pair<T>>(job, true, stream) : run_diagonal<T>(job, true, stream);
  if (code != 0 || !job.constant) return code;
  return launch_sum_rows<T>(job.d_a_total, job.d_a, job.batch, job.size, stream);
}

template int diagonal_scan<float>(const DiagonalScanJob<float>&, void*);
template int diagonal_scan<double>(const DiagonalScanJob<double>&, void*);
template int diagonal_scan_backward<float>(const DiagonalScanJob<float>&, void*);
template int diagonal_scan_backward<double>(const DiagonalScanJob<double>&, void*);

}  // namespace memsuite::cuda
