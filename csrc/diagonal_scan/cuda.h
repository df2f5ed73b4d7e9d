// The CUDA kernels of the diagonal scan; pscan/cuda.h describes the return values.
#pragma once

#include "diagonal_scan/job.h"

namespace memsuite::cuda {

template <class T>
int diagonal_scan(const DiagonalScanJob<T>& job, void* stream);
// Also fills d_a_total if the decay is constant.
template <class T>
int diagonal_scan_backward(const DiagonalScanJob<T>& job, void* stream);

}  // namespace memsuite::cuda
