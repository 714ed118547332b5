// Operations that each lane does by itself: one function from values to a value.
#pragma once

#include <tuple>
#include <utility>

#include "tests/gpusim/vm/decoder.h"
#include "tests/gpusim/vm/grid.h"

namespace trireme::gpusim {

// dst[0] = fn(src[0], src[1], ...) in every active lane. D and S are the types as they lie in the
// register file.
template <auto fn, typename D, typename... S>
Flow Lanewise(Warp& warp, const Op& op, LaneMask active) {
  warp.RequireDefined(op, active);
  return [&]<size_t... I>(std::index_sequence<I...>) {
    D* const dst = warp.Out<D>(op.dst[0], active);
    const std::tuple<const S*...> src{warp.In<S>(op.src[I])...};
    if (active == kAllLanes) {
#pragma GCC ivdep
      for (int lane = 0; lane < kWarpSize; ++lane) dst[lane] = fn(std::get<I>(src)[lane]...);
    } else {
      ForEachLane(active, [&](int lane) { dst[lane] = fn(std::get<I>(src)[lane]...); });
    }
    return Flow::kNext;
  }
  (std::index_sequence_for<S...>{});
}

// Calls choose.operator()<T>() with the C++ type of an integer type of 16 to 64 bits; null for
// another.
template <typename F>
Execute ForInteger(ptx::Type type, F choose) {
  switch (type) {
    case ptx::Type::kU16:
    case ptx::Type::kB16:
      return choose.template operator()<uint16_t>();
    case ptx::Type::kS16:
      return choose.template operator()<int16_t>();
    case ptx::Type::kU32:
    case ptx::Type::kB32:
      return choose.template operator()<uint32_t>();
    case ptx::Type::kS32:
      return choose.template operator()<int32_t>();
    case ptx::Type::kU64:
    case ptx::Type::kB64:
      return choose.template operator()<uint64_t>();
    case ptx::Type::kS64:
      return choose.template operator()<int64_t>();
    default:
      return nullptr;
  }
}

// Fills in dst[0] and all sources, each read as `type`.
inline void SetOperands(Decoder& decoder, const ptx::Instruction& instruction, ptx::Type type,
                        Op* op) {
  decoder.SetDst(op, {decoder.Write(instruction.operands[0])});
  std::vector<Slot> sources;
  for (size_t i = 1; i < instruction.operands.size(); ++i) {
    sources.push_back(decoder.Read(instruction.operands[i], type));
  }
  decoder.SetSrc(op, sources);
}

}  // namespace trireme::gpusim
