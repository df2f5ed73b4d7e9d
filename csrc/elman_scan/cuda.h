// The CUDA kernels of Elman's recurrence; pscan/cuda.h describes the return values.
#pragma once

#include "elman_scan/job.h"

namespace memsuite::cuda {

// The weights of the job are transposed, so that neighbouring threads read neighbouring numbers.
template <class T>
int elman_scan(const ElmanScanJob<T>& job, void* stream);
// Fills d_gi and d_h0; matrix products give the gradients of the weights. The weights of the job are as they are.
template <class T>
int elman_scan_flow(const ElmanScanJob<T>& job, void* stream);

}  // namespace memsuite::cuda
