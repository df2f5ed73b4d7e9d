// The GRU recurrence: a block of threads keeps the states of a few environments in shared memory and takes all steps.
//
// No step therefore needs its own launch. The weights (196 KB at width 128) are read at every step, from the
// second-level cache unless the first-level cache holds them, and serve all environments of the block at once. Four
// groups of threads divide each product, so that few environments still occupy a multiprocessor; their partial sums are
// added up in order.
#include "common/cuda.cuh"
#include "gru_scan/cuda.h"

namespace memsuite::cuda {
namespace {

constexpr int kUnits = 128, kParts = 4, kGruThreads = kUnits * kParts;
constexpr int64_t kSafeShared = 48 * 1024;

// One number of each environment of the block.
template <class T, int Rows>
struct alignas(Rows * sizeof(T) < 16 ? Rows * sizeof(T) : 16) Row {
  T at[Rows];
};

template <class T, int Rows>
constexpr int kItems = Rows * kUnits > kGruThreads ? Rows * kUnits / kGruThreads : 1;  // of a thread, between products

// Item i of this thread in a tile of units: an environment of the block, and a unit.
template <class T, int Rows>
struct Item {
  int row, local;
  int64_t unit, index;  // index: of the row in [B]
  bool valid;

  __device__ Item(int i, int64_t tile, int64_t first, const GruScanJob<T>& job) {
    const int flat = int(threadIdx.x) + i * kGruThreads;
    row = flat / kUnits, local = flat % kUnits;
    unit = tile + local, index = first + row;
    valid = row < Rows && unit < job.size && index < job.batch;
  }
};

template <class T, int Rows>
int64_t gru_shared(int64_t size) {
  return int64_t(sizeof(T)) * (2 * size * Rows + int64_t(kParts) * 3 * Rows * kUnits);
}

template <class T, int Rows>
__global__ void __launch_bounds__(kGruThreads, 1) gru_forward(GruScanJob<T> job) {
  MEMSUITE_SHARED(T, shared);
  const int64_t D = job.size, first = int64_t(blockIdx.x) * Rows;
  Row<T, Rows>* now = reinterpret_cast<Row<T, Rows>*>(shared);  // [D], erased where this step resets
  Row<T, Rows>* next = now + D;
  T* const parts = shared + 2 * D * Rows;  // [kParts][3][Rows][kUnits]
  const int part = int(threadIdx.x) / kUnits, local = int(threadIdx.x) % kUnits;
  const int64_t from = D * part / kParts, to = D * (part + 1) / kParts;
  for (int64_t i = threadIdx.x; i < D * Rows; i += kGruThreads) {
    const int64_t row = first + i / D, unit = i % D;
    const bool kept = row < job.batch && !job.reset[row];
    now[unit].at[i / D] = kept ? job.h0[row * D + unit] : T(0);
    next[unit].at[i / D] = 0;
  }
  __syncthreads();
  for (int64_t t = 0; t < job.steps; ++t) {
    for (int64_t tile = 0; tile < D; tile += kUnits) {
      T input[kItems<T, Rows>][3];  // fetched before the product, which hides the time of the fetch
#pragma unroll
      for (int i = 0; i < kItems<T, Rows>; ++i) {
        const Item<T, Rows> item(i, tile, first, job);
#pragma unroll
        for (int g = 0; g < 3; ++g)
          input[i][g] = item.valid ? job.gi[((t * job.batch + item.index) * 3 + g) * D + item.unit] : T(0);
      }
      T sums[3][Rows] = {};
      if (tile + local < D) {
        const T* weights = job.weights + tile + local;
#pragma unroll 4
        for (int64_t k = from; k < to; ++k) {
          const Row<T, Rows> h = now[k];
#pragma unroll
          for (int g = 0; g < 3; ++g) {
            const T weight = weights[(k * 3 + g) * D];
#pragma unroll
            for (int r = 0; r < Rows; ++r) sums[g][r] += weight * h.at[r];
          }
        }
      }
#pragma unroll
      for (int g = 0; g < 3; ++g)
#pragma unroll
        for (int r = 0; r < Rows; ++r) parts[((part * 3 + g) * Rows + r) * kUnits + local] = sums[g][r];
      __syncthreads();
#pragma unroll
      for (int i = 0; i < kItems<T, Rows>; ++i) {
        const Item<T, Rows> item(i, tile, first, job);
        if (!item.valid) continue;
        T g[3];
#pragma unroll
        for (int gate = 0; gate < 3; ++gate) {
          g[gate] = job.biases[gate * D + item.unit];
#pragma unroll
          for (int p = 0; p < kParts; ++p) g[gate] += parts[((p * 3 + gate) * Rows + item.row) * kUnits + item.local];
        }
        const T r = sigmoid_of(input[i][0] + g[0]), z = sigmoid_of(input[i][1] + g[1]);
        const T n = tanh_of(input[i][2] + r * g[2]), old = now[item.unit].at[item.row];
        const T h = n + z * (old - n);
        const int64_t row = t * job.batch + item.index;
        T* gates = job.gates + row * 3 * D + item.unit;
        gates[0] = r, gates[D] = z, gates[2 * D] = g[2];
        job.candidates[row * D + item.unit] = n;
        job.out[row * D + item.unit] = h;
        const bool erase = t + 1 < job.steps && job.reset[row + job.batch];
        next[item.unit].at[item.row] = erase ? T(0) : h;
      }
      __syncthreads();
    }
    Row<T, Rows>* const swap = now;
    now = next, next = swap;
  }
}

template <class T, int Rows>
int64_t gru_shared_backward(int64_t size) {
  return int64_t(sizeof(T)) * (4 * size * Rows + int64_t(kParts) * Rows * kUnits);
}

// The inputs of one item of the backward pass at a step.
template <class T>
struct GruStep {
  T grad, r, z, g_n, n, old;

  __device__ void read(const GruScanJob<T>& job, int64_t t, int64_t index, int64_t unit) {
    const int64_t D = job.size, row = t * job.batch + index;
    const T* gates = job.gates + row * 3 * D + unit;
    r = gates[0], z = gates[D], g_n = gates[2 * D];
    n = job.candidates[row * D + unit], grad = job.grad[row * D + unit];
    const T before = t == 0 ? job.h0[index * D + unit] : job.states[(row - job.batch) * D + unit];
    old = job.reset[row] ? T(0) : before;
  }
};

template <class T, int Rows>
__global__ void __launch_bounds__(kGruThreads, 1) gru_reverse(GruScanJob<T> job) {
  MEMSUITE_SHARED(T, shared);
  const int64_t D = job.size, first = int64_t(blockIdx.x) * Rows;
  Row<T, Rows>* const back =
      reinterpret_cast<Row<T, Rows>*>(shared);  // [D], the gradient that the next step passes back
  Row<T, Rows>* const d_g = back + D;           // [3 D]
  T* const parts = shared + 4 * D * Rows;       // [kParts][Rows][kUnits]
  const int part = int(threadIdx.x) / kUnits, local = int(threadIdx.x) % kUnits;
  const int64_t from = 3 * D * part / kParts, to = 3 * D * (part + 1) / kParts;
  for (int64_t i = threadIdx.x; i < 4 * D * Rows; i += kGruThreads) shared[i] = 0;
  GruStep<T> step[kItems<T, Rows>];
  const auto fetch = [&](int64_t t, int64_t tile) {
#pragma unroll
    for (int i = 0; i < kItems<T, Rows>; ++i) {
      const Item<T, Rows> item(i, tile, first, job);
      if (item.valid) step[i].read(job, t, item.index, item.unit);
    }
  };
  fetch(job.steps - 1, 0);
  __syncthreads();
  for (int64_t t = job.steps - 1; t >= 0; --t) {
    for (int64_t tile = 0; tile < D; tile += kUnits) {
      if (tile > 0) fetch(t, tile);
#pragma unroll
      for (int i = 0; i < kItems<T, Rows>; ++i) {
        const Item<T, Rows> item(i, tile, first, job);
        if (!item.valid) continue;
        const GruStep<T> s = step[i];
        const int64_t row = t * job.batch + item.index, unit = item.unit;
        const T flow = s.grad + back[unit].at[item.row];
        const T d_n = flow * (T(1) - s.z) * (T(1) - s.n * s.n), d_r = d_n * s.g_n * s.r * (T(1) - s.r);
        const T d_z = flow * (s.old - s.n) * s.z * (T(1) - s.z), d_gn = d_n * s.r;
        T* d_gi = job.d_gi + row * 3 * D + unit;
        d_gi[0] = d_r, d_gi[D] = d_z, d_gi[2 * D] = d_n;
        job.d_gn[row * D + unit] = d_gn;
        job.previous[row * D + unit] = s.old;
        d_g[unit].at[item.row] = d_r, d_g[D + unit].at[item.row] = d_z, d_g[2 * D + unit].at[item.row] = d_gn;
        back[unit].at[item.row] = flow * s.z;
      }
    }
    __syncthreads();
    if (t > 0) fetch(t - 1, 0);  // before the product, which hides the time of the fetch
    for (int64_t tile = 0; tile < D; tile += kUnits) {
      T sums[Rows] = {};
      if (tile + local < D) {
        const T* weights = job.weights + tile + local;
#pragma unroll 8
        for (int64_t k = from; k < to; ++k) {
          const T weight = weights[k * D];
          const Row<T, Rows> d = d_g[k];
#pragma unroll
          for (int r = 0; r < Rows; ++r) sums[r] += weight * d.at[r];
        }
      }
#pragma unroll
      for (int r = 0; r < Rows; ++r) parts[(part * Rows + r) * kUnits + local] = sums[r];
      __syncthreads();
#pragma unroll
      for (int i = 0; i < kItems<T, Rows>; ++i) {
        const Item<T, Rows> item(i, tile, first, job);
        if (!item.valid) continue;
        T sum = back[item.unit].at[item.row];
#pragma unroll
        for (int p = 0; p < kParts; ++p) sum += parts[(p * Rows + item.row) * kUnits + item.local];
        back[item.unit].at[item.row] = job.reset[t * job.batch + item.index] ? T(0) : sum;
      }
      __syncthreads();
    }
  }
  for (int64_t i = threadIdx.x; i < D * Rows; i += kGruThreads) {
    const int64_t row = first + i / D;
    if (row < job.batch) job.d_h0[row * D + i % D] = back[i % D].at[i / D];
  }
}

// The largest shared memory of a block of threads on the current device, in bytes.
int64_t shared_limit() {
  int device = 0, limit = 0;
  if (cudaGetDevice(&device) != cudaSuccess) return kSafeShared;
  const auto code = cudaDeviceGetAttribute(&limit, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
  return code == cudaSuccess ? limit : kSafeShared;
}

}  // namespace

// Eight environments per block if their states fit; wide networks take one at a time.
template <class T>
int gru_scan(const GruScanJob<T>& job, void* stream) {
  if (const int64_t bytes = gru_shared<T, 8>(job.size); bytes <= shared_limit())
    return launch(gru_forward<T, 8>, dim3(blocks(job.batch, 8)), kGruThreads, size_t(bytes), stream, job);
  return launch(gru_forward<T, 1>, dim3(unsigned(job.batch)), kGruThreads, size_t(gru_shared<T, 1>(job.size)), stream,
                job);
}

template <class T>
int gru_scan_flow(const GruScanJob<T>& job, void* stream) {
  if (const int64_t bytes = gru_shared_backward<T, 8>(job.size); bytes <= shared_limit())
    return launch(gru_reverse<T, 8>, dim3(blocks(job.batch, 8)), kGruThreads, size_t(bytes), stream, job);
  return launch(gru_reverse<T, 1>, dim3(unsigned(job.batch)), kGruThreads, size_t(gru_shared_backward<T, 1>(job.size)),
                stream, job);
}

template int gru_scan<float>(const GruScanJob<float>&, void*);
template int gru_scan<double>(const GruScanJob<double>&, void*);
template int gru_scan_flow<float>(const GruScanJob<float>&, void*);
template int gru_scan_flow<double>(const GruScanJob<double>&, void*);

}  // namespace memsuite::cuda
