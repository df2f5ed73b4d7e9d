// Vectors of the widest type that the compiler may use, and the functions of gates on them.
//
// This uses GCC's vector extensions, and intrinsics only for at_most and at_least, so that the same code compiles for
// SSE2, AVX2, AVX-512 and other processors. Neither this file nor a file that loops.cpp includes may call a template or
// an inline function of the standard library. These files are compiled once per instruction set, and the linker would
// keep one copy of such a function for all of them, which some processors may not be able to run.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <type_traits>
#if defined(__AVX2__)
#include <immintrin.h>
#endif

#if !defined(MEMSUITE_LEVEL)
#define MEMSUITE_LEVEL base
#endif

#if defined(__AVX512F__)
#define MEMSUITE_VECTOR_BYTES 64
#elif defined(__AVX2__)
#define MEMSUITE_VECTOR_BYTES 32
#else
#define MEMSUITE_VECTOR_BYTES 16
#endif

#define MEMSUITE_INLINE inline __attribute__((always_inline))

namespace memsuite::MEMSUITE_LEVEL {

// The number of registers that hold the sums of a matrix product. AVX-512 has 32 registers, the others have 16; the
// rest hold the factors.
constexpr int kAccumulators = MEMSUITE_VECTOR_BYTES == 64 ? 24 : 12;

template <class T>
struct Simd;

template <>
struct Simd<float> {
  typedef float Vec __attribute__((vector_size(MEMSUITE_VECTOR_BYTES)));
  typedef int32_t Int __attribute__((vector_size(MEMSUITE_VECTOR_BYTES)));
  static constexpr int lanes = MEMSUITE_VECTOR_BYTES / 4;
  static constexpr int mantissa = 23, bias = 127, terms = 6, odd_terms = 7;
  static constexpr float magic = 12582912.0f;  // 1.5 * 2^23; adding it rounds to a whole number
  static constexpr float largest = 87.0f, flat = 20.0f;
  static constexpr float ln2 = 0.69314718f, ln2_high = 0.693359375f, ln2_low = -2.12194440e-4f;
  // Coefficients of expm1(r) / r on |r| <= ln(2) / 2, by Chebyshev interpolation, within 3e-8 of the function.
  static constexpr float coefficients[terms] = {1.0f, 0.5f, 0.166665052f, 0.041666465f, 0.0083691557f, 0.001393365f};
};

template <>
struct Simd<double> {
  typedef double Vec __attribute__((vector_size(MEMSUITE_VECTOR_BYTES)));
  typedef int64_t Int __attribute__((vector_size(MEMSUITE_VECTOR_BYTES)));
  static constexpr int lanes = MEMSUITE_VECTOR_BYTES / 8;
  static constexpr int mantissa = 52, bias = 1023, terms = 13, odd_terms = 16;
  static constexpr double magic = 6755399441055744.0;
  static constexpr double largest = 708.0, flat = 40.0;
  static constexpr double ln2 = 0.69314718055994530942, ln2_high = 6.93147180369123816490e-01,
                          ln2_low = 1.90821492927058770002e-10;
  static constexpr double coefficients[terms] = {
      // Taylor coefficients of the same function
      1.0,         1.0 / 2,      1.0 / 6,       1.0 / 24,       1.0 / 120,       1.0 / 720,         1.0 / 5040,
      1.0 / 40320, 1.0 / 362880, 1.0 / 3628800, 1.0 / 39916800, 1.0 / 479001600, 1.0 / 6227020800.0};
};

template <class T>
using Vec = typename Simd<T>::Vec;
template <class T>
using Int = typename Simd<T>::Int;

template <class T>
MEMSUITE_INLINE Vec<T> splat(T x) {
  return x - Vec<T>{};
}

// Loads the first n lanes and sets the others to zero, or stores the first n lanes. With Full, all lanes are taken and
// n is ignored.
template <bool Full, class T>
MEMSUITE_INLINE Vec<T> load(const T* p, int n) {
  Vec<T> v{};
  if constexpr (Full) {
    memcpy(&v, p, sizeof v);
  } else {
    for (int i = 0; i < n; ++i) v[i] = p[i];
  }
  return v;
}

template <bool Full, class T>
MEMSUITE_INLINE void store(T* p, Vec<T> v, int n) {
  if constexpr (Full) {
    memcpy(p, &v, sizeof v);
  } else {
    for (int i = 0; i < n; ++i) p[i] = v[i];
  }
}

// Calls body(full, offset, n) for every vector of a row. The last vector may have fewer than all lanes, and then `full`
// is std::false_type.
template <class T, class Body>
MEMSUITE_INLINE void over(int64_t size, Body body) {
  constexpr int L = Simd<T>::lanes;
  int64_t i = 0;
  for (; i + L <= size; i += L) body(std::true_type{}, i, L);
  if (i < size) body(std::false_type{}, i, static_cast<int>(size - i));
}

// The smaller (or larger) of x and the bound; NaN stays NaN.
#if defined(__AVX512F__)
// With the mask of all lanes this is the plain instruction. The intrinsic without a mask would pass an undefined vector
// to it, and GCC 12 warns about that.
constexpr __mmask16 kAllLanes = 0xffff;
MEMSUITE_INLINE Vec<float> at_most(Vec<float> x, float bound) {
  return _mm512_maskz_min_ps(kAllLanes, _mm512_set1_ps(bound), x);
}
MEMSUITE_INLINE Vec<float> at_least(Vec<float> x, float bound) {
  return _mm512_maskz_max_ps(kAllLanes, _mm512_set1_ps(bound), x);
}
#elif defined(__AVX2__)
MEMSUITE_INLINE Vec<float> at_most(Vec<float> x, float bound) { return _mm256_min_ps(_mm256_set1_ps(bound), x); }
MEMSUITE_INLINE Vec<float> at_least(Vec<float> x, float bound) { return _mm256_max_ps(_mm256_set1_ps(bound), x); }
#else
MEMSUITE_INLINE Vec<float> at_most(Vec<float> x, float bound) { return splat(bound) < x ? splat(bound) : x; }
MEMSUITE_INLINE Vec<float> at_least(Vec<float> x, float bound) { return splat(bound) > x ? splat(bound) : x; }
#endif
MEMSUITE_INLINE Vec<double> at_most(Vec<double> x, double bound) { return splat(bound) < x ? splat(bound) : x; }
MEMSUITE_INLINE Vec<double> at_least(Vec<double> x, double bound) { return splat(bound) > x ? splat(bound) : x; }

// Returns expm1 of the remainder r, with exp(x) = scale * (1 + expm1(r)), for |x| up to `largest`; NaN stays NaN.
template <class T>
MEMSUITE_INLINE Vec<T> reduced_expm1(Vec<T> x, Vec<T>& scale) {
  using S = Simd<T>;
  const Vec<T> shifted = x * splat<T>(T(1.44269504088896340736)) + splat<T>(S::magic);
  const Vec<T> whole = shifted - splat<T>(S::magic);
#if defined(__FMA__)
  const Vec<T> r = x - whole * splat<T>(S::ln2);  // a fused multiply-add rounds once, so that ln2 need not be split
#else
  const Vec<T> r = (x - whole * splat<T>(S::ln2_high)) - whole * splat<T>(S::ln2_low);
#endif
  Int<T> bits;
  memcpy(&bits, &shifted, sizeof bits);
  bits = (bits + S::bias) << S::mantissa;
  memcpy(&scale, &bits, sizeof bits);
  Vec<T> p = splat<T>(S::coefficients[S::terms - 1]);
#pragma GCC unroll 16
  for (int i = S::terms - 2; i >= 0; --i) p = p * r + splat<T>(S::coefficients[i]);
  return p * r;
}

template <class T>
MEMSUITE_INLINE Vec<T> exp(Vec<T> x) {
  using S = Simd<T>;
  x = at_least(at_most(x, S::largest), -S::largest);
  Vec<T> scale;
  const Vec<T> p = reduced_expm1<T>(x, scale);
  return scale * p + scale;
}

template <class T>
MEMSUITE_INLINE Vec<T> expm1(Vec<T> x) {
  using S = Simd<T>;
  x = at_least(at_most(x, S::largest), -S::largest);
  Vec<T> scale;
  const Vec<T> p = reduced_expm1<T>(x, scale);
  return scale * p + (scale - splat<T>(1));
}

// log(1 + z) for z in [0, 1], as 2 atanh(s) with s = z / (2 + z) <= 1/3. The series begins with s itself, so that small
// z keep all their digits.
template <class T>
MEMSUITE_INLINE Vec<T> log1p_of_fraction(Vec<T> z) {
  const Vec<T> s = z / (splat<T>(2) + z), square = s * s;
  Vec<T> p = splat<T>(T(1) / (2 * Simd<T>::odd_terms + 1));
#pragma GCC unroll 32
  for (int i = Simd<T>::odd_terms - 1; i >= 0; --i) p = p * square + splat<T>(T(1) / (2 * i + 1));
  return splat<T>(2) * s * p;
}

constexpr double kSteep = 20;  // beyond this, softplus is taken to be its argument, as in PyTorch

// log(1 + exp(x)); NaN stays NaN.
template <class T>
MEMSUITE_INLINE Vec<T> softplus(Vec<T> x) {
  const Vec<T> positive = x > splat<T>(0) ? x : Vec<T>{}, negative = x > splat<T>(0) ? -x : x;
  return x > splat<T>(kSteep) ? x : positive + log1p_of_fraction<T>(exp<T>(negative));
}

template <class T>
MEMSUITE_INLINE Vec<T> sigmoid(Vec<T> x) {
  return splat<T>(1) / (splat<T>(1) + exp<T>(-x));
}

// Computed as expm1(2|x|) / (expm1(2|x|) + 2), which is exact to rounding for small x too, where 1 - exp(-2x) cancels.
template <class T>
MEMSUITE_INLINE Vec<T> tanh(Vec<T> x) {
  using S = Simd<T>;
  Int<T> bits, top{};
  memcpy(&bits, &x, sizeof bits);
  top = (top + 1) << (8 * static_cast<int>(sizeof(T)) - 1);
  const Int<T> sign = bits & top;
  bits &= ~top;
  Vec<T> twice;
  memcpy(&twice, &bits, sizeof bits);
  twice += twice;
  twice = at_most(twice, S::flat);
  Vec<T> scale;
  const Vec<T> p = reduced_expm1<T>(twice, scale);
  const Vec<T> expm1 = scale * p + (scale - splat<T>(1));
  Vec<T> y = expm1 / (expm1 + splat<T>(2));
  memcpy(&bits, &y, sizeof bits);
  bits |= sign;
  memcpy(&y, &bits, sizeof bits);
  return y;
}

// The number of values in the next vector, of `left` remaining ones.
template <class T>
MEMSUITE_INLINE int lanes_of(int64_t left) {
  constexpr int L = Simd<T>::lanes;
  return left < 0 ? 0 : left < L ? static_cast<int>(left) : L;
}

// Uninitialised memory for one call, aligned to a cache line.
template <class T>
struct Scratch {
  T* data;
  explicit Scratch(int64_t count)
      : data(static_cast<T*>(aligned_alloc(64, (static_cast<size_t>(count) * sizeof(T) / 64 + 1) * 64))) {}
  ~Scratch() { free(data); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
};

}  // namespace memsuite::MEMSUITE_LEVEL
