// Integer arithmetic, logic and shifts (PTX ISA, "Integer Arithmetic Instructions", "Logic and
// Shift Instructions").
#include "tests/gpusim/vm/families.h"
#include "tests/gpusim/vm/integer_operations.h"
#include "tests/gpusim/vm/lanewise.h"

namespace trireme::gpusim {
namespace {

using ptx::Instruction;
using ptx::Type;

Flow LookUp3(Warp& warp, const Op& op, LaneMask active) {
  warp.RequireDefined(op, active);
  const uint32_t* a = warp.In<uint32_t>(op.src[0]);
  const uint32_t* b = warp.In<uint32_t>(op.src[1]);
  const uint32_t* c = warp.In<uint32_t>(op.src[2]);
  uint32_t* dst = warp.Out<uint32_t>(op.dst[0], active);
  ForEachLane(active, [&](int l) {
    uint32_t out = 0;
    for (uint32_t row = 0; row < 8; ++row) {
      if ((op.imm >> row & 1) == 0) continue;
      out |= ((row & 4) != 0 ? a[l] : ~a[l]) & ((row & 2) != 0 ? b[l] : ~b[l]) &
             ((row & 1) != 0 ? c[l] : ~c[l]);
    }
    dst[l] = out;
  });
  return Flow::kNext;
}

absl::Status Finish(Decoder& decoder, const Instruction& instruction, Op* op) {
  return op->run != nullptr ? absl::OkStatus() : decoder.Unknown(instruction);
}

#define TRIREME_BY_TYPE(expression) \
  ForInteger(type, []<typename T>() -> Execute { return expression; })

template <bool multiply_add>
absl::Status DecodeMultiply(Decoder& decoder, const Instruction& instruction, Op* op) {
  const Type type = Decoder::TypeOf(instruction);
  op->op_class = OpClass::kInteger;
  const auto& operands = instruction.operands;
  const bool wide = instruction.Has("wide");
  std::vector<Slot> sources = {decoder.Read(operands[1], type), decoder.Read(operands[2], type)};
  if constexpr (multiply_add) {
    const Type wide_type = ptx::SizeOf(type) == 2 ? Type::kB32 : Type::kB64;
    sources.push_back(decoder.Read(operands[3], wide ? wide_type : type));
    if (wide) {
      op->run = TRIREME_BY_TYPE((&Lanewise<[](T a, T b, Wide<T> c) -> Wide<T> {
        return static_cast<Wide<T>>(static_cast<Unsigned<Wide<T>>>(MultiplyWide<T>(a, b)) +
                                    static_cast<Unsigned<Wide<T>>>(c));
      },
                                           Wide<T>, T, T, Wide<T>>));
    } else if (instruction.Has("hi")) {
      op->run = TRIREME_BY_TYPE(
          (&Lanewise<[](T a, T b, T c) -> T { return Add<T>(MultiplyHigh<T>(a, b), c); }, T, T, T,
                     T>));
    } else {
      op->run = TRIREME_BY_TYPE(
          (&Lanewise<[](T a, T b, T c) -> T { return Add<T>(MultiplyLow<T>(a, b), c); }, T, T, T,
                     T>));
    }
  } else if (wide) {
    op->run = TRIREME_BY_TYPE((&Lanewise<&MultiplyWide<T>, Wide<T>, T, T>));
  } else if (instruction.Has("hi")) {
    op->run = TRIREME_BY_TYPE((&Lanewise<&MultiplyHigh<T>, T, T, T>));
  } else {
    op->run = TRIREME_BY_TYPE((&Lanewise<&MultiplyLow<T>, T, T, T>));
  }
  decoder.SetDst(op, {decoder.Write(operands[0])});
  decoder.SetSrc(op, sources);
  return Finish(decoder, instruction, op);
}

// Two sources of one type.
template <typename Choose>
absl::Status DecodeBinary(Decoder& decoder, const Instruction& instruction, Op* op, Choose choose) {
  const Type type = Decoder::TypeOf(instruction);
  op->op_class = OpClass::kInteger;
  op->run = ForInteger(type, choose);
  SetOperands(decoder, instruction, type, op);
  return Finish(decoder, instruction, op);
}

absl::Status DecodeShift(Decoder& decoder, const Instruction& instruction, Op* op) {
  const Type type = Decoder::TypeOf(instruction);
  op->op_class = OpClass::kInteger;
  op->run = instruction.parts[0] == "shl"
                ? TRIREME_BY_TYPE((&Lanewise<&ShiftLeft<T>, T, T, uint32_t>))
                : TRIREME_BY_TYPE((&Lanewise<&ShiftRight<T>, T, T, uint32_t>));
  const auto& operands = instruction.operands;
  decoder.SetDst(op, {decoder.Write(operands[0])});
  decoder.SetSrc(op, {decoder.Read(operands[1], type), decoder.Read(operands[2], Type::kU32)});
  return Finish(decoder, instruction, op);
}

}  // namespace

absl::Status DecodeIntegerAddSub(Decoder& decoder, const Instruction& instruction, Op* op) {
  const bool add = instruction.parts[0] == "add";
  if (instruction.Has("cc")) return DecodeCarry(decoder, instruction, op);
  if (instruction.Has("sat")) {
    if (Decoder::TypeOf(instruction) != Type::kS32) return decoder.Unknown(instruction);
    op->op_class = OpClass::kInteger;
    op->run = add ? &Lanewise<&SaturatedAdd<int32_t>, int32_t, int32_t, int32_t>
                  : &Lanewise<&SaturatedSubtract<int32_t>, int32_t, int32_t, int32_t>;
    SetOperands(decoder, instruction, Type::kS32, op);
    return absl::OkStatus();
  }
  if (add) {
    return DecodeBinary(decoder, instruction, op,
                        []<typename T>() -> Execute { return &Lanewise<&Add<T>, T, T, T>; });
  }
  return DecodeBinary(decoder, instruction, op,
                      []<typename T>() -> Execute { return &Lanewise<&Subtract<T>, T, T, T>; });
}

absl::Status DecodeIntegerMul(Decoder& decoder, const Instruction& instruction, Op* op) {
  return DecodeMultiply<false>(decoder, instruction, op);
}

absl::Status DecodeIntegerDiv(Decoder& decoder, const Instruction& instruction, Op* op) {
  return DecodeBinary(decoder, instruction, op,
                      []<typename T>() -> Execute { return &Lanewise<&Divide<T>, T, T, T>; });
}

absl::Status DecodeIntegerMinMax(Decoder& decoder, const Instruction& instruction, Op* op) {
  if (instruction.parts[0] == "min") {
    return DecodeBinary(decoder, instruction, op, []<typename T>() -> Execute {
      return &Lanewise<[](T a, T b) -> T { return std::min(a, b); }, T, T, T>;
    });
  }
  return DecodeBinary(decoder, instruction, op, []<typename T>() -> Execute {
    return &Lanewise<[](T a, T b) -> T { return std::max(a, b); }, T, T, T>;
  });
}

absl::Status DecodeIntegerNegAbs(Decoder& decoder, const Instruction& instruction, Op* op) {
  if (instruction.parts[0] == "neg") {
    return DecodeBinary(decoder, instruction, op, []<typename T>() -> Execute {
      return &Lanewise<[](T a) -> T { return Subtract<T>(0, a); }, T, T>;
    });
  }
  return DecodeBinary(decoder, instruction, op, []<typename T>() -> Execute {
    return &Lanewise<[](T a) -> T { return a < 0 ? Subtract<T>(0, a) : a; }, T, T>;
  });
}

void AddIntegerFamily(Families* families) {
  (*families)["mad"] = [](Decoder& decoder, const Instruction& instruction, Op* op) {
    if (instruction.Has("cc")) return DecodeCarry(decoder, instruction, op);
    return DecodeMultiply<true>(decoder, instruction, op);
  };
  (*families)["rem"] = [](Decoder& decoder, const Instruction& instruction, Op* op) {
    return DecodeBinary(decoder, instruction, op,
                        []<typename T>() -> Execute { return &Lanewise<&Remainder<T>, T, T, T>; });
  };
  (*families)["shl"] = &DecodeShift;
  (*families)["shr"] = &DecodeShift;
  (*families)["shf"] = [](Decoder& decoder, const Instruction& instruction, Op* op) {
    const bool left = instruction.Has("l"), wrap = instruction.Has("wrap");
    using F = uint32_t;
    op->op_class = OpClass::kInteger;
    op->run = left ? (wrap ? &Lanewise<&FunnelShift<true, true>, F, F, F, F>
                           : &Lanewise<&FunnelShift<true, false>, F, F, F, F>)
                   : (wrap ? &Lanewise<&FunnelShift<false, true>, F, F, F, F>
                           : &Lanewise<&FunnelShift<false, false>, F, F, F, F>);
    SetOperands(decoder, instruction, Type::kB32, op);
    return absl::OkStatus();
  };
  (*families)["prmt"] = [](Decoder& decoder, const Instruction& instruction, Op* op) {
    if (instruction.parts.size() != 2) return decoder.Unknown(instruction);
    op->op_class = OpClass::kInteger;
    op->run = &Lanewise<&Permute, uint32_t, uint32_t, uint32_t, uint32_t>;
    SetOperands(decoder, instruction, Type::kB32, op);
    return absl::OkStatus();
  };
  (*families)["lop3"] = [](Decoder& decoder, const Instruction& instruction, Op* op) {
    const auto& operands = instruction.operands;
    if (operands.size() != 5) return decoder.Unknown(instruction);
    op->op_class = OpClass::kInteger;
    op->imm = operands[4].bits;
    op->run = &LookUp3;
    decoder.SetDst(op, {decoder.Write(operands[0])});
    decoder.SetSrc(op,
                   {decoder.Read(operands[1], Type::kB32), decoder.Read(operands[2], Type::kB32),
                    decoder.Read(operands[3], Type::kB32)});
    return absl::OkStatus();
  };
  (*families)["bfe"] = [](Decoder& decoder, const Instruction& instruction, Op* op) {
    const Type type = Decoder::TypeOf(instruction);
    const auto& operands = instruction.operands;
    op->op_class = OpClass::kInteger;
    op->run = TRIREME_BY_TYPE((&Lanewise<&ExtractField<T>, T, T, uint32_t, uint32_t>));
    decoder.SetDst(op, {decoder.Write(operands[0])});
    decoder.SetSrc(op, {decoder.Read(operands[1], type), decoder.Read(operands[2], Type::kU32),
                        decoder.Read(operands[3], Type::kU32)});
    return Finish(decoder, instruction, op);
  };
  (*families)["bfi"] = [](Decoder& decoder, const Instruction& instruction, Op* op) {
    const Type type = Decoder::TypeOf(instruction);
    const auto& operands = instruction.operands;
    op->op_class = OpClass::kInteger;
    op->run =
        type == Type::kB32
            ? &Lanewise<&InsertField<uint32_t>, uint32_t, uint32_t, uint32_t, uint32_t, uint32_t>
            : &Lanewise<&InsertField<uint64_t>, uint64_t, uint64_t, uint64_t, uint32_t, uint32_t>;
    decoder.SetDst(op, {decoder.Write(operands[0])});
    decoder.SetSrc(op,
                   {decoder.Read(operands[1], type), decoder.Read(operands[2], type),
                    decoder.Read(operands[3], Type::kU32), decoder.Read(operands[4], Type::kU32)});
    return absl::OkStatus();
  };
  (*families)["popc"] = [](Decoder& decoder, const Instruction& instruction, Op* op) {
    return DecodeBinary(decoder, instruction, op, []<typename T>() -> Execute {
      return &Lanewise<[](T a) -> uint32_t {
        return static_cast<uint32_t>(std::popcount(static_cast<Unsigned<T>>(a)));
      },
                       uint32_t, T>;
    });
  };
  (*families)["clz"] = [](Decoder& decoder, const Instruction& instruction, Op* op) {
    return DecodeBinary(decoder, instruction, op, []<typename T>() -> Execute {
      return &Lanewise<[](T a) -> uint32_t {
        return static_cast<uint32_t>(std::countl_zero(static_cast<Unsigned<T>>(a)));
      },
                       uint32_t, T>;
    });
  };
  (*families)["bfind"] = [](Decoder& decoder, const Instruction& instruction, Op* op) {
    const Type type = Decoder::TypeOf(instruction);
    op->op_class = OpClass::kInteger;
    op->run = instruction.Has("shiftamt")
                  ? TRIREME_BY_TYPE((&Lanewise<&FindLeadingShift<T>, uint32_t, T>))
                  : TRIREME_BY_TYPE((&Lanewise<&FindLeading<T>, uint32_t, T>));
    SetOperands(decoder, instruction, type, op);
    return Finish(decoder, instruction, op);
  };
  (*families)["brev"] = [](Decoder& decoder, const Instruction& instruction, Op* op) {
    op->op_class = OpClass::kInteger;
    const Type type = Decoder::TypeOf(instruction);
    op->run = type == Type::kB32 ? &Lanewise<&ReverseBits<uint32_t>, uint32_t, uint32_t>
                                 : &Lanewise<&ReverseBits<uint64_t>, uint64_t, uint64_t>;
    SetOperands(decoder, instruction, type, op);
    return absl::OkStatus();
  };
}

#undef TRIREME_BY_TYPE

}  // namespace trireme::gpusim
