// Shared by the scans: the location of the state before a step.
#pragma once

#include "common/simd.h"

namespace memsuite::MEMSUITE_LEVEL {

// The state before step t of row b, given the states after every step; null if a reset erased it.
template <class Job, class T>
MEMSUITE_INLINE const T* before(const Job& job, const T* states, int64_t t, int64_t b) {
  if (job.reset[t * job.batch + b]) return nullptr;
  return t == 0 ? job.h0 + b * job.size : states + ((t - 1) * job.batch + b) * job.size;
}

}  // namespace memsuite::MEMSUITE_LEVEL
