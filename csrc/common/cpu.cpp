// The op that sets the instruction set, for the tests that compare them.
#include <torch/csrc/stable/library.h>

#include "common/kernels.h"

namespace memsuite {
namespace {

// Sets the instruction set, if this processor has it, and returns the current one.
int64_t kernel_level(int64_t level) {
  if (level >= 0 && level <= best_level()) current_level = static_cast<int>(level);
  return current_level;
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(memsuite, m) { m.def("kernel_level(int level) -> int"); }

STABLE_TORCH_LIBRARY_IMPL(memsuite, CompositeExplicitAutograd, m) { m.impl("kernel_level", TORCH_BOX(&kernel_level)); }

}  // namespace memsuite
