// The matrix-state recurrence: the struct of its loops.
#pragma once

#include "common/offer.h"
#include "matrix_scan/loops_backward.h"
#include "matrix_scan/loops_forward.h"

namespace memsuite::MEMSUITE_LEVEL {

template <class T>
struct Offer<MatrixScanKernels<T>> {
  static constexpr MatrixScanKernels<T> all() {
    return {{{matrix_forward<T, Rule::kSum, false>, matrix_forward<T, Rule::kDelta, false>, nullptr},
             {matrix_forward<T, Rule::kSum, true>, matrix_forward<T, Rule::kDelta, true>,
              matrix_forward<T, Rule::kEdit, true>}},
            {{matrix_backward<T, Rule::kSum, false>, matrix_backward<T, Rule::kDelta, false>, nullptr},
             {matrix_backward<T, Rule::kSum, true>, matrix_backward<T, Rule::kDelta, true>,
              matrix_backward<T, Rule::kEdit, true>}}};
  }
};
template const MatrixScanKernels<float>& offered();
template const MatrixScanKernels<double>& offered();

}  // namespace memsuite::MEMSUITE_LEVEL
