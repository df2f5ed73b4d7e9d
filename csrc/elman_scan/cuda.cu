// Elman's recurrence; see common/cuda_gated.cuh.
#include "common/cuda_gated.cuh"
#include "elman_scan/cuda.h"

namespace memsuite::cuda {
namespace {

template <class T>
struct ElmanForward {
  using Job = ElmanScanJob<T>;
  static constexpr int kGates = 1;
  T input;

  __device__ void read(const Job& job, int64_t t, int64_t index, int64_t unit) {
    input = job.gi[(t * job.batch + index) * job.size + unit];
  }

  __device__ T apply(const Job&, int64_t, int64_t, int64_t, const T* a, T) const { return tanh_of(input + a[0]); }
};

template <class T>
struct ElmanReverse {
  using Job = ElmanScanJob<T>;
  static constexpr int kGates = 1;
  T grad, h;

  __device__ void read(const Job& job, int64_t t, int64_t index, int64_t unit) {
    const int64_t at = (t * job.batch + index) * job.size + unit;
    grad = job.grad[at], h = job.states[at];
  }

  __device__ T apply(const Job& job, int64_t t, int64_t index, int64_t unit, T back, T* d) const {
    d[0] = (grad + back) * (T(1) - h * h);
    job.d_gi[(t * job.batch + index) * job.size + unit] = d[0];
    return 0;
  }
};

}  // namespace

template <class T>
int elman_scan(const ElmanScanJob<T>& job, void* stream) {
  return run_forward<T, ElmanForward<T>>(job, stream);
}

template <class T>
int elman_scan_flow(const ElmanScanJob<T>& job, void* stream) {
  return run_reverse<T, ElmanReverse<T>>(job, stream);
}

template int elman_scan<float>(const ElmanScanJob<float>&, void*);
template int elman_scan<double>(const ElmanScanJob<double>&, void*);
template int elman_scan_flow<float>(const ElmanScanJob<float>&, void*);
template int elman_scan_flow<double>(const ElmanScanJob<double>&, void*);

}  // namespace memsuite::cuda
