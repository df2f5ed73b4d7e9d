// The precision of matrix products with weights in float32. No torch here.
#pragma once

namespace memsuite {

// Whether they are computed in bfloat16, where the loops of an instruction set can do that (common/pairs.h).
inline bool bfloat16_products = false;

}  // namespace memsuite
