// Weights packed for one call, for a product with a wide result.
#pragma once

#include "common/kernels.h"
#include "common/packing.h"
#include "common/threads.h"

namespace memsuite {

// A weight [out, in], packed for products of rows with its transpose (as in a linear map), or with the weight itself
// (as in the gradient of the map).
template <class T>
struct Packed : Aligned<T> {
  using Pack = decltype(PackingKernels<T>::pack_widening);

  Packed(const T* weight, int64_t out, int64_t in, bool transposed,
         Pack pack = kernels<PackingKernels<T>>().pack_widening)
      : Aligned<T>(kernels<PackingKernels<T>>().widening_size(transposed ? in : out, transposed ? out : in)) {
    if (transposed) {
      pack(this->data, weight, in, out, 1, in);
    } else {
      pack(this->data, weight, out, in, in, 1);
    }
  }
};

// The same for map_product (rows.h), whose factors may be rounded.
template <class T>
struct PackedMap : Packed<T> {
  PackedMap(const T* weight, int64_t out, int64_t in, bool transposed)
      : Packed<T>(weight, out, in, transposed, kernels<PackingKernels<T>>().pack_map) {}
};

}  // namespace memsuite
