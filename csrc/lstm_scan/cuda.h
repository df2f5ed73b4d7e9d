// The CUDA kernels of the LSTM recurrence; pscan/cuda.h describes the return values.
#pragma once

#include "lstm_scan/job.h"

namespace memsuite::cuda {

// The weights of the job are transposed, [D, 4 D], so that neighbouring threads read neighbouring numbers.
template <class T>
int lstm_scan(const LstmScanJob<T>& job, void* stream);
// Fills d_gi, d_h0 and d_c0; matrix products give the gradients of the weights. The weights of the job are [4 D, D].
template <class T>
int lstm_scan_flow(const LstmScanJob<T>& job, void* stream);

}  // namespace memsuite::cuda
