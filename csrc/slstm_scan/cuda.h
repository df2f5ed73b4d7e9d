// The CUDA kernels of the sLSTM recurrence; pscan/cuda.h describes the return values.
#pragma once

#include "slstm_scan/job.h"

namespace memsuite::cuda {

// The weights of the job are transposed, [D, 4 D], so that neighbouring threads read neighbouring numbers.
template <class T>
int slstm_scan(const SlstmScanJob<T>& job, void* stream);
// Fills d_gi, d_h0, d_c0 and d_n0; matrix products give the gradients of the weights. The weights of the job are
// [4 D, D].
template <class T>
int slstm_scan_flow(const SlstmScanJob<T>& job, void* stream);

}  // namespace memsuite::cuda
