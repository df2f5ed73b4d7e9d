// Shared by the CUDA bindings: the device and the stream of an op, and its errors. No CUDA headers are needed, because
// the kernels are called through plain functions.
//
// Everything goes on the stream that is current on the tensors' device. The kernels have been compiled, and run in a
// host emulation (MEMSUITE_EMULATED, which registers them for the CPU); they have not yet run on a GPU.
#pragma once

#include "common/tensors.h"

#if defined(MEMSUITE_EMULATED)
#define MEMSUITE_KEY CPU
#else
#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/accelerator.h>
#define MEMSUITE_KEY CUDA
#endif

namespace memsuite {

namespace cuda {
const char* error_text(int code);
}

#if defined(MEMSUITE_EMULATED)
struct Place {
  void* stream = nullptr;
  template <class... Others>
  explicit Place(const Others&...) {}
};
#else
// Makes the device of an op's tensors current during its lifetime, and holds the device's current stream.
struct Place {
  torch::stable::accelerator::DeviceGuard guard;
  void* stream = nullptr;
  template <class... Others>
  explicit Place(const Tensor& like, const Others&... others) : guard(common_device(like, others...)) {
    TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(like.get_device_index(), &stream));
  }

  // The index of the device of all tensors. It is checked before the guard is made: torch comes here if any tensor is
  // on a GPU, and if the first one is not, its index is none that a guard could take.
  template <class... Tensors>
  static auto common_device(const Tensor& like, const Tensors&... others) {
    for (const Tensor* one : {&like, &others...})
      STD_TORCH_CHECK(one->is_cuda() && one->get_device_index() == like.get_device_index(),
                      "memsuite: tensors of one op must be on one device");
    return like.get_device_index();
  }
};
#endif

inline void check(int code) { STD_TORCH_CHECK(code == 0, "memsuite: a CUDA kernel failed: ", cuda::error_text(code)); }

}  // namespace memsuite
