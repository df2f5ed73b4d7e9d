// The matrix-state recurrence: the struct of its loops.
#pragma once

#include "common/offer.h"
#include "matrix_scan/loops_backward.h"
#include "matrix_scan/loops_forward.h"

namespace memsuite::MEMSUITE_LEVEL {

template <class T>
struct Offer<MatrixScanKernels<T>> {
  static constexpr MatrixScanKernels<T> all() {
    MatrixScanKernels<T> all{};
    all.forward[0] = matrix_forward<T, false>;
    all.forward[1] = matrix_forward<T, true>;
    all.backward[0] = matrix_backward<T, false>;
    all.backward[1] = matrix_backward<T, true>;
    return all;
  }
};
template const MatrixScanKernels<float>& offered();
template const MatrixScanKernels<double>& offered();

}  // namespace memsuite::MEMSUITE_LEVEL
