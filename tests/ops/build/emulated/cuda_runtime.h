// Enough of the CUDA runtime to run the kernels of csrc on a host, one block of threads after the other, for tests.
//
// The threads of a block are contexts that take turns: each runs until it waits for its warp (a shuffle) or its block
// (__syncthreads). So a missing barrier, one that not all threads reach, a wrong index or an unwritten number shows,
// and so do the limits of a launch; speed, memory order within a warp and registers do not.
#pragma once

#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <vector>

#define __global__
#define __device__
#define __shared__ static
#define __launch_bounds__(...)
#define MEMSUITE_SHARED(T, name) T* const name = reinterpret_cast<T*>(emulated::shared.data())

struct dim3 {
  unsigned x, y, z;
  dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};
using cudaError_t = int;
using cudaStream_t = void*;
constexpr cudaError_t cudaSuccess = 0, cudaErrorInvalidValue = 1, cudaErrorInvalidConfiguration = 9;
enum { cudaFuncAttributeMaxDynamicSharedMemorySize, cudaDevAttrMaxSharedMemoryPerBlockOptin };
struct cudaLaunchConfig_t {
  dim3 gridDim, blockDim;
  size_t dynamicSmemBytes;
  cudaStream_t stream;
};
inline const char* cudaGetErrorString(cudaError_t) { return "emulated"; }
inline cudaError_t cudaGetDevice(int* device) { return *device = 0; }

// The shared memory of a block: what every kernel may have, and what one may ask for, as on an A100.
constexpr int kShared = 48 * 1024, kMostShared = 163 * 1024;
inline std::map<const void*, int> asked_for;
inline cudaError_t cudaFuncSetAttribute(const void* kernel, int, int bytes) {
  if (bytes > kMostShared) return cudaErrorInvalidValue;
  return asked_for[kernel] = bytes, cudaSuccess;
}
inline cudaError_t cudaDeviceGetAttribute(int* value, int, int) { return *value = kMostShared, 0; }

inline dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace emulated {

enum class Waits { nothing, warp, block, ended };
constexpr size_t kStack = 128 * 1024;

struct Thread {
  ucontext_t context;
  std::vector<char> stack = std::vector<char>(kStack);
  Waits waits;
};

inline std::vector<Thread> threads;
inline std::vector<double> shared;  // doubles, so that it is aligned
inline ucontext_t scheduler;
inline size_t running;
inline std::function<void()> body;
inline double exchanged[1024];

inline void wait(Waits what) {
  threads[running].waits = what;
  swapcontext(&threads[running].context, &scheduler);
}

inline void begin() {
  body();
  threads[running].waits = Waits::ended;
}

// Runs every thread of [first, last) that waits for `what` until it waits again; tells whether any waits for its warp.
inline bool turn(size_t first, size_t last) {
  size_t at_warp = 0;
  for (running = first; running < last; ++running) {
    Thread& thread = threads[running];
    if (thread.waits == Waits::ended) continue;
    const unsigned i = unsigned(running);
    threadIdx = dim3(i % blockDim.x, i / blockDim.x % blockDim.y, i / (blockDim.x * blockDim.y));
    thread.waits = Waits::nothing;
    swapcontext(&scheduler, &thread.context);
    at_warp += thread.waits == Waits::warp;
  }
  if (at_warp != 0 && at_warp != last - first) {
    fprintf(stderr, "emulated CUDA: a shuffle that not all of a warp take part in\n");
    abort();
  }
  return at_warp != 0;
}

inline void run_block(size_t count) {
  threads.resize(count);
  for (Thread& thread : threads) {
    getcontext(&thread.context);
    thread.context.uc_stack = {thread.stack.data(), 0, thread.stack.size()};
    thread.context.uc_link = &scheduler;
    thread.waits = Waits::nothing;
    makecontext(&thread.context, begin, 0);
  }
  for (size_t waiting = count; waiting != 0;) {
    waiting = 0;
    for (size_t first = 0; first < count; first += 32) {
      const size_t last = first + 32 < count ? first + 32 : count;
      while (turn(first, last)) {
      }
      for (size_t i = first; i < last; ++i) waiting += threads[i].waits == Waits::block;
    }
    if (waiting != 0 && waiting != count) {
      fprintf(stderr, "emulated CUDA: a barrier that not all threads of a block reach\n");
      abort();
    }
  }
}

}  // namespace emulated

inline void __syncthreads() { emulated::wait(emulated::Waits::block); }

template <class T>
T __shfl_xor_sync(unsigned, T value, int mask) {
  const size_t at = emulated::running;
  emulated::exchanged[at] = value;
  emulated::wait(emulated::Waits::warp);
  const T found = static_cast<T>(emulated::exchanged[at ^ size_t(mask)]);
  emulated::wait(emulated::Waits::warp);
  return found;
}

template <class... Expected, class... Given>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Expected...), Given... given) {
  gridDim = config->gridDim, blockDim = config->blockDim;
  const auto asked = asked_for.find(reinterpret_cast<const void*>(kernel));
  const size_t shared = asked == asked_for.end() ? kShared : std::max(kShared, asked->second);
  if (size_t(blockDim.x) * blockDim.y * blockDim.z > 1024 || gridDim.y > 65535 || gridDim.z > 65535 ||
      gridDim.x > 2147483647u || config->dynamicSmemBytes > shared)
    return cudaErrorInvalidConfiguration;
  emulated::body = [=] { kernel(given...); };
  for (unsigned z = 0; z < gridDim.z; ++z)
    for (unsigned y = 0; y < gridDim.y; ++y)
      for (unsigned x = 0; x < gridDim.x; ++x) {
        blockIdx = dim3(x, y, z);
        emulated::shared.assign(config->dynamicSmemBytes / sizeof(double) + 1, NAN);
        emulated::run_block(size_t(blockDim.x) * blockDim.y * blockDim.z);
      }
  return 0;
}
