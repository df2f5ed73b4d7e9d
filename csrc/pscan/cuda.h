// The CUDA kernels of the pseudo-mamba scan: functions that put them on a stream and return a CUDA error code, 0 for
// no error. The pointers of a job are in device memory. No torch and no CUDA headers here.
#pragma once

#include "pscan/job.h"

namespace memsuite::cuda {

template <class T>
int pscan(const PscanJob<T>& job, void* stream);
template <class T>
int pscan_backward(const PscanJob<T>& job, void* stream);

}  // namespace memsuite::cuda
