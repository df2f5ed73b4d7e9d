// The GRU recurrence; see common/cuda_gated.cuh.
#include "common/cuda_gated.cuh"
#include "gru_scan/cuda.h"

namespace memsuite::cuda {
namespace {

template <class T>
struct GruForward {
  using Job = GruScanJob<T>;
  static constexpr int kGates = 3;
  T input[kGates];

  __device__ void read(const Job& job, int64_t t, int64_t index, int64_t unit) {
#pragma unroll
    for (int g = 0; g < kGates; ++g) input[g] = job.gi[((t * job.batch + index) * kGates + g) * job.size + unit];
  }

  __device__ T apply(const Job& job, int64_t t, int64_t index, int64_t unit, const T* g, T old) const {
    const int64_t D = job.size, row = t * job.batch + index;
    const T r = sigmoid_of(input[0] + g[0]), z = sigmoid_of(input[1] + g[1]);
    const T n = tanh_of(input[2] + r * g[2]);
    T* gates = job.gates + row * kGates * D + unit;
    gates[0] = r, gates[D] = z, gates[2 * D] = g[2];
    job.candidates[row * D + unit] = n;
    return n + z * (old - n);
  }
};

template <class T>
struct GruReverse {
  using Job = GruScanJob<T>;
  static constexpr int kGates = 3;
  T grad, r, z, g_n, n, old;

  __device__ void read(const Job& job, int64_t t, int64_t index, int64_t unit) {
    const int64_t D = job.size, row = t * job.batch + index;
    const T* gates = job.gates + row * kGates * D + unit;
    r = gates[0], z = gates[D], g_n = gates[2 * D];
    n = job.candidates[row * D + unit], grad = job.grad[row * D + unit];
    const T before = t == 0 ? job.h0[index * D + unit] : job.states[(row - job.batch) * D + unit];
    old = job.reset[row] ? T(0) : before;
  }

  __device__ T apply(const Job& job, int64_t t, int64_t index, int64_t unit, T back, T* d) const {
    const int64_t D = job.size, row = t * job.batch + index;
    const T flow = grad + back;
    const T d_n = flow * (T(1) - z) * (T(1) - n * n);
    d[0] = d_n * g_n * r * (T(1) - r), d[1] = flow * (old - n) * z * (T(1) - z), d[2] = d_n * r;
    T* d_gi = job.d_gi + row * kGates * D + unit;
    d_gi[0] = d[0], d_gi[D] = d[1], d_gi[2 * D] = d_n;
    job.d_gn[row * D + unit] = d[2];
    job.previous[row * D + unit] = old;
    return flow * z;
  }
};

}  // namespace

template <class T>
int gru_scan(const GruScanJob<T>& job, void* stream) {
  return run_forward<T, GruForward<T>>(job, stream);
}

template <class T>
int gru_scan_flow(const GruScanJob<T>& job, void* stream) {
  return run_reverse<T, GruReverse<T>>(job, stream);
}

template int gru_scan<float>(const GruScanJob<float>&, void*);
template int gru_scan<double>(const GruScanJob<double>&, void*);
template int gru_scan_flow<float>(const GruScanJob<float>&, void*);
template int gru_scan_flow<double>(const GruScanJob<double>&, void*);

}  // namespace memsuite::cuda
