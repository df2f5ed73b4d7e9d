// The CUDA kernels of the diagonal scan; see pscan/cuda.h for what all such functions return.
#pragma once

#include "diagonal_scan/job.h"

namespace memsuite::cuda {

template <class T>
int diagonal_scan(const DiagonalScanJob<T>& job, void* stream);
// Also fills d_a_total where the decay is constant.
template <class T>
int diagonal_scan_backward(const DiagonalScanJob<T>& job, void* stream);

}  // namespace memsuite::cuda
