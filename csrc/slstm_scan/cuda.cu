// The sLSTM recurrence; see common/cuda_gated.cuh.
//
// Only h, which the products take, is in shared memory. Of the cell, the normaliser and the stabiliser a thread reads
// in a step what it has itself written in the one before, and backward the same of the gradients of the first ones.
#include "common/cuda_gated.cuh"
#include "slstm_scan/cuda.h"

namespace memsuite::cuda {
namespace {

__device__ inline float log1p_of(float x) { return log1pf(x); }
__device__ inline double log1p_of(double x) { return log1p(x); }

// log(sigmoid(x)) = min(x, 0) - log(1 + exp(-|x|)).
template <class T>
__device__ inline T log_sigmoid_of(T x) {
  return (T(0) < x ? T(0) : x) - log1p_of(exp_of(x < T(0) ? x : -x));
}

// A part of the state before step t, given what it was first and after each step; zero where a reset erased it.
template <class T>
__device__ inline T part_before(const SlstmScanJob<T>& job, const T* begin, const T* after, int64_t t, int64_t index,
                                int64_t unit) {
  const int64_t D = job.size, row = t * job.batch + index;
  if (job.reset[row]) return 0;
  return t == 0 ? begin[index * D + unit] : after[(row - job.batch) * D + unit];
}

template <class T>
struct SlstmForward {
  using Job = SlstmScanJob<T>;
  static constexpr int kGates = 4;
  T input[kGates], old_c, old_n, old_m;

  __device__ void read(const Job& job, int64_t t, int64_t index, int64_t unit) {
#pragma unroll
    for (int g = 0; g < kGates; ++g) input[g] = job.gi[((t * job.batch + index) * kGates + g) * job.size + unit];
    old_c = part_before<T>(job, job.c0, job.cells, t, index, unit);
    old_n = part_before<T>(job, job.n0, job.totals, t, index, unit);
    old_m = part_before<T>(job, job.m0, job.peaks, t, index, unit);
  }

  __device__ T apply(const Job& job, int64_t t, int64_t index, int64_t unit, const T* a, T) const {
    const int64_t D = job.size, row = t * job.batch + index, at = row * D + unit;
    const T a_i = input[0] + a[0], a_f = input[1] + a[1];
    const T z = tanh_of(input[2] + a[2]), o = sigmoid_of(input[3] + a[3]);
    const T kept = log_sigmoid_of(a_f) + old_m;
    const bool fresh = old_n == T(0);  // nothing was written yet, so this input alone counts
    const T peak = fresh || kept < a_i ? a_i : kept;
    const T i = exp_of(a_i - peak), f = fresh ? T(0) : exp_of(kept - peak);
    const T cell = f * old_c + i * z, total = f * old_n + i;
    T* gates = job.gates + row * 5 * D + unit;
    gates[0] = i, gates[D] = f, gates[2 * D] = z, gates[3 * D] = o, gates[4 * D] = sigmoid_of(-a_f);
    job.cells[at] = cell, job.totals[at] = total, job.peaks[at] = peak;
    return o * cell / total;
  }
};

template <class T>
struct SlstmReverse {
  using Job = SlstmScanJob<T>;
  static constexpr int kGates = 4;
  T grad, grad_c, grad_n, i, f, z, o, unkept, h, total, old_c, old_n;  // grad_c, grad_n: over t + 1, and from outside

  __device__ void read(const Job& job, int64_t t, int64_t index, int64_t unit) {
    const int64_t D = job.size, row = t * job.batch + index, at = row * D + unit;
    const T* gates = job.gates + row * 5 * D + unit;
    i = gates[0], f = gates[D], z = gates[2 * D], o = gates[3 * D], unkept = gates[4 * D];
    grad = job.grad[at], h = job.states[at], total = job.totals[at];
    old_c = part_before<T>(job, job.c0, job.cells, t, index, unit);
    old_n = part_before<T>(job, job.n0, job.totals, t, index, unit);
    const bool last = t + 1 == job.steps;
    grad_c = last ? T(0) : job.d_c0[index * D + unit], grad_n = last ? T(0) : job.d_n0[index * D + unit];
    if (job.grad_cells != nullptr) grad_c += job.grad_cells[at];
    if (job.grad_totals != nullptr) grad_n += job.grad_totals[at];
  }

  // No gradient goes through the stabiliser, on which the output does not depend.
  __device__ T apply(const Job& job, int64_t t, int64_t index, int64_t unit, T back, T* d) const {
    const int64_t D = job.size, row = t * job.batch + index;
    const T d_h = grad + back, d_c = grad_c + d_h * o / total, d_n = grad_n - d_h * h / total;
    d[0] = (d_c * z + d_n) * i, d[1] = (d_c * old_c + d_n * old_n) * f * unkept;
    d[2] = d_c * i * (T(1) - z * z), d[3] = d_h * h * (T(1) - o);
    T* d_gi = job.d_gi + row * kGates * D + unit;
#pragma unroll
    for (int gate = 0; gate < kGates; ++gate) d_gi[gate * D] = d[gate];
    const bool erase = job.reset[row];
    job.d_c0[index * D + unit] = erase ? T(0) : d_c * f;
    job.d_n0[index * D + unit] = erase ? T(0) : d_n * f;
    return 0;
  }
};

}  // namespace

template <class T>
int slstm_scan(const SlstmScanJob<T>& job, void* stream) {
  return run_forward<T, SlstmForward<T>>(job, stream);
}

template <class T>
int slstm_scan_flow(const SlstmScanJob<T>& job, void* stream) {
  return run_reverse<T, SlstmReverse<T>>(job, stream);
}

template int slstm_scan<float>(const SlstmScanJob<float>&, void*);
template int slstm_scan<double>(const SlstmScanJob<double>&, void*);
template int slstm_scan_flow<float>(const SlstmScanJob<float>&, void*);
template int slstm_scan_flow<double>(const SlstmScanJob<double>&, void*);

}  // namespace memsuite::cuda
