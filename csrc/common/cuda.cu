// What an error code of a CUDA kernel means, for the bindings, which know nothing of CUDA.
#include <cuda_runtime.h>

namespace memsuite::cuda {

const char* error_text(int code) { return cudaGetErrorString(static_cast<cudaError_t>(code)); }

}  // namespace memsuite::cuda
