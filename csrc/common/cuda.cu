// The text of a CUDA kernel's error code, for the bindings, which do not include CUDA headers.
#include <cuda_runtime.h>

namespace memsuite::cuda {

const char* error_text(int code) { return cudaGetErrorString(static_cast<cudaError_t>(code)); }

}  // namespace memsuite::cuda
