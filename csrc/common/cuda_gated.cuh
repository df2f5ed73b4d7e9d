// Recurrences with a product of the state: a block of threads keeps the states of a few environments in shared memory
// and takes all steps.
//
// No step therefore needs its own launch. The weights (196 KB for a GRU of width 128) are read at every step, from the
// second-level cache unless the first-level cache holds them, and serve all environments of the block at once. Four
// groups of threads divide each product, so that few environments still occupy a multiprocessor; their partial sums are
// added up in order.
//
// An op gives the arithmetic of one number of the state as a struct for each direction, with the type of its Job and
// the number of products of a unit, kGates. `read` fetches what a step needs besides the product, which hides the time
// of the fetch. `apply` writes the outputs of a step: forward it gets the products with their biases and returns the
// new state; backward it gets the gradient that the next step passes back, fills the gradients of the products, and
// returns the part of the gradient of the state before that does not go through the product.
#pragma once

#include "common/cuda.cuh"

namespace memsuite::cuda {

constexpr int kUnits = 128, kParts = 4, kGatedThreads = kUnits * kParts;
constexpr int64_t kSafeShared = 48 * 1024;

// One number of each environment of the block.
template <class T, int Rows>
struct alignas(Rows * sizeof(T) < 16 ? Rows * sizeof(T) : 16) Row {
  T at[Rows];
};

template <int Rows>
constexpr int kItems = Rows * kUnits > kGatedThreads ? Rows * kUnits / kGatedThreads : 1;  // of a thread, in a tile

// Item i of this thread in a tile of units: an environment of the block, and a unit.
template <int Rows>
struct Item {
  int row, local;
  int64_t unit, index;  // index: of the row in [B]
  bool valid;

  template <class Job>
  __device__ Item(int i, int64_t tile, int64_t first, const Job& job) {
    const int flat = int(threadIdx.x) + i * kGatedThreads;
    row = flat / kUnits, local = flat % kUnits;
    unit = tile + local, index = first + row;
    valid = row < Rows && unit < job.size && index < job.batch;
  }
};

// This thread's part of the products of a tile of units: over its share of the `count` vectors of `from`, with weights
// [count, Gates, D]. It is written into parts, [kParts][Gates][Rows][kUnits].
template <class T, int Rows, int Gates>
__device__ inline void multiply(T* parts, const Row<T, Rows>* from, const T* weights, int64_t count, int64_t D,
                                int64_t tile) {
  constexpr int kUnroll = Gates == 1 ? 8 : 4;
  const int part = int(threadIdx.x) / kUnits, local = int(threadIdx.x) % kUnits;
  const int64_t begin = count * part / kParts, end = count * (part + 1) / kParts;
  T sums[Gates][Rows] = {};
  if (tile + local < D) {
    weights += tile + local;
#pragma unroll kUnroll
    for (int64_t k = begin; k < end; ++k) {
      const Row<T, Rows> x = from[k];
#pragma unroll
      for (int g = 0; g < Gates; ++g) {
        const T weight = weights[(k * Gates + g) * D];
#pragma unroll
        for (int r = 0; r < Rows; ++r) sums[g][r] += weight * x.at[r];
      }
    }
  }
#pragma unroll
  for (int g = 0; g < Gates; ++g)
#pragma unroll
    for (int r = 0; r < Rows; ++r) parts[((part * Gates + g) * Rows + r) * kUnits + local] = sums[g][r];
}

// Product number g of an item, added to `sum` in order.
template <class T, int Rows, int Gates>
__device__ inline T add_up(T sum, const T* parts, int g, const Item<Rows>& item) {
#pragma unroll
  for (int p = 0; p < kParts; ++p) sum += parts[((p * Gates + g) * Rows + item.row) * kUnits + item.local];
  return sum;
}

template <class T, int Rows, int Gates>
int64_t forward_bytes(int64_t size) {
  return int64_t(sizeof(T)) * (2 * size * Rows + int64_t(kParts) * Gates * Rows * kUnits);
}

template <class T, int Rows, class Cell>
__global__ void __launch_bounds__(kGatedThreads, 1) gated_forward(typename Cell::Job job) {
  MEMSUITE_SHARED(T, shared);
  constexpr int Gates = Cell::kGates;
  const int64_t D = job.size, first = int64_t(blockIdx.x) * Rows;
  Row<T, Rows>* now = reinterpret_cast<Row<T, Rows>*>(shared);  // [D], erased where this step resets
  Row<T, Rows>* next = now + D;
  T* const parts = shared + 2 * D * Rows;  // [kParts][Gates][Rows][kUnits]
  for (int64_t i = threadIdx.x; i < D * Rows; i += kGatedThreads) {
    const int64_t row = first + i / D, unit = i % D;
    const bool kept = row < job.batch && !job.reset[row];
    now[unit].at[i / D] = kept ? job.h0[row * D + unit] : T(0);
    next[unit].at[i / D] = 0;
  }
  __syncthreads();
  for (int64_t t = 0; t < job.steps; ++t) {
    for (int64_t tile = 0; tile < D; tile += kUnits) {
      Cell cells[kItems<Rows>];
#pragma unroll
      for (int i = 0; i < kItems<Rows>; ++i) {
        const Item<Rows> item(i, tile, first, job);
        if (item.valid) cells[i].read(job, t, item.index, item.unit);
      }
      multiply<T, Rows, Gates>(parts, now, job.weights, D, D, tile);
      __syncthreads();
#pragma unroll
      for (int i = 0; i < kItems<Rows>; ++i) {
        const Item<Rows> item(i, tile, first, job);
        if (!item.valid) continue;
        T products[Gates];
#pragma unroll
        for (int g = 0; g < Gates; ++g)
          products[g] = add_up<T, Rows, Gates>(job.biases[g * D + item.unit], parts, g, item);
        const T h = cells[i].apply(job, t, item.index, item.unit, products, now[item.unit].at[item.row]);
        const int64_t row = t * job.batch + item.index;
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

template <class T, int Rows, int Gates>
int64_t reverse_bytes(int64_t size) {
  return int64_t(sizeof(T)) * ((1 + Gates) * size * Rows + int64_t(kParts) * Rows * kUnits);
}

template <class T, int Rows, class Cell>
__global__ void __launch_bounds__(kGatedThreads, 1) gated_reverse(typename Cell::Job job) {
  MEMSUITE_SHARED(T, shared);
  constexpr int Gates = Cell::kGates;
  const int64_t D = job.size, first = int64_t(blockIdx.x) * Rows;
  Row<T, Rows>* const back =
      reinterpret_cast<Row<T, Rows>*>(shared);              // [D], the gradient that the next step passes back
  Row<T, Rows>* const d_g = back + D;                       // [Gates D]
  T* const parts = shared + int64_t(1 + Gates) * D * Rows;  // [kParts][Rows][kUnits]
  for (int64_t i = threadIdx.x; i < (1 + Gates) * D * Rows; i += kGatedThreads) shared[i] = 0;
  Cell cells[kItems<Rows>];
  const auto fetch = [&](int64_t t, int64_t tile) {
#pragma unroll
    for (int i = 0; i < kItems<Rows>; ++i) {
      const Item<Rows> item(i, tile, first, job);
      if (item.valid) cells[i].read(job, t, item.index, item.unit);
    }
  };
  fetch(job.steps - 1, 0);
  __syncthreads();
  for (int64_t t = job.steps - 1; t >= 0; --t) {
    for (int64_t tile = 0; tile < D; tile += kUnits) {
      if (tile > 0) fetch(t, tile);
#pragma unroll
      for (int i = 0; i < kItems<Rows>; ++i) {
        const Item<Rows> item(i, tile, first, job);
        if (!item.valid) continue;
        T d[Gates], &passed = back[item.unit].at[item.row];
        passed = cells[i].apply(job, t, item.index, item.unit, passed, d);
#pragma unroll
        for (int g = 0; g < Gates; ++g) d_g[g * D + item.unit].at[item.row] = d[g];
      }
    }
    __syncthreads();
    if (t > 0) fetch(t - 1, 0);
    for (int64_t tile = 0; tile < D; tile += kUnits) {
      multiply<T, Rows, 1>(parts, d_g, job.weights, Gates * D, D, tile);
      __syncthreads();
#pragma unroll
      for (int i = 0; i < kItems<Rows>; ++i) {
        const Item<Rows> item(i, tile, first, job);
        if (!item.valid) continue;
        T& passed = back[item.unit].at[item.row];
        passed = job.reset[t * job.batch + item.index] ? T(0) : add_up<T, Rows, 1>(passed, parts, 0, item);
      }
      __syncthreads();
    }
  }
  for (int64_t i = threadIdx.x; i < D * Rows; i += kGatedThreads) {
    const int64_t row = first + i / D;
    if (row < job.batch) job.d_h0[row * D + i % D] = back[i % D].at[i / D];
  }
}

// The largest shared memory of a block of threads on the current device, in bytes.
inline int64_t shared_limit() {
  int device = 0, limit = 0;
  if (cudaGetDevice(&device) != cudaSuccess) return kSafeShared;
  const auto code = cudaDeviceGetAttribute(&limit, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
  return code == cudaSuccess ? limit : kSafeShared;
}

// Eight environments per block if their states fit; wide networks take one at a time. The weights of the job are
// transposed, [D, Gates D], so that neighbouring threads read neighbouring numbers.
template <class T, class Cell>
int run_forward(const typename Cell::Job& job, void* stream) {
  if (const int64_t bytes = forward_bytes<T, 8, Cell::kGates>(job.size); bytes <= shared_limit())
    return launch(gated_forward<T, 8, Cell>, dim3(blocks(job.batch, 8)), kGatedThreads, size_t(bytes), stream, job);
  const int64_t bytes = forward_bytes<T, 1, Cell::kGates>(job.size);
  return launch(gated_forward<T, 1, Cell>, dim3(unsigned(job.batch)), kGatedThreads, size_t(bytes), stream, job);
}

// The same backwards; the weights of the job are [Gates D, D].
template <class T, class Cell>
int run_reverse(const typename Cell::Job& job, void* stream) {
  if (const int64_t bytes = reverse_bytes<T, 8, Cell::kGates>(job.size); bytes <= shared_limit())
    return launch(gated_reverse<T, 8, Cell>, dim3(blocks(job.batch, 8)), kGatedThreads, size_t(bytes), stream, job);
  const int64_t bytes = reverse_bytes<T, 1, Cell::kGates>(job.size);
  return launch(gated_reverse<T, 1, Cell>, dim3(unsigned(job.batch)), kGatedThreads, size_t(bytes), stream, job);
}

}  // namespace memsuite::cuda
