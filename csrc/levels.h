// Which instruction set's loops run: the widest that this processor has.
#pragma once

#include <type_traits>

#include "cpu/table.h"

namespace memsuite {

#if defined(MEMSUITE_X86)
namespace base { extern const Level level; }
namespace v3 { extern const Level level; }
namespace v4 { extern const Level level; }
#else
namespace base { extern const Level level; }
#endif

// The instruction sets by size: 0 is what every processor of the kind has, then AVX2 with FMA, then AVX-512.
inline int best_level() {
#if defined(MEMSUITE_X86)
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma") || !__builtin_cpu_supports("bmi2")) return 0;
  const bool wide = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                    __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
                    __builtin_cpu_supports("avx512vl");
  return wide ? 2 : 1;
#else
  return 0;
#endif
}

inline int current_level = best_level();

template <class T>
const Table<T>& table() {
#if defined(MEMSUITE_X86)
  const Level& level = current_level == 2 ? v4::level : current_level == 1 ? v3::level : base::level;
#else
  const Level& level = base::level;
#endif
  if constexpr (std::is_same_v<T, float>) {
    return level.of_float;
  } else {
    return level.of_double;
  }
}

}  // namespace memsuite
