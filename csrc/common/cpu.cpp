// The ops that set the instruction set, for the tests that compare them, and the precision of products.
#include <torch/csrc/stable/library.h>

#include "common/kernels.h"
#include "common/precision.h"

namespace memsuite {
namespace {

// Sets the instruction set, if this processor has it, and returns the current one.
int64_t kernel_level(int64_t level) {
  if (level >= 0 && level <= best_level()) current_level = static_cast<int>(level);
  return current_level;
}

// Whether this processor has the instruction of common/pairs.h, and all that its widest loops need.
bool has_bfloat16() {
#if defined(MEMSUITE_X86)
  return best_level() == 2 && __builtin_cpu_supports("avx512bf16");
#else
  return false;
#endif
}

// Computes products in bfloat16 from now on (1) or in float32 (0). Returns 1 if products are now in bfloat16; on a
// processor without it, and at a lower instruction set, they stay in float32. With -1 it only tells.
int64_t set_bfloat16_products(int64_t on) {
  if (on >= 0) bfloat16_products = on > 0 && has_bfloat16();
  return bfloat16_products && current_level == best_level();
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(memsuite, m) {
  m.def("kernel_level(int level) -> int");
  m.def("bfloat16_products(int on) -> int");
}

STABLE_TORCH_LIBRARY_IMPL(memsuite, CompositeExplicitAutograd, m) {
  m.impl("kernel_level", TORCH_BOX(&kernel_level));
  m.impl("bfloat16_products", TORCH_BOX(&set_bfloat16_products));
}

}  // namespace memsuite
