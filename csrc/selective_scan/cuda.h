// The CUDA kernels of the selective scan; see pscan/cuda.h for what all such functions return.
#pragma once

#include "selective_scan/job.h"

namespace memsuite::cuda {

constexpr int64_t kSelectiveChannels = 64;  // of a block of threads

// Scratch of the backward pass, in which each block of threads leaves its part of the sums.
template <class T>
struct SelectiveScanParts {
  T* d_a;        // of each environment, [B, D, N]
  T *d_b, *d_c;  // of each block of channels, [parts, T, B, N]; the gradients themselves where there is one block
};

template <class T>
int selective_scan(const SelectiveScanJob<T>& job, void* stream);
template <class T>
int selective_scan_backward(const SelectiveScanJob<T>& job, const SelectiveScanParts<T>& parts, void* stream);

}  // namespace memsuite::cuda
