// The selective scan: four neighbouring threads share a channel, each with four states in registers.
//
// A block of threads takes 64 channels of one environment and walks through time in blocks of 16 steps, whose write and
// read weights (b, c) are in shared memory. The forward pass saves the state before each block; the backward pass
// recomputes the 16 states of a block into registers. More than 16 states are computed in groups of 16, one launch
// after the other on the stream, because everything summed over states is linear in them.
#include "common/cuda.cuh"
#include "selective_scan/cuda.h"

namespace memsuite::cuda {
namespace {

constexpr int kSteps = 16, kLanes = 4, kEach = 4, kGroup = kLanes * kEach;
constexpr int kBlockThreads = int(kSelectiveChannels) * kLanes, kWarps = kBlockThreads / 32;

// The position of a thread, and the arrays that it reads in whole blocks.
template <class T>
struct Place {
  int64_t b, d;
  int lane, first, count;  // of its states: the first, and the number that exist of its four
  bool valid;              // whether the channel exists; threads without one add zeros to the sums

  __device__ Place(const SelectiveScanJob<T>& job, int64_t group) {
    b = blockIdx.x;
    lane = threadIdx.x % kLanes;
    d = int64_t(blockIdx.y) * kSelectiveChannels + threadIdx.x / kLanes;
    valid = d < job.size;
    first = int(group) + lane * kEach;
    const int64_t left = job.states_each - first;
    count = !valid || left <= 0 ? 0 : left < kEach ? int(left) : kEach;
  }
};

// b and c of steps [begin, begin + kSteps) of this environment; entries outside the arrays are zero.
template <class T>
struct Weights {
  T b[kSteps][kGroup], c[kSteps][kGroup];
  bool erase[kSteps];

  __device__ void read(const SelectiveScanJob<T>& job, int64_t group, int64_t begin, int64_t env) {
    __syncthreads();  // until every thread has finished the block before
    const int step = int(threadIdx.x) / kGroup, n = int(threadIdx.x) % kGroup;
    const int64_t t = begin + step, row = t * job.batch + env;
    const bool there = t < job.steps && group + n < job.states_each;
    b[step][n] = there ? job.b[row * job.states_each + group + n] : T(0);
    c[step][n] = there ? job.c[row * job.states_each + group + n] : T(0);
    if (n == 0) erase[step] = t < job.steps && job.reset[row];
    __syncthreads();
  }
};
static_assert(kBlockThreads == kSteps * kGroup, "one thread for every weight of a block");

template <class T>
__device__ inline T over_lanes(T value) {
  value += __shfl_xor_sync(kAll, value, 1);
  return value + __shfl_xor_sync(kAll, value, 2);
}

template <class T>
__global__ void __launch_bounds__(kBlockThreads, 1) selective_forward(SelectiveScanJob<T> job, int64_t group) {
  __shared__ Weights<T> weights;
  const Place<T> at(job, group);
  const int64_t N = job.states_each, D = job.size;
  T h[kEach] = {}, a[kEach] = {};
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    if (i >= at.count) continue;
    h[i] = job.h0[(at.b * D + at.d) * N + at.first + i];
    a[i] = job.a[at.d * N + at.first + i];
  }
  for (int64_t begin = 0, block = 0; begin < job.steps; begin += kSteps, ++block) {
    weights.read(job, group, begin, at.b);
#pragma unroll
    for (int i = 0; i < kEach; ++i)
      if (i < at.count) job.saved[((block * job.batch + at.b) * N + at.first + i) * D + at.d] = h[i];
#pragma unroll 4
    for (int s = 0; s < kSteps; ++s) {
      const int64_t t = begin + s, index = (t * job.batch + at.b) * D + at.d;
      const bool there = at.valid && t < job.steps;
      const T dt = there ? job.dt[index] : T(0), write = there ? dt * job.u[index] : T(0);
      T y = 0;
#pragma unroll
      for (int i = 0; i < kEach; ++i) {
        const T old = weights.erase[s] ? T(0) : h[i];
        h[i] = exp_of(dt * a[i]) * old + write * weights.b[s][at.lane * kEach + i];
        y += weights.c[s][at.lane * kEach + i] * h[i];
      }
      y = over_lanes(y);
      if (there && at.lane == 0) job.y[index] = group == 0 ? y : job.y[index] + y;
    }
  }
#pragma unroll
  for (int i = 0; i < kEach; ++i)
    if (i < at.count) job.last[(at.b * D + at.d) * N + at.first + i] = h[i];
}

// Adds up eight values over the eight channels of a warp: thread 4 q + lane gets value q of its lane.
template <class T>
__device__ inline T over_channels(T (&values)[2 * kEach]) {
#pragma unroll
  for (int half = kEach; half >= 1; half /= 2) {
    const int bit = half * kLanes;
    const bool upper = threadIdx.x & bit;
#pragma unroll
    for (int i = 0; i < half; ++i) {
      const T give = upper ? values[i] : values[i + half], keep = upper ? values[i + half] : values[i];
      values[i] = keep + __shfl_xor_sync(kAll, give, bit);
    }
  }
  return values[0];
}

// d_b and d_c of a block of steps, kept per warp until they are added up in order.
template <class T>
struct WarpSums {
  T at[kSteps][kWarps][32];

  __device__ void write(const SelectiveScanJob<T>& job, T* d_b, T* d_c, int64_t group, int64_t begin, int64_t env) {
    __syncthreads();
    for (int i = int(threadIdx.x); i < kSteps * 32; i += kBlockThreads) {
      const int step = i / 32, thread = i % 32, value = thread / kLanes;
      const int64_t t = begin + step, n = group + (thread % kLanes) * kEach + value % kEach;
      if (t >= job.steps || n >= job.states_each) continue;
      T sum = 0;
      for (int warp = 0; warp < kWarps; ++warp) sum += at[step][warp][thread];
      (value < kEach ? d_b : d_c)[(t * job.batch + env) * job.states_each + n] = sum;
    }
  }
};

template <class T>
__global__ void __launch_bounds__(kBlockThreads, 1)
    selective_reverse(SelectiveScanJob<T> job, SelectiveScanParts<T> parts, int64_t group) {
  __shared__ Weights<T> weights;
  __shared__ WarpSums<T> warps;
  const Place<T> at(job, group);
  const int64_t N = job.states_each, D = job.size, part = int64_t(blockIdx.y) * job.steps * job.batch * N;
  T a[kEach] = {}, back[kEach] = {}, d_a[kEach] = {};
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    if (i >= at.count) continue;
    back[i] = job.grad_last[(at.b * D + at.d) * N + at.first + i];
    a[i] = job.a[at.d * N + at.first + i];
  }
  for (int64_t block = (job.steps + kSteps - 1) / kSteps - 1; block >= 0; --block) {
    const int64_t begin = block * kSteps;
    weights.read(job, group, begin, at.b);
    T old[kSteps][kEach], h[kEach] = {};  // the states before each step, resets applied
#pragma unroll
    for (int i = 0; i < kEach; ++i)
      if (i < at.count) h[i] = job.saved[((block * job.batch + at.b) * N + at.first + i) * D + at.d];
#pragma unroll
    for (int s = 0; s < kSteps; ++s) {
      const int64_t t = begin + s, index = (t * job.batch + at.b) * D + at.d;
      const bool there = at.valid && t < job.steps;
      const T dt = there ? job.dt[index] : T(0), write = there ? dt * job.u[index] : T(0);
#pragma unroll
      for (int i = 0; i < kEach; ++i) {
        old[s][i] = weights.erase[s] ? T(0) : h[i];
        h[i] = exp_of(dt * a[i]) * old[s][i] + write * weights.b[s][at.lane * kEach + i];
      }
    }
#pragma unroll
    for (int s = kSteps - 1; s >= 0; --s) {
      const int64_t t = begin + s, index = (t * job.batch + at.b) * D + at.d;
      const bool there = at.valid && t < job.steps;
      const T dt = there ? job.dt[index] : T(0), u = there ? job.u[index] : T(0), grad = there ? job.grad[index] : T(0);
      T values[2 * kEach], d_write = 0, d_rate = 0;
#pragma unroll
      for (int i = 0; i < kEach; ++i) {
        const T b = weights.b[s][at.lane * kEach + i], c = weights.c[s][at.lane * kEach + i];
        const T decay = exp_of(dt * a[i]), flow = back[i] + c * grad, through = decay * flow;
        const T d_exponent = through * old[s][i];
        values[i] = there ? dt * u * flow : T(0);
        values[kEach + i] = there ? grad * (decay * old[s][i] + dt * u * b) : T(0);
        d_write += b * flow;
        d_rate += d_exponent * a[i];
        d_a[i] += d_exponent * dt;
        if (there) back[i] = weights.erase[s] ? T(0) : through;
      }
      d_write = over_lanes(d_write), d_rate = over_lanes(d_rate);
      const T sum = over_channels(values);
      warps.at[s][threadIdx.x / 32][threadIdx.x % 32] = sum;
      if (there && at.lane == 0) {
        const T d_u = d_write * dt, d_dt = d_rate + d_write * u;
        job.d_u[index] = group == 0 ? d_u : job.d_u[index] + d_u;
        job.d_dt[index] = group == 0 ? d_dt : job.d_dt[index] + d_dt;
      }
    }
    warps.write(job, parts.d_b + part, parts.d_c + part, group, begin, at.b);
  }
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    if (i >= at.count) continue;
    job.d_h0[(at.b * D + at.d) * N + at.first + i] = back[i];
    parts.d_a[(at.b * D + at.d) * N + at.first + i] = d_a[i];
  }
}

// The blocks of threads: CUDA allows a large x, but no large y. Without channels there is still one for each
// environment, and without states there is still one launch, because sums over none of them are zeros to be written.
template <class T>
dim3 grid_of(const SelectiveScanJob<T>& job) {
  return dim3(unsigned(job.batch), job.size > 0 ? blocks(job.size, kSelectiveChannels) : 1);
}

}  // namespace

template <class T>
int selective_scan(const SelectiveScanJob<T>& job, void* stream) {
  for (int64_t group = 0; group == 0 || group < job.states_each; group += kGroup)
    if (const int code = launch(selective_forward<T>, grid_of(job), kBlockThreads, 0, stream, job, group)) return code;
  return 0;
}

template <class T>
int selective_scan_backward(const SelectiveScanJob<T>& job, const SelectiveScanParts<T>& parts, void* stream) {
  const dim3 grid = grid_of(job);
  for (int64_t group = 0; group == 0 || group < job.states_each; group += kGroup)
    if (const int code = launch(selective_reverse<T>, grid, kBlockThreads, 0, stream, job, parts, group)) return code;
  const int64_t weights = job.steps * job.batch * job.states_each;
  int code = launch_sum_rows<T>(job.d_a, parts.d_a, job.batch, job.size * job.states_each, stream);
  if (code == 0 && grid.y > 1) code = launch_sum_rows<T>(job.d_b, parts.d_b, grid.y, weights, stream);
  if (code == 0 && grid.y > 1) code = launch_sum_rows<T>(job.d_c, parts.d_c, grid.y, weights, stream);
  return code;
}

template int selective_scan<float>(const SelectiveScanJob<float>&, void*);
template int selective_scan<double>(const SelectiveScanJob<double>&, void*);
template int selective_scan_backward<float>(const SelectiveScanJob<float>&, const SelectiveScanParts<float>&, void*);
template int selective_scan_backward<double>(const SelectiveScanJob<double>&, const SelectiveScanParts<double>&, void*);

}  // namespace memsuite::cuda
