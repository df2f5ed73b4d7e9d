// The precision of products of float32 numbers. No torch here.
#pragma once

namespace memsuite {

// Whether products with the weights of maps, and the gradients of weights, are computed in bfloat16, where the loops of
// an instruction set can do that (common/pairs.h). It belongs to the process, not to a thread.
inline bool bfloat16_products = false;

}  // namespace memsuite
