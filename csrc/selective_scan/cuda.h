// The CUDA kernels of the selective scan; pscan/cuda.h describes the return values.
#pragma once

#include "selective_scan/job.h"

namespace memsuite::cuda {

constexpr int64_t kSelectiveChannels = 64;  // of a block of threads

// Scratch memory of the backward pass, in which each block of threads stores its part of the sums.
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
