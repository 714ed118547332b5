// cvt between pairs of 8-bit floats and f32, f16x2 (PTX ISA, "cvt": .e4m3x2, .e5m2x2). The first
// source, or the upper half, is the upper byte.
#include <algorithm>

#include "tests/gpusim/vm/families.h"
#include "tests/gpusim/vm/fp8.h"
#include "tests/gpusim/vm/lanewise.h"

namespace trireme::gpusim {
namespace {

using ptx::Type;

template <uint8_t (*narrow)(float), bool relu>
uint16_t FromPair(float high, float low) {
  const auto one = [](float value) { return narrow(relu && value < 0 ? 0.0f : value); };
  return static_cast<uint16_t>(one(high) << 8 | one(low));
}

template <uint8_t (*narrow)(float), bool relu>
uint16_t FromHalves(uint32_t halves) {
  return FromPair<narrow, relu>(FromF16(static_cast<uint16_t>(halves >> 16)),
                                FromF16(static_cast<uint16_t>(halves)));
}

template <float (*wide)(uint8_t), bool relu>
uint32_t ToHalves(uint16_t pair) {
  const auto one = [](int bits) {
    const float value = wide(static_cast<uint8_t>(bits));
    return uint32_t{ToF16(relu && value < 0 ? 0.0f : value)};
  };
  return one(pair >> 8) << 16 | one(pair);
}

template <uint8_t (*narrow)(float), float (*wide)(uint8_t), bool relu>
Execute Choose(bool to_fp8, bool from_f32) {
  if (!to_fp8) return &Lanewise<&ToHalves<wide, relu>, uint32_t, uint16_t>;
  if (from_f32) return &Lanewise<&FromPair<narrow, relu>, uint16_t, float, float>;
  return &Lanewise<&FromHalves<narrow, relu>, uint16_t, uint32_t>;
}

}  // namespace

absl::Status DecodeConvertFp8(Decoder& decoder, const ptx::Instruction& instruction, Op* op) {
  const auto& parts = instruction.parts;  // ..., to, from
  const bool to_fp8 = parts[parts.size() - 2].ends_with("x2") && parts[parts.size() - 2][0] == 'e';
  const bool from_f32 = parts.back() == "f32", relu = instruction.Has("relu"),
             e4m3 = instruction.Has("e4m3x2");
  const size_t operands = from_f32 ? 3 : 2;
  const bool halves = to_fp8 ? from_f32 || parts.back() == "f16x2" : instruction.Has("f16x2");
  // What does not fit is the largest finite number: nothing else exists for these types.
  if (!halves || instruction.operands.size() != operands || !instruction.Has("rn") ||
      (to_fp8 && !instruction.Has("satfinite"))) {
    return decoder.Unknown(instruction);
  }
  op->run = e4m3   ? relu ? Choose<&ToE4m3, &FromE4m3, true>(to_fp8, from_f32)
                          : Choose<&ToE4m3, &FromE4m3, false>(to_fp8, from_f32)
              : relu ? Choose<&ToE5m2, &FromE5m2, true>(to_fp8, from_f32)
                   : Choose<&ToE5m2, &FromE5m2, false>(to_fp8, from_f32);
  SetOperands(decoder, instruction, from_f32 ? Type::kF32 : Type::kB16, op);
  return absl::OkStatus();
}

}  // namespace trireme::gpusim
