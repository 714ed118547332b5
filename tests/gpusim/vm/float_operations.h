// Operations on float and double, and what may be wrapped around them: roundings, .ftz, .sat,
// .relu.
#pragma once

#include <cfenv>
#include <cmath>
#include <limits>

#include "tests/gpusim/vm/numbers.h"

namespace trireme::gpusim {

struct AddOp {
  template <typename T>
  static T Do(T a, T b) {
    return a + b;
  }
};
struct SubtractOp {
  template <typename T>
  static T Do(T a, T b) {
    return a - b;
  }
};
struct MultiplyOp {
  template <typename T>
  static T Do(T a, T b) {
    return a * b;
  }
};
struct DivideOp {
  template <typename T>
  static T Do(T a, T b) {
    return a / b;
  }
};
struct FmaOp {
  template <typename T>
  static T Do(T a, T b, T c) {
    return std::fma(a, b, c);
  }
};
struct ReciprocalOp {
  template <typename T>
  static T Do(T a) {
    return T{1} / a;
  }
};
struct SquareRootOp {
  template <typename T>
  static T Do(T a) {
    return std::sqrt(a);
  }
};
// The approximations of the hardware are within 1-2 ulp; these are better.
struct ReciprocalSquareRootOp {
  template <typename T>
  static T Do(T a) {
    return T{1} / std::sqrt(a);
  }
};
struct Exp2Op {
  template <typename T>
  static T Do(T a) {
    return std::exp2(a);
  }
};
struct Log2Op {
  template <typename T>
  static T Do(T a) {
    return std::log2(a);
  }
};
struct SinOp {
  template <typename T>
  static T Do(T a) {
    return std::sin(a);
  }
};
struct CosOp {
  template <typename T>
  static T Do(T a) {
    return std::cos(a);
  }
};
struct TanhOp {
  template <typename T>
  static T Do(T a) {
    return std::tanh(a);
  }
};
// A NaN loses against a number; -0 is below +0.
struct MinOp {
  template <typename T>
  static T Do(T a, T b) {
    if (std::isnan(a)) return b;
    if (std::isnan(b)) return a;
    if (a == b) return std::signbit(a) ? a : b;
    return a < b ? a : b;
  }
};
struct MaxOp {
  template <typename T>
  static T Do(T a, T b) {
    if (std::isnan(a)) return b;
    if (std::isnan(b)) return a;
    if (a == b) return std::signbit(a) ? b : a;
    return a > b ? a : b;
  }
};
template <typename Inner>
struct NanOp {  // .NaN: a NaN wins
  template <typename T>
  static T Do(T a, T b) {
    if (std::isnan(a) || std::isnan(b)) return std::numeric_limits<T>::quiet_NaN();
    return Inner::template Do<T>(a, b);
  }
};

// ---- Modifiers.

template <typename Inner, int mode>
struct Rounded {  // .rz, .rm, .rp
  template <typename T, typename... Rest>
  static T Do(T first, Rest... rest) {
    // Volatile: nothing may move out of the changed mode.
    const int before = std::fegetround();
    std::fesetround(mode);
    volatile T a = first;
    volatile T result = Inner::template Do<T>(a, rest...);
    std::fesetround(before);
    return result;
  }
};
template <typename Inner>
struct Flushed {  // .ftz
  template <typename T, typename... Rest>
  static T Do(T first, Rest... rest) {
    return Flush(Inner::template Do<T>(Flush(first), Flush(rest)...));
  }
};
template <typename Inner>
struct Saturated {  // .sat
  template <typename T, typename... Rest>
  static T Do(T first, Rest... rest) {
    const T value = Inner::template Do<T>(first, rest...);
    if (std::isnan(value)) return T{0};
    return std::fmin(std::fmax(value, T{0}), T{1});
  }
};
template <typename Inner>
struct Rectified {  // .relu
  template <typename T, typename... Rest>
  static T Do(T first, Rest... rest) {
    const T value = Inner::template Do<T>(first, rest...);
    return std::isnan(value) ? value : std::fmax(value, T{0});
  }
};

}  // namespace trireme::gpusim
