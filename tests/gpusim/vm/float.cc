// Floating-point arithmetic (PTX ISA, "Floating Point Instructions", "Half Precision ...").
#include "tests/gpusim/vm/families.h"
#include "tests/gpusim/vm/float_operations.h"
#include "tests/gpusim/vm/lanewise.h"
#include "tests/gpusim/vm/numbers.h"

namespace trireme::gpusim {
namespace {

using ptx::Instruction;
using ptx::Type;

// ---- Formats.

struct F32 {
  using Storage = float;
  template <typename Operation, typename... A>
  static float Do(A... a) {
    return Canonical(Operation::template Do<float>(a...));
  }
};
struct F64 {
  using Storage = double;
  template <typename Operation, typename... A>
  static double Do(A... a) {
    return Operation::template Do<double>(a...);
  }
};
// In double, then rounded once: exact for what one instruction computes of 11-bit numbers, but for
// an fma whose exact sum needs more than 53 bits and lies next to a tie.
struct F16 {
  using Storage = uint16_t;
  template <typename Operation, typename... A>
  static uint16_t Do(A... a) {
    const double value = Operation::template Do<double>(static_cast<double>(FromF16(a))...);
    return std::isnan(value) ? uint16_t{0x7fff}
                             : std::bit_cast<uint16_t>(static_cast<_Float16>(value));
  }
};
struct Bf16 {
  using Storage = uint16_t;
  template <typename Operation, typename... A>
  static uint16_t Do(A... a) {
    const double value = Operation::template Do<double>(static_cast<double>(FromBf16(a))...);
    // Odd rounding to float first: the second rounding is then right. (Boldo and Melquiond 2008.)
    float narrow = static_cast<float>(value);
    if (static_cast<double>(narrow) != value && !std::isnan(value) && !std::isinf(narrow)) {
      uint32_t bits = std::bit_cast<uint32_t>(narrow);
      const bool away = std::fabs(static_cast<double>(narrow)) > std::fabs(value);
      bits = (away ? bits - 1 : bits) | 1;
      narrow = std::bit_cast<float>(bits);
    }
    return ToBf16(narrow);
  }
};
template <typename Half>
struct Pair {
  using Storage = uint32_t;
  template <typename Operation, typename... A>
  static uint32_t Do(A... a) {
    const uint32_t low = Half::template Do<Operation>(static_cast<uint16_t>(a)...);
    const uint32_t high = Half::template Do<Operation>(static_cast<uint16_t>(a >> 16)...);
    return high << 16 | low;
  }
};

template <typename Format, typename Operation, typename... A>
Execute Run() {
  return &Lanewise<&Format::template Do<Operation, A...>, typename Format::Storage, A...>;
}
template <typename Format, typename Operation, int arity>
Execute WithArity() {
  using S = typename Format::Storage;
  if constexpr (arity == 1) {
    return Run<Format, Operation, S>();
  } else if constexpr (arity == 2) {
    return Run<Format, Operation, S, S>();
  } else {
    return Run<Format, Operation, S, S, S>();
  }
}

// The operation with what the opcode asks for. Null: a combination that is not known.
template <typename Operation, int arity>
Execute Choose(const Instruction& instruction, Type type) {
  const bool ftz = instruction.Has("ftz"), sat = instruction.Has("sat"),
             relu = instruction.Has("relu");
  const int mode = instruction.Has("rz")   ? FE_TOWARDZERO
                   : instruction.Has("rm") ? FE_DOWNWARD
                   : instruction.Has("rp") ? FE_UPWARD
                                           : FE_TONEAREST;
  const auto rounded = [&]<typename Format>() -> Execute {
    if (ftz || sat || relu) return nullptr;
    switch (mode) {
      case FE_TOWARDZERO:
        return WithArity<Format, Rounded<Operation, FE_TOWARDZERO>, arity>();
      case FE_DOWNWARD:
        return WithArity<Format, Rounded<Operation, FE_DOWNWARD>, arity>();
      default:
        return WithArity<Format, Rounded<Operation, FE_UPWARD>, arity>();
    }
  };
  switch (type) {
    case Type::kF32:
      if (mode != FE_TONEAREST) return rounded.template operator()<F32>();
      if (ftz && sat) return WithArity<F32, Saturated<Flushed<Operation>>, arity>();
      if (ftz) return WithArity<F32, Flushed<Operation>, arity>();
      if (sat) return WithArity<F32, Saturated<Operation>, arity>();
      return WithArity<F32, Operation, arity>();
    case Type::kF64:
      if (mode != FE_TONEAREST) return rounded.template operator()<F64>();
      return WithArity<F64, Operation, arity>();
    case Type::kF16:
      if (relu) return WithArity<F16, Rectified<Operation>, arity>();
      if (sat) return WithArity<F16, Saturated<Operation>, arity>();
      return ftz ? nullptr : WithArity<F16, Operation, arity>();
    case Type::kF16x2:
      if (relu) return WithArity<Pair<F16>, Rectified<Operation>, arity>();
      if (sat) return WithArity<Pair<F16>, Saturated<Operation>, arity>();
      return ftz ? nullptr : WithArity<Pair<F16>, Operation, arity>();
    case Type::kBf16:
      if (relu) return WithArity<Bf16, Rectified<Operation>, arity>();
      return ftz ? nullptr : WithArity<Bf16, Operation, arity>();
    case Type::kBf16x2:
      if (relu) return WithArity<Pair<Bf16>, Rectified<Operation>, arity>();
      return ftz ? nullptr : WithArity<Pair<Bf16>, Operation, arity>();
    default:
      return nullptr;
  }
}

bool IsFloat(Type type) {
  return type == Type::kF32 || type == Type::kF64 || type == Type::kF16 || type == Type::kF16x2 ||
         type == Type::kBf16 || type == Type::kBf16x2;
}

absl::Status Finish(Decoder& decoder, const Instruction& instruction, Type type, Op* op) {
  if (op->run == nullptr) return decoder.Unknown(instruction);
  op->op_class = OpClass::kFloat;
  SetOperands(decoder, instruction, type, op);
  return absl::OkStatus();
}

template <typename Operation, int arity, DecodeFamily integer>
absl::Status DecodeEither(Decoder& decoder, const Instruction& instruction, Op* op) {
  const Type type = Decoder::TypeOf(instruction);
  if (!IsFloat(type)) {
    if constexpr (integer != nullptr) return integer(decoder, instruction, op);
  }
  op->run = Choose<Operation, arity>(instruction, type);
  return Finish(decoder, instruction, type, op);
}

template <typename Operation, DecodeFamily integer>
absl::Status DecodeExtreme(Decoder& decoder, const Instruction& instruction, Op* op) {
  const Type type = Decoder::TypeOf(instruction);
  if (!IsFloat(type)) return integer(decoder, instruction, op);
  const bool three = instruction.operands.size() == 4;
  if (three || instruction.Has("xorsign")) return decoder.Unknown(instruction);
  op->run = instruction.Has("NaN") ? Choose<NanOp<Operation>, 2>(instruction, type)
                                   : Choose<Operation, 2>(instruction, type);
  return Finish(decoder, instruction, type, op);
}

// Signs are bits: a NaN keeps its payload.
template <bool negate>
absl::Status DecodeSign(Decoder& decoder, const Instruction& instruction, Op* op) {
  const Type type = Decoder::TypeOf(instruction);
  if (!IsFloat(type)) return DecodeIntegerNegAbs(decoder, instruction, op);
  const auto change = []<typename T, T sign>() -> Execute {
    return &Lanewise<[](T a) -> T {
      return static_cast<T>(negate ? a ^ sign : a & static_cast<T>(~sign));
    },
                     T, T>;
  };
  switch (ptx::SizeOf(type)) {
    case 2:
      op->run = change.template operator()<uint16_t, 0x8000>();
      break;
    case 8:
      op->run = change.template operator()<uint64_t, uint64_t{1} << 63>();
      break;
    default:
      op->run = type == Type::kF32 ? change.template operator()<uint32_t, 0x80000000u>()
                                   : change.template operator()<uint32_t, 0x80008000u>();
  }
  if (instruction.Has("ftz")) {
    if (type != Type::kF32) return decoder.Unknown(instruction);
    op->run =
        &Lanewise<[](float a) { return negate ? -Flush(a) : std::fabs(Flush(a)); }, float, float>;
  }
  return Finish(decoder, instruction, type, op);
}

}  // namespace

void AddFloatFamily(Families* families) {
  (*families)["add"] = &DecodeEither<AddOp, 2, &DecodeIntegerAddSub>;
  (*families)["sub"] = &DecodeEither<SubtractOp, 2, &DecodeIntegerAddSub>;
  (*families)["mul"] = &DecodeEither<MultiplyOp, 2, &DecodeIntegerMul>;
  (*families)["div"] = &DecodeEither<DivideOp, 2, &DecodeIntegerDiv>;
  (*families)["fma"] = &DecodeEither<FmaOp, 3, nullptr>;
  (*families)["min"] = &DecodeExtreme<MinOp, &DecodeIntegerMinMax>;
  (*families)["max"] = &DecodeExtreme<MaxOp, &DecodeIntegerMinMax>;
  (*families)["neg"] = &DecodeSign<true>;
  (*families)["abs"] = &DecodeSign<false>;
  (*families)["rcp"] = &DecodeEither<ReciprocalOp, 1, nullptr>;
  (*families)["sqrt"] = &DecodeEither<SquareRootOp, 1, nullptr>;
  (*families)["rsqrt"] = &DecodeEither<ReciprocalSquareRootOp, 1, nullptr>;
  (*families)["ex2"] = &DecodeEither<Exp2Op, 1, nullptr>;
  (*families)["lg2"] = &DecodeEither<Log2Op, 1, nullptr>;
  (*families)["sin"] = &DecodeEither<SinOp, 1, nullptr>;
  (*families)["cos"] = &DecodeEither<CosOp, 1, nullptr>;
  (*families)["tanh"] = &DecodeEither<TanhOp, 1, nullptr>;
  (*families)["copysign"] = [](Decoder& decoder, const Instruction& instruction, Op* op) {
    const Type type = Decoder::TypeOf(instruction);
    // copysign d, a, b: the sign of a on b.
    op->run =
        type == Type::kF32
            ? &Lanewise<[](float a, float b) { return std::copysign(b, a); }, float, float, float>
            : nullptr;
    return Finish(decoder, instruction, type, op);
  };
}

}  // namespace trireme::gpusim
