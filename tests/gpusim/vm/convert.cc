// cvt (PTX ISA, "Data Movement and Conversion Instructions: cvt").
#include <algorithm>
#include <cfenv>
#include <cmath>
#include <limits>
#include <type_traits>

#include "tests/gpusim/vm/families.h"
#include "tests/gpusim/vm/lanewise.h"
#include "tests/gpusim/vm/numbers.h"

namespace trireme::gpusim {
namespace {

using ptx::Instruction;
using ptx::Type;

bool IsHalf(Type type) { return type == Type::kF16 || type == Type::kBf16; }
bool IsFloat(Type type) { return IsHalf(type) || type == Type::kF32 || type == Type::kF64; }

int RoundingMode(const Instruction& instruction) {
  if (instruction.Has("rz") || instruction.Has("rzi")) return FE_TOWARDZERO;
  if (instruction.Has("rm") || instruction.Has("rmi")) return FE_DOWNWARD;
  if (instruction.Has("rp") || instruction.Has("rpi")) return FE_UPWARD;
  return FE_TONEAREST;
}

double RoundToIntegral(double value, int mode) {
  switch (mode) {
    case FE_TOWARDZERO:
      return std::trunc(value);
    case FE_DOWNWARD:
      return std::floor(value);
    case FE_UPWARD:
      return std::ceil(value);
    default:
      return std::nearbyint(value);
  }
}

// op.imm: the two types, mode and flags, packed by Pack().
struct Plan {
  Type to, from;
  int mode;
  bool sat, ftz, relu, to_integral;
  uint8_t to_bytes, from_bytes;  // of the registers
};
uint64_t Pack(const Plan& p) {
  return static_cast<uint64_t>(p.to) | static_cast<uint64_t>(p.from) << 8 |
         static_cast<uint64_t>(p.mode) << 16 | uint64_t{p.sat} << 32 | uint64_t{p.ftz} << 33 |
         uint64_t{p.relu} << 34 | uint64_t{p.to_integral} << 35 | uint64_t{p.to_bytes} << 40 |
         uint64_t{p.from_bytes} << 48;
}
Plan Unpack(uint64_t bits) {
  return {static_cast<Type>(bits & 0xff),
          static_cast<Type>(bits >> 8 & 0xff),
          static_cast<int>(bits >> 16 & 0xffff),
          (bits >> 32 & 1) != 0,
          (bits >> 33 & 1) != 0,
          (bits >> 34 & 1) != 0,
          (bits >> 35 & 1) != 0,
          static_cast<uint8_t>(bits >> 40),
          static_cast<uint8_t>(bits >> 48)};
}

int64_t SignExtend(uint64_t bits, int bytes) {
  const int shift = 64 - 8 * bytes;
  return static_cast<int64_t>(bits << shift) >> shift;
}
bool IsSigned(Type type) {
  return type == Type::kS8 || type == Type::kS16 || type == Type::kS32 || type == Type::kS64;
}

double ToDouble(uint64_t bits, Type type) {
  switch (type) {
    case Type::kF16:
      return FromF16(static_cast<uint16_t>(bits));
    case Type::kBf16:
      return FromBf16(static_cast<uint16_t>(bits));
    case Type::kF32:
      return std::bit_cast<float>(static_cast<uint32_t>(bits));
    default:
      return std::bit_cast<double>(bits);
  }
}

float NarrowToFloat(double value, int mode) {
  if (mode == FE_TONEAREST) return static_cast<float>(value);
  const int before = std::fegetround();
  std::fesetround(mode);
  volatile double in = value;
  volatile float out = static_cast<float>(in);
  std::fesetround(before);
  return out;
}

uint64_t FromDouble(double value, const Plan& plan) {
  if (plan.sat) value = std::isnan(value) ? 0.0 : std::clamp(value, 0.0, 1.0);
  if (plan.relu && value < 0) value = 0;
  switch (plan.to) {
    case Type::kF16:
      return ToF16(static_cast<float>(value));
    case Type::kBf16: {
      const float narrow = static_cast<float>(value);
      return plan.mode == FE_TOWARDZERO ? ToBf16TowardZero(narrow) : ToBf16(narrow);
    }
    case Type::kF32: {
      float narrow = NarrowToFloat(value, plan.mode);
      if (plan.ftz) narrow = Flush(narrow);
      return std::bit_cast<uint32_t>(Canonical(narrow));
    }
    default:
      return std::bit_cast<uint64_t>(value);
  }
}

// Out of range: the nearest that fits; NaN: 0 (and 0x8000... for 64-bit ones).
uint64_t ToInteger(double value, const Plan& plan) {
  const int bytes = ptx::SizeOf(plan.to);
  const double rounded = RoundToIntegral(value, plan.mode);
  if (std::isnan(rounded)) return bytes == 8 ? uint64_t{1} << 63 : 0;
  if (IsSigned(plan.to)) {
    const double limit = std::ldexp(1.0, 8 * bytes - 1);
    if (rounded >= limit) return (uint64_t{1} << (8 * bytes - 1)) - 1;
    if (rounded < -limit) return static_cast<uint64_t>(-1) << (8 * bytes - 1);
    return static_cast<uint64_t>(static_cast<int64_t>(rounded));
  }
  if (rounded <= 0) return 0;
  const double limit = std::ldexp(1.0, 8 * bytes);
  if (rounded >= limit) return bytes == 8 ? ~uint64_t{0} : (uint64_t{1} << (8 * bytes)) - 1;
  return static_cast<uint64_t>(rounded);
}

// Integer to float, rounded once.
uint64_t FromInteger(uint64_t bits, const Plan& plan) {
  const int bytes = ptx::SizeOf(plan.from);
  const int before = std::fegetround();
  if (plan.mode != FE_TONEAREST) std::fesetround(plan.mode);
  uint64_t out;
  if (plan.to == Type::kF64) {
    volatile double value = IsSigned(plan.from) ? static_cast<double>(SignExtend(bits, bytes))
                                                : static_cast<double>(bits);
    out = std::bit_cast<uint64_t>(static_cast<double>(value));
  } else {
    volatile float value = IsSigned(plan.from) ? static_cast<float>(SignExtend(bits, bytes))
                                               : static_cast<float>(bits);
    const float narrow = value;
    out = plan.to == Type::kF32   ? std::bit_cast<uint32_t>(narrow)
          : plan.to == Type::kF16 ? ToF16(narrow)
                                  : ToBf16(narrow);
  }
  std::fesetround(before);
  return out;
}

uint64_t IntegerToInteger(uint64_t bits, const Plan& plan) {
  const int from = ptx::SizeOf(plan.from), to = ptx::SizeOf(plan.to);
  const uint64_t wide = IsSigned(plan.from) ? static_cast<uint64_t>(SignExtend(bits, from)) : bits;
  if (!plan.sat) return wide;
  if (IsSigned(plan.from)) {
    const int64_t value = static_cast<int64_t>(wide);
    if (!IsSigned(plan.to)) {
      const uint64_t top = to == 8 ? ~uint64_t{0} : (uint64_t{1} << (8 * to)) - 1;
      return value < 0 ? 0 : std::min(static_cast<uint64_t>(value), top);
    }
    const int64_t top = static_cast<int64_t>((uint64_t{1} << (8 * to - 1)) - 1);
    return static_cast<uint64_t>(std::clamp(value, -top - 1, top));
  }
  const uint64_t top = (uint64_t{1} << (8 * to - (IsSigned(plan.to) ? 1 : 0))) - 1;
  return to == 8 && !IsSigned(plan.to) ? wide : std::min(wide, top);
}

uint64_t ConvertOne(uint64_t bits, const Plan& plan) {
  if (IsFloat(plan.from)) {
    double value = ToDouble(bits, plan.from);
    if (plan.ftz && plan.from == Type::kF32) value = Flush(static_cast<float>(value));
    if (!IsFloat(plan.to)) return ToInteger(value, plan);
    if (plan.to_integral) value = RoundToIntegral(value, plan.mode);
    return FromDouble(value, plan);
  }
  return IsFloat(plan.to) ? FromInteger(bits, plan) : IntegerToInteger(bits, plan);
}

uint64_t ReadBits(const Warp& warp, Slot slot, int register_bytes, int bytes, int lane) {
  uint64_t bits = register_bytes == 2   ? warp.In<uint16_t>(slot)[lane]
                  : register_bytes == 4 ? warp.In<uint32_t>(slot)[lane]
                                        : warp.In<uint64_t>(slot)[lane];
  if (bytes < 8) bits &= (uint64_t{1} << (8 * bytes)) - 1;
  return bits;
}

Flow Convert(Warp& warp, const Op& op, LaneMask active) {
  warp.RequireDefined(op, active);
  const Plan plan = Unpack(op.imm);
  const int from = ptx::SizeOf(plan.from), to = ptx::SizeOf(plan.to);
  ForEachLane(active, [&](int lane) {
    uint64_t bits = ConvertOne(ReadBits(warp, op.src[0], plan.from_bytes, from, lane), plan);
    const LaneMask one = LaneMask{1} << lane;
    // A register wider than the type holds the value extended.
    if (!IsFloat(plan.to) && IsSigned(plan.to)) {
      bits = static_cast<uint64_t>(SignExtend(bits, to));
    } else if (to < 8) {
      bits &= (uint64_t{1} << (8 * to)) - 1;
    }
    if (plan.to_bytes == 2) {
      warp.Out<uint16_t>(op.dst[0], one)[lane] = static_cast<uint16_t>(bits);
    } else if (plan.to_bytes == 4) {
      warp.Out<uint32_t>(op.dst[0], one)[lane] = static_cast<uint32_t>(bits);
    } else {
      warp.Out<uint64_t>(op.dst[0], one)[lane] = bits;
    }
  });
  return Flow::kNext;
}

// Between integers that fill their registers, not saturating: vector code.
template <typename D, typename S>
D Resize(S value) {
  return static_cast<D>(value);
}
Execute ResizeOf(const Plan& plan) {
  if (IsFloat(plan.from) || IsFloat(plan.to) || plan.sat ||
      plan.from_bytes != ptx::SizeOf(plan.from) || plan.to_bytes != ptx::SizeOf(plan.to)) {
    return nullptr;
  }
  return ForInteger(plan.from, [&]<typename S>() {
    return plan.to_bytes == 2   ? &Lanewise<&Resize<uint16_t, S>, uint16_t, S>
           : plan.to_bytes == 4 ? &Lanewise<&Resize<uint32_t, S>, uint32_t, S>
                                : &Lanewise<&Resize<uint64_t, S>, uint64_t, S>;
  });
}

// cvt.rn.bf16x2.f32 d, a, b: a in the upper half.
template <uint16_t (*half)(float)>
uint32_t ConvertPair(float a, float b) {
  return uint32_t{half(a)} << 16 | half(b);
}
uint16_t Rectified(float v, uint16_t (*half)(float)) { return half(v < 0 ? 0.0f : v); }
uint16_t ReluBf16(float v) { return Rectified(v, &ToBf16); }
uint16_t ReluF16(float v) { return Rectified(v, &ToF16); }

absl::Status DecodeConvert(Decoder& decoder, const Instruction& instruction, Op* op) {
  const Type to = Decoder::TypeOf(instruction), from = Decoder::TypeOf(instruction, 1);
  const auto& operands = instruction.operands;
  op->op_class = OpClass::kConvert;
  if (instruction.Has("e4m3x2") || instruction.Has("e5m2x2")) {
    return DecodeConvertFp8(decoder, instruction, op);
  }
  if ((to == Type::kBf16x2 || to == Type::kF16x2) && from == Type::kF32 && operands.size() == 3) {
    using F = float;
    const bool relu = instruction.Has("relu"), bf16 = to == Type::kBf16x2,
               rz = instruction.Has("rz");
    if (rz && (!bf16 || relu)) return decoder.Unknown(instruction);
    op->run = rz             ? &Lanewise<&ConvertPair<&ToBf16TowardZero>, uint32_t, F, F>
              : bf16 && relu ? &Lanewise<&ConvertPair<&ReluBf16>, uint32_t, F, F>
              : bf16         ? &Lanewise<&ConvertPair<&ToBf16>, uint32_t, F, F>
              : relu         ? &Lanewise<&ConvertPair<&ReluF16>, uint32_t, F, F>
                             : &Lanewise<&ConvertPair<&ToF16>, uint32_t, F, F>;
    SetOperands(decoder, instruction, from, op);
    return absl::OkStatus();
  }
  if (to == Type::kNone || from == Type::kNone || operands.size() != 2) {
    return decoder.Unknown(instruction);
  }
  const bool integral = instruction.Has("rni") || instruction.Has("rzi") ||
                        instruction.Has("rmi") || instruction.Has("rpi");
  op->imm = Pack({to, from, RoundingMode(instruction), instruction.Has("sat"),
                  instruction.Has("ftz"), instruction.Has("relu"), integral && IsFloat(to),
                  static_cast<uint8_t>(decoder.SizeOf(operands[0], to)),
                  static_cast<uint8_t>(decoder.SizeOf(operands[1], from))});
  SetOperands(decoder, instruction, from, op);
  const Execute resize = ResizeOf(Unpack(op->imm));
  op->run = resize != nullptr ? resize : &Convert;
  return absl::OkStatus();
}

}  // namespace

void AddConvertFamily(Families* families) { (*families)["cvt"] = &DecodeConvert; }

}  // namespace trireme::gpusim
