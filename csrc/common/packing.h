// Offered by every instruction set to several ops: the packing of weights for its matrix products. No torch here.
#pragma once

#include <cstdint>

namespace memsuite {

// A matrix at(k, n) = from[k * down + n * across] of `depth` rows and `width` columns is packed for a product with a
// wide result or with a narrow one; the sizes are in numbers. pack_map is pack_widening for products that may be
// computed in bfloat16.
template <class T>
struct PackingKernels {
  int64_t (*widening_size)(int64_t narrow, int64_t wide);
  void (*pack_widening)(T* packed, const T* from, int64_t depth, int64_t width, int64_t down, int64_t across);
  void (*pack_map)(T* packed, const T* from, int64_t depth, int64_t width, int64_t down, int64_t across);
  int64_t (*narrowing_size)(int64_t narrow, int64_t wide);
  void (*pack_narrowing)(T* packed, const T* from, int64_t depth, int64_t width, int64_t down, int64_t across);
};

}  // namespace memsuite
