// The CUDA kernels of the GRU recurrence; pscan/cuda.h describes the return values.
#pragma once

#include "gru_scan/job.h"

namespace memsuite::cuda {

// The weights of the job are transposed, [D, 3 D], so that neighbouring threads read neighbouring numbers.
template <class T>
int gru_scan(const GruScanJob<T>& job, void* stream);
// Fills d_gi, d_gn, d_h0 and `previous`, from which matrix products give the gradients of the weights. The weights of
// the job are [3 D, D].
template <class T>
int gru_scan_flow(const GruScanJob<T>& job, void* stream);

}  // namespace memsuite::cuda
