// Integer arithmetic as the PTX ISA has it: wraps around, shifts by any number, divides by zero.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <limits>
#include <type_traits>

namespace trireme::gpusim {

template <typename T>
struct UnsignedOf : std::make_unsigned<T> {};
template <>
struct UnsignedOf<__int128> {
  using type = unsigned __int128;
};
template <>
struct UnsignedOf<unsigned __int128> {
  using type = unsigned __int128;
};
template <typename T>
using Unsigned = typename UnsignedOf<T>::type;
template <typename T>
inline constexpr int kBits = 8 * sizeof(T);

// The type of twice the width.
template <typename T>
using Wide = std::conditional_t<
    sizeof(T) == 2, std::conditional_t<std::is_signed_v<T>, int32_t, uint32_t>,
    std::conditional_t<sizeof(T) == 4, std::conditional_t<std::is_signed_v<T>, int64_t, uint64_t>,
                       std::conditional_t<std::is_signed_v<T>, __int128, unsigned __int128>>>;

// Wraps around.
template <typename T>
T Add(T a, T b) {
  return static_cast<T>(static_cast<Unsigned<T>>(a) + static_cast<Unsigned<T>>(b));
}
template <typename T>
T Subtract(T a, T b) {
  return static_cast<T>(static_cast<Unsigned<T>>(a) - static_cast<Unsigned<T>>(b));
}
template <typename T>
T MultiplyLow(T a, T b) {
  return static_cast<T>(static_cast<Unsigned<Wide<T>>>(a) * static_cast<Unsigned<Wide<T>>>(b));
}
template <>
inline uint64_t MultiplyLow(uint64_t a, uint64_t b) {
  return a * b;
}
template <>
inline int64_t MultiplyLow(int64_t a, int64_t b) {
  return static_cast<int64_t>(static_cast<uint64_t>(a) * static_cast<uint64_t>(b));
}
template <typename T>
T MultiplyHigh(T a, T b) {
  return static_cast<T>((static_cast<Wide<T>>(a) * static_cast<Wide<T>>(b)) >> kBits<T>);
}
template <typename T>
Wide<T> MultiplyWide(T a, T b) {
  return static_cast<Wide<T>>(a) * static_cast<Wide<T>>(b);
}

template <typename T>
T SaturatedAdd(T a, T b) {
  const Wide<T> sum = static_cast<Wide<T>>(a) + b;
  return static_cast<T>(
      std::clamp<Wide<T>>(sum, std::numeric_limits<T>::min(), std::numeric_limits<T>::max()));
}
template <typename T>
T SaturatedSubtract(T a, T b) {
  const Wide<T> difference = static_cast<Wide<T>>(a) - b;
  return static_cast<T>(std::clamp<Wide<T>>(difference, std::numeric_limits<T>::min(),
                                            std::numeric_limits<T>::max()));
}

// By zero: "machine-specific"; all ones, as the hardware does it.
template <typename T>
T Divide(T a, T b) {
  if (b == 0) return static_cast<T>(~Unsigned<T>{0});
  if (std::is_signed_v<T> && b == static_cast<T>(-1)) return Subtract<T>(0, a);
  return static_cast<T>(a / b);
}
template <typename T>
T Remainder(T a, T b) {
  if (b == 0) return a;
  if (std::is_signed_v<T> && b == static_cast<T>(-1)) return 0;
  return static_cast<T>(a % b);
}

// Amounts beyond the width are clamped to it.
template <typename T>
T ShiftLeft(T a, uint32_t by) {
  return by >= kBits<T> ? T{0} : static_cast<T>(static_cast<Unsigned<T>>(a) << by);
}
template <typename T>
T ShiftRight(T a, uint32_t by) {
  if (by >= kBits<T>) return static_cast<T>(a < 0 ? -1 : 0);
  return static_cast<T>(a >> by);
}

template <typename T>
uint32_t FindLeading(T a) {
  const Unsigned<T> x = static_cast<Unsigned<T>>(std::is_signed_v<T> && a < 0 ? ~a : a);
  return x == 0 ? ~0u : static_cast<uint32_t>(kBits<T> - 1 - std::countl_zero(x));
}
template <typename T>
uint32_t FindLeadingShift(T a) {
  const uint32_t at = FindLeading(a);
  return at == ~0u ? at : static_cast<uint32_t>(kBits<T> - 1) - at;
}
template <typename T>
T ReverseBits(T a) {
  T out = 0;
  for (int i = 0; i < kBits<T>; ++i) out |= static_cast<T>(((a >> i) & 1) << (kBits<T> - 1 - i));
  return out;
}
template <typename T>
T ExtractField(T a, uint32_t b, uint32_t c) {
  const uint32_t position = b & 0xff, length = c & 0xff;
  const uint32_t top = std::min<uint32_t>(position + length - 1, kBits<T> - 1);
  const bool sign =
      std::is_signed_v<T> && length != 0 && ((static_cast<Unsigned<T>>(a) >> top) & 1) != 0;
  T out = sign ? static_cast<T>(-1) : T{0};
  for (uint32_t i = 0; i < length && position + i < static_cast<uint32_t>(kBits<T>) &&
                       i < static_cast<uint32_t>(kBits<T>);
       ++i) {
    const Unsigned<T> bit = (static_cast<Unsigned<T>>(a) >> (position + i)) & 1;
    out = static_cast<T>((static_cast<Unsigned<T>>(out) & ~(Unsigned<T>{1} << i)) | (bit << i));
  }
  return out;
}
template <typename T>
T InsertField(T a, T b, uint32_t c, uint32_t d) {
  const uint32_t position = c & 0xff, length = d & 0xff;
  if (position >= static_cast<uint32_t>(kBits<T>) || length == 0) return b;
  const T ones = length >= static_cast<uint32_t>(kBits<T>) ? static_cast<T>(~T{0})
                                                           : static_cast<T>((T{1} << length) - 1);
  const T mask = static_cast<T>(ones << position);
  return static_cast<T>((b & ~mask) | ((a << position) & mask));
}

template <auto left, auto wrap>
uint32_t FunnelShift(uint32_t low, uint32_t high, uint32_t by) {
  const uint32_t n = wrap ? by & 31 : std::min(by, 32u);
  const uint64_t both = uint64_t{high} << 32 | low;
  return static_cast<uint32_t>(left ? both << n >> 32 : both >> n);
}

// Bytes 0-3 of a, 4-7 of b; a selector's bit 3 repeats the sign of its byte.
inline uint32_t Permute(uint32_t a, uint32_t b, uint32_t selectors) {
  const uint64_t bytes = uint64_t{b} << 32 | a;
  uint32_t out = 0;
  for (int i = 0; i < 4; ++i) {
    const uint32_t selector = selectors >> (4 * i) & 15;
    uint32_t byte = static_cast<uint32_t>(bytes >> (8 * (selector & 7))) & 0xff;
    if ((selector & 8) != 0) byte = (byte & 0x80) != 0 ? 0xff : 0;
    out |= byte << (8 * i);
  }
  return out;
}

}  // namespace trireme::gpusim
