// The reductions of cp.reduce.async.bulk and of its tensor form, element by element.
#include <algorithm>
#include <cstring>
#include <type_traits>

#include "tests/gpusim/vm/bulk_copy.h"
#include "tests/gpusim/vm/decoder.h"
#include "tests/gpusim/vm/numbers.h"

namespace trireme::gpusim {
namespace {

using ptx::Type;

template <typename T, auto combine>
void ReduceEach(std::byte* memory, const std::byte* bytes, size_t size) {
  for (size_t at = 0; at + sizeof(T) <= size; at += sizeof(T)) {
    T a, b;
    std::memcpy(&a, memory + at, sizeof(T));
    std::memcpy(&b, bytes + at, sizeof(T));
    a = combine(a, b);
    std::memcpy(memory + at, &a, sizeof(T));
  }
}

template <typename T>
T Wrapped(T a, T b) {
  using U = std::make_unsigned_t<T>;
  return static_cast<T>(static_cast<U>(a) + static_cast<U>(b));
}

template <typename T>
T Inc(T a, T b) {
  return a >= b ? T{0} : static_cast<T>(a + 1);
}
template <typename T>
T Dec(T a, T b) {
  return a == 0 || a > b ? b : static_cast<T>(a - 1);
}

template <typename T>
Reduction ForIntegers(std::string_view what) {
  if (what == "add") return &ReduceEach<T, &Wrapped<T>>;
  if (what == "min") return &ReduceEach<T, [](T a, T b) { return std::min(a, b); }>;
  if (what == "max") return &ReduceEach<T, [](T a, T b) { return std::max(a, b); }>;
  if (what == "and") return &ReduceEach<T, [](T a, T b) { return static_cast<T>(a & b); }>;
  if (what == "or") return &ReduceEach<T, [](T a, T b) { return static_cast<T>(a | b); }>;
  if (what == "xor") return &ReduceEach<T, [](T a, T b) { return static_cast<T>(a ^ b); }>;
  if (what == "inc") return &ReduceEach<T, &Inc<T>>;
  if (what == "dec") return &ReduceEach<T, &Dec<T>>;
  return nullptr;
}

template <float (*from)(uint16_t), uint16_t (*to)(float)>
struct Half {
  static uint16_t Add(uint16_t a, uint16_t b) { return to(from(a) + from(b)); }
  static uint16_t Min(uint16_t a, uint16_t b) { return from(b) < from(a) ? b : a; }
  static uint16_t Max(uint16_t a, uint16_t b) { return from(a) < from(b) ? b : a; }
};

template <typename H>
Reduction ForHalves(std::string_view what) {
  if (what == "add") return &ReduceEach<uint16_t, &H::Add>;
  if (what == "min") return &ReduceEach<uint16_t, &H::Min>;
  if (what == "max") return &ReduceEach<uint16_t, &H::Max>;
  return nullptr;
}

}  // namespace

Reduction ReductionOf(std::string_view what, Type type) {
  switch (type) {
    case Type::kU32:
    case Type::kB32:
      return ForIntegers<uint32_t>(what);
    case Type::kS32:
      return ForIntegers<int32_t>(what);
    case Type::kU64:
    case Type::kB64:
      return ForIntegers<uint64_t>(what);
    case Type::kS64:
      return ForIntegers<int64_t>(what);
    case Type::kF16:
      return ForHalves<Half<&FromF16, &ToF16>>(what);
    case Type::kBf16:
      return ForHalves<Half<&FromBf16, &ToBf16>>(what);
    case Type::kF32:
      return what == "add" ? &ReduceEach<float, [](float a, float b) { return a + b; }> : nullptr;
    case Type::kF64:
      return what == "add" ? &ReduceEach<double, [](double a, double b) { return a + b; }>
                           : nullptr;
    default:
      return nullptr;
  }
}

std::string_view ReductionName(const ptx::Instruction& instruction) {
  for (const std::string_view part : instruction.parts) {
    for (const char* name : {"add", "min", "max", "and", "or", "xor", "inc", "dec"}) {
      if (part == name) return part;
    }
  }
  return "";
}

Reduction ReductionNamed(const ptx::Instruction& instruction) {
  return ReductionOf(ReductionName(instruction), Decoder::TypeOf(instruction));
}

}  // namespace trireme::gpusim
