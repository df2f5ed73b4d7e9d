// What a step of the matrix-state recurrence takes away. No torch here.
#pragma once

namespace memsuite {

// A step takes away nothing, what the state holds under the key (the delta rule), or what it holds at an address.
enum class Rule { kSum, kDelta, kEdit };

}  // namespace memsuite
