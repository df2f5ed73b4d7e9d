// Shared by all kernels: launches, arithmetic of float, double and complex numbers, and sums in a fixed order.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

// The host emulation for tests keeps the shared memory of a block elsewhere.
#ifndef MEMSUITE_SHARED
#define MEMSUITE_SHARED(T, name)                                \
  extern __shared__ __align__(16) unsigned char shared_bytes[]; \
  T* const name = reinterpret_cast<T*>(shared_bytes)
#endif

namespace memsuite::cuda {

// The number of steps that a thread fetches in advance, limited by its registers; it depends on the type of number.
template <class Number>
constexpr int kAhead = 32 / (sizeof(Number) < 4 ? 4 : sizeof(Number));
constexpr int64_t kThreads = 128;
constexpr unsigned kAll = 0xffffffffu;

template <class... Expected, class... Given>
int launch(void (*kernel)(Expected...), dim3 grid, dim3 block, size_t shared, void* stream, Given... given) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return 0;
  if (shared > 48 * 1024) {
    const cudaError_t code = cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                                                  cudaFuncAttributeMaxDynamicSharedMemorySize, int(shared));
    if (code != cudaSuccess) return code;
  }
  cudaLaunchConfig_t config = {};
  config.gridDim = grid, config.blockDim = block, config.dynamicSmemBytes = shared;
  config.stream = static_cast<cudaStream_t>(stream);
  return cudaLaunchKernelEx(&config, kernel, given...);
}

inline unsigned blocks(int64_t count, int64_t each) { return static_cast<unsigned>((count + each - 1) / each); }

__device__ inline float exp_of(float x) { return expf(x); }
__device__ inline double exp_of(double x) { return exp(x); }
__device__ inline float tanh_of(float x) { return tanhf(x); }
__device__ inline double tanh_of(double x) { return tanh(x); }
template <class T>
__device__ inline T sigmoid_of(T x) {
  return T(1) / (T(1) + exp_of(-x));
}

template <class T>
struct alignas(2 * sizeof(T)) Pair {
  T re, im;
};

template <class T>
__device__ inline T zero(const T*) {
  return 0;
}
template <class T>
__device__ inline Pair<T> zero(const Pair<T>*) {
  return {0, 0};
}

// carry is h a + x, conjugate_times is conj(a) b, and plus is a + b.
__device__ inline float carry(float a, float h, float x) { return a * h + x; }
__device__ inline double carry(double a, double h, double x) { return a * h + x; }
template <class T>
__device__ inline Pair<T> carry(Pair<T> a, Pair<T> h, Pair<T> x) {
  return {x.re + (a.re * h.re - a.im * h.im), x.im + (a.re * h.im + a.im * h.re)};
}
__device__ inline float conjugate_times(float a, float b) { return a * b; }
__device__ inline double conjugate_times(double a, double b) { return a * b; }
template <class T>
__device__ inline Pair<T> conjugate_times(Pair<T> a, Pair<T> b) {
  return {a.re * b.re + a.im * b.im, a.re * b.im - a.im * b.re};
}
__device__ inline float plus(float a, float b) { return a + b; }
__device__ inline double plus(double a, double b) { return a + b; }
template <class T>
__device__ inline Pair<T> plus(Pair<T> a, Pair<T> b) {
  return {a.re + b.re, a.im + b.im};
}

// totals[column] is the sum of values[row][column] over rows, always in the same order. A block has (32, up to 32)
// threads.
template <class T>
__global__ void sum_rows(T* totals, const T* values, int64_t rows, int64_t columns) {
  __shared__ T part[32][33];
  const int64_t column = int64_t(blockIdx.x) * 32 + threadIdx.x;
  T sum = 0;
  if (column < columns)
    for (int64_t row = threadIdx.y; row < rows; row += blockDim.y) sum += values[row * columns + column];
  part[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y != 0 || column >= columns) return;
  for (unsigned y = 1; y < blockDim.y; ++y) sum += part[y][threadIdx.x];
  totals[column] = sum;
}

template <class T>
int launch_sum_rows(T* totals, const T* values, int64_t rows, int64_t columns, void* stream) {
  const unsigned height = rows < 32 ? unsigned(rows > 0 ? rows : 1) : 32;
  return launch(sum_rows<T>, dim3(blocks(columns, 32)), dim3(32, height), 0, stream, totals, values, rows, columns);
}

}  // namespace memsuite::cuda
