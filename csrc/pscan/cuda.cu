// The pseudo-mamba scan: one thread per number of the state walks through time; see common/cuda_walk.cuh.
#include "common/cuda_walk.cuh"
#include "pscan/cuda.h"

namespace memsuite::cuda {
namespace {

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
  T back = 0;  // the gradient that the next step passes back, erased by its reset
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

}  // namespace

template <class T>
int pscan(const PscanJob<T>& job, void* stream) {
  return launch(pscan_forward<T>, dim3(blocks(job.batch * job.size, kThreads)), kThreads, 0, stream, job);
}

template <class T>
int pscan_backward(const PscanJob<T>& job, void* stream) {
  return launch(pscan_reverse<T>, dim3(blocks(job.batch * job.size, kThreads)), kThreads, 0, stream, job);
}

template int pscan<float>(const PscanJob<float>&, void*);
template int pscan<double>(const PscanJob<double>&, void*);
template int pscan_backward<float>(const PscanJob<float>&, void*);
template int pscan_backward<double>(const PscanJob<double>&, void*);

}  // namespace memsuite::cuda
