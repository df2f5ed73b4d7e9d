// How an op offers its loops for one instruction set; kernels.h describes how they are requested.
#pragma once

#include "common/simd.h"

namespace memsuite::MEMSUITE_LEVEL {

// An op specialises this for its struct of loops; all() returns the struct with every member set.
template <class Kernels>
struct Offer;

// The op also instantiates this, for float and for double.
template <class Kernels>
const Kernels& offered() {
  static constexpr Kernels all = Offer<Kernels>::all();
  return all;
}

}  // namespace memsuite::MEMSUITE_LEVEL
