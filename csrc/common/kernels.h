// The current instruction set, and the place where the bindings find the loops of an op for it.
//
// The loops of every op are compiled once per instruction set (../loops.cpp), in a namespace of that name. There an op
// offers its loops as a struct with one named member per loop (offer.h), and a binding requests that struct by its
// type: kernels<PscanKernels<float>>().forward(..). If an op offers nothing for an instruction set, the library does
// not link.
#pragma once

namespace memsuite {

namespace base {
template <class Kernels>
const Kernels& offered();
}
#if defined(MEMSUITE_X86)
namespace v3 {
template <class Kernels>
const Kernels& offered();
}
namespace v4 {
template <class Kernels>
const Kernels& offered();
}
#endif

// The widest instruction set that this processor has: 0 is the base set of the architecture, 1 is AVX2 with FMA,
// 2 is AVX-512.
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

// The loops of an op for the current instruction set.
template <class Kernels>
const Kernels& kernels() {
#if defined(MEMSUITE_X86)
  if (current_level == 2) return v4::offered<Kernels>();
  if (current_level == 1) return v3::offered<Kernels>();
#endif
  return base::offered<Kernels>();
}

}  // namespace memsuite
