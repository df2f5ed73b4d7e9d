// The LSTM recurrence; see common/cuda_gated.cuh.
//
// The cells are not in shared memory: a thread reads in a step what it has itself written in the one before, forward
// from the cells and backward from the gradient of the first ones.
#include "common/cuda_gated.cuh"
#include "lstm_scan/cuda.h"

namespace memsuite::cuda {
namespace {

// The cell before step t, erased where the step resets.
template <class T>
__device__ inline T cell_before(const LstmScanJob<T>& job, int64_t t, int64_t index, int64_t unit) {
  const int64_t D = job.size, row = t * job.batch + index;
  if (job.reset[row]) return 0;
  return t == 0 ? job.c0[index * D + unit] : job.cells[(row - job.batch) * D + unit];
}

template <class T>
struct LstmForward {
  using Job = LstmScanJob<T>;
  static constexpr int kGates = 4;
  T input[kGates], old;

  __device__ void read(const Job& job, int64_t t, int64_t index, int64_t unit) {
#pragma unroll
    for (int g = 0; g < kGates; ++g) input[g] = job.gi[((t * job.batch + index) * kGates + g) * job.size + unit];
    old = cell_before(job, t, index, unit);
  }

  __device__ T apply(const Job& job, int64_t t, int64_t index, int64_t unit, const T* a, T) const {
    const int64_t D = job.size, row = t * job.batch + index;
    const T i = sigmoid_of(input[0] + a[0]), f = sigmoid_of(input[1] + a[1]);
    const T g = tanh_of(input[2] + a[2]), o = sigmoid_of(input[3] + a[3]), c = f * old + i * g;
    T* gates = job.gates + row * kGates * D + unit;
    gates[0] = i, gates[D] = f, gates[2 * D] = g, gates[3 * D] = o;
    job.cells[row * D + unit] = c;
    return o * tanh_of(c);
  }
};

template <class T>
struct LstmReverse {
  using Job = LstmScanJob<T>;
  static constexpr int kGates = 4;
  T grad, grad_cell, i, f, g, o, cell, old;  // grad_cell: over the next step, and from outside

  __device__ void read(const Job& job, int64_t t, int64_t index, int64_t unit) {
    const int64_t D = job.size, row = t * job.batch + index, at = row * D + unit;
    const T* gates = job.gates + row * kGates * D + unit;
    i = gates[0], f = gates[D], g = gates[2 * D], o = gates[3 * D];
    grad = job.grad[at], cell = job.cells[at], old = cell_before(job, t, index, unit);
    grad_cell = t + 1 == job.steps ? T(0) : job.d_c0[index * D + unit];
    if (job.grad_cells != nullptr) grad_cell += job.grad_cells[at];
  }

  __device__ T apply(const Job& job, int64_t t, int64_t index, int64_t unit, T back, T* d) const {
    const int64_t D = job.size, row = t * job.batch + index;
    const T d_h = grad + back, tanh = tanh_of(cell), d_c = grad_cell + d_h * o * (T(1) - tanh * tanh);
    d[0] = d_c * g * i * (T(1) - i), d[1] = d_c * old * f * (T(1) - f);
    d[2] = d_c * i * (T(1) - g * g), d[3] = d_h * tanh * o * (T(1) - o);
    T* d_gi = job.d_gi + row * kGates * D + unit;
#pragma unroll
    for (int gate = 0; gate < kGates; ++gate) d_gi[gate * D] = d[gate];
    job.d_c0[index * D + unit] = job.reset[row] ? T(0) : d_c * f;
    return 0;
  }
};

}  // namespace

template <class T>
int lstm_scan(const LstmScanJob<T>& job, void* stream) {
  return run_forward<T, LstmForward<T>>(job, stream);
}

template <class T>
int lstm_scan_flow(const LstmScanJob<T>& job, void* stream) {
  return run_reverse<T, LstmReverse<T>>(job, stream);
}

template int lstm_scan<float>(const LstmScanJob<float>&, void*);
template int lstm_scan<double>(const LstmScanJob<double>&, void*);
template int lstm_scan_flow<float>(const LstmScanJob<float>&, void*);
template int lstm_scan_flow<double>(const LstmScanJob<double>&, void*);

}  // namespace memsuite::cuda
