#include "tests/gpusim/nccl/reduce.h"

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "tests/gpusim/vm/numbers.h"

namespace trireme::gpusim {
namespace {

// How a type is kept (Stored) and calculated with (Value).
template <typename T>
struct Plain {
  using Stored = T;
  using Value = T;
  static T Load(T stored) { return stored; }
  static T Store(T value) { return value; }
};
struct Half {
  using Stored = uint16_t;
  using Value = float;
  static float Load(uint16_t stored) { return FromF16(stored); }
  static uint16_t Store(float value) { return ToF16(value); }
};
struct Bf16 {
  using Stored = uint16_t;
  using Value = float;
  static float Load(uint16_t stored) { return FromBf16(stored); }
  static uint16_t Store(float value) { return ToBf16(value); }
};

// f(type) with the type's arithmetic; integers wrap as unsigned ones.
template <typename F>
void WithType(ncclDataType_t type, F&& f) {
  switch (type) {
    case ncclInt8:
      return f(Plain<int8_t>());
    case ncclUint8:
      return f(Plain<uint8_t>());
    case ncclInt32:
      return f(Plain<int32_t>());
    case ncclUint32:
      return f(Plain<uint32_t>());
    case ncclInt64:
      return f(Plain<int64_t>());
    case ncclUint64:
      return f(Plain<uint64_t>());
    case ncclFloat16:
      return f(Half());
    case ncclBfloat16:
      return f(Bf16());
    case ncclFloat32:
      return f(Plain<float>());
    default:
      return f(Plain<double>());
  }
}

template <typename V>
V Wrapping(ncclRedOp_t op, V a, V b) {
  if constexpr (std::is_integral_v<V>) {
    using U = std::conditional_t<sizeof(V) < 4, uint32_t, std::make_unsigned_t<V>>;
    return static_cast<V>(op == ncclProd ? static_cast<U>(a) * static_cast<U>(b)
                                         : static_cast<U>(a) + static_cast<U>(b));
  } else {
    return op == ncclProd ? a * b : a + b;
  }
}

// Calls change(value, i) for each element in place.
template <typename T, typename F>
void EachValue(std::byte* values, size_t count, F&& change) {
  for (size_t i = 0; i < count; ++i) {
    typename T::Stored stored;
    std::memcpy(&stored, values + i * sizeof(stored), sizeof(stored));
    stored = T::Store(change(T::Load(stored), i));
    std::memcpy(values + i * sizeof(stored), &stored, sizeof(stored));
  }
}

}  // namespace

size_t BytesOf(ncclDataType_t type) {
  switch (type) {
    case ncclInt8:
    case ncclUint8:
    case ncclFloat8e4m3:
    case ncclFloat8e5m2:
      return 1;
    case ncclFloat16:
    case ncclBfloat16:
      return 2;
    case ncclInt32:
    case ncclUint32:
    case ncclFloat32:
      return 4;
    case ncclInt64:
    case ncclUint64:
    case ncclFloat64:
      return 8;
    default:
      return 0;
  }
}

bool IsReduction(ncclRedOp_t op) {
  return op == ncclSum || op == ncclProd || op == ncclMax || op == ncclMin || op == ncclAvg;
}

void Reduce(ncclDataType_t type, ncclRedOp_t op, const std::byte* from, size_t count,
            std::byte* into) {
  WithType(type, [&](auto arithmetic) {
    using T = decltype(arithmetic);
    using Value = typename T::Value;
    EachValue<T>(into, count, [&](Value a, size_t i) {
      typename T::Stored stored;
      std::memcpy(&stored, from + i * sizeof(stored), sizeof(stored));
      const Value b = T::Load(stored);
      if (op == ncclMax) return std::max(a, b);
      if (op == ncclMin) return std::min(a, b);
      return Wrapping<Value>(op, a, b);
    });
  });
}

void DivideBy(ncclDataType_t type, int num_ranks, size_t count, std::byte* values) {
  WithType(type, [&](auto arithmetic) {
    using T = decltype(arithmetic);
    using Value = typename T::Value;
    EachValue<T>(values, count, [&](Value a, size_t) {
      return static_cast<Value>(a / static_cast<Value>(num_ranks));
    });
  });
}

}  // namespace trireme::gpusim
