// Moves, selection, comparison and predicates (PTX ISA, "Comparison and Selection Instructions",
// "Data Movement: mov, cvta").
#include <cmath>
#include <cstring>
#include <type_traits>

#include "tests/gpusim/vm/address.h"
#include "tests/gpusim/vm/families.h"
#include "tests/gpusim/vm/lanewise.h"
#include "tests/gpusim/vm/numbers.h"

namespace trireme::gpusim {
namespace {

using ptx::Instruction;
using ptx::Operand;
using ptx::Type;

// Copies, and with them whether there is a value at all: moving what is not set is no error, using
// it is.
template <typename T>
Flow Move(Warp& warp, const Op& op, LaneMask active) {
  const LaneMask defined = warp.defined(op.src[0]);
  const T* src = warp.In<T>(op.src[0]);
  LaneMask& mine = warp.defined(op.dst[0]);
  const LaneMask before = mine;
  T* dst = warp.Out<T>(op.dst[0], active);
  mine = (before & ~active) | (defined & active);
  if (active == kAllLanes) {
    std::memmove(dst, src, sizeof(T) * kWarpSize);
  } else {
    ForEachLane(active, [&](int lane) { dst[lane] = src[lane]; });
  }
  return Flow::kNext;
}

Flow MovePredicate(Warp& warp, const Op& op, LaneMask active) {
  warp.SetPredicate(op.dst[0], warp.Predicate(op.src[0]), active);
  return Flow::kNext;
}

// {a, b, ...} <-> one register of as many times the width.
template <typename Part, typename Whole>
Flow Pack(Warp& warp, const Op& op, LaneMask active) {
  warp.RequireDefined(op, active);
  Whole* dst = warp.Out<Whole>(op.dst[0], active);
  ForEachLane(active, [&](int lane) {
    Whole value = 0;
    for (int i = 0; i < op.num_src; ++i) {
      value |= static_cast<Whole>(static_cast<Whole>(warp.In<Part>(op.src[i])[lane])
                                  << (8 * sizeof(Part) * static_cast<size_t>(i)));
    }
    dst[lane] = value;
  });
  return Flow::kNext;
}
template <typename Part, typename Whole>
Flow Unpack(Warp& warp, const Op& op, LaneMask active) {
  warp.RequireDefined(op, active);
  Whole values[kWarpSize];
  std::memcpy(values, warp.In<Whole>(op.src[0]), sizeof(values));
  for (int i = 0; i < op.num_dst; ++i) {
    Part* dst = warp.Out<Part>(op.dst[i], active);
    ForEachLane(active, [&](int lane) {
      dst[lane] = static_cast<Part>(values[lane] >> (8 * sizeof(Part) * static_cast<size_t>(i)));
    });
  }
  return Flow::kNext;
}

absl::Status DecodeMove(Decoder& decoder, const Instruction& instruction, Op* op) {
  const Type type = Decoder::TypeOf(instruction);
  const Operand& to = instruction.operands[0];
  const Operand& from = instruction.operands[1];
  op->op_class = OpClass::kMove;
  decoder.SetDst(op, decoder.WriteAll(to));
  const int size = ptx::SizeOf(type);
  if (from.kind == Operand::Kind::kVector) {
    const int part = size / static_cast<int>(from.items.size());
    decoder.SetSrc(op, decoder.ReadAll(from, part == 2 ? Type::kB16 : Type::kB32));
    op->run = size == 4 && part == 2   ? &Pack<uint16_t, uint32_t>
              : size == 8 && part == 4 ? &Pack<uint32_t, uint64_t>
              : size == 8 && part == 2 ? &Pack<uint16_t, uint64_t>
                                       : nullptr;
  } else if (to.kind == Operand::Kind::kVector) {
    const int part = size / static_cast<int>(to.items.size());
    decoder.SetSrc(op, {decoder.Read(from, type)});
    op->run = size == 4 && part == 2   ? &Unpack<uint16_t, uint32_t>
              : size == 8 && part == 4 ? &Unpack<uint32_t, uint64_t>
              : size == 8 && part == 2 ? &Unpack<uint16_t, uint64_t>
                                       : nullptr;
  } else if (type == Type::kPred) {
    op->op_class = OpClass::kPredicate;
    decoder.SetSrc(op, {decoder.Read(from, type)});
    op->run = &MovePredicate;
  } else {
    decoder.SetSrc(op, {decoder.Read(from, type)});
    op->run = size == 2 ? &Move<uint16_t> : size == 4 ? &Move<uint32_t> : &Move<uint64_t>;
  }
  return op->run != nullptr ? absl::OkStatus() : decoder.Unknown(instruction);
}

template <typename T>
Flow Select(Warp& warp, const Op& op, LaneMask active) {
  const LaneMask choice = warp.Predicate(op.src[2]);
  const LaneMask first = warp.defined(op.src[0]), second = warp.defined(op.src[1]);
  const LaneMask known = warp.defined(op.src[2]);
  if ((active & ~known) != 0) warp.RequireDefined(op, active);
  const T* a = warp.In<T>(op.src[0]);
  const T* b = warp.In<T>(op.src[1]);
  LaneMask& mine = warp.defined(op.dst[0]);
  const LaneMask before = mine;
  T* dst = warp.Out<T>(op.dst[0], active);
  ForEachLane(active, [&](int lane) { dst[lane] = (choice >> lane & 1) != 0 ? a[lane] : b[lane]; });
  mine = (before & ~active) | (((choice & first) | (~choice & second)) & active);
  return Flow::kNext;
}

// ---- and, or, xor, not: of registers and of predicates.

template <typename F>
Flow CombinePredicates(Warp& warp, const Op& op, LaneMask active) {
  warp.RequireDefined(op, active);
  warp.SetPredicate(
      op.dst[0], F::Do(warp.Predicate(op.src[0]), warp.Predicate(op.src[op.num_src - 1])), active);
  return Flow::kNext;
}

struct And {
  template <typename T>
  static T Do(T a, T b) {
    return a & b;
  }
};
struct Or {
  template <typename T>
  static T Do(T a, T b) {
    return a | b;
  }
};
struct Xor {
  template <typename T>
  static T Do(T a, T b) {
    return a ^ b;
  }
};
struct Not {
  template <typename T>
  static T Do(T a, T) {
    return static_cast<T>(~a);
  }
};

template <typename F>
absl::Status DecodeLogic(Decoder& decoder, const Instruction& instruction, Op* op) {
  const Type type = Decoder::TypeOf(instruction);
  op->op_class = type == Type::kPred ? OpClass::kPredicate : OpClass::kInteger;
  if (type == Type::kPred) {
    op->run = &CombinePredicates<F>;
  } else if constexpr (std::is_same_v<F, Not>) {
    op->run = ForInteger(type, []<typename T>() -> Execute {
      return &Lanewise<[](T a) -> T { return static_cast<T>(~a); }, T, T>;
    });
  } else {
    op->run = ForInteger(type, []<typename T>() -> Execute {
      return &Lanewise<[](T a, T b) -> T { return F::template Do<T>(a, b); }, T, T, T>;
    });
  }
  if (op->run == nullptr) return decoder.Unknown(instruction);
  SetOperands(decoder, instruction, type, op);
  return absl::OkStatus();
}

// cvta: a window's address <-> a generic one.
absl::Status DecodeCvta(Decoder& decoder, const Instruction& instruction, Op* op) {
  op->op_class = OpClass::kMove;
  SetOperands(decoder, instruction, Type::kB64, op);
  const bool to = instruction.Has("to");
  if (instruction.Has("shared") || instruction.Has("shared::cta") ||
      instruction.Has("shared::cluster")) {
    op->run = to ? &Lanewise<[](uint64_t a) { return a & ~kWindowMask; }, uint64_t, uint64_t>
                 : &Lanewise<[](uint64_t a) { return a | kSharedWindow; }, uint64_t, uint64_t>;
  } else if (instruction.Has("local")) {
    op->run = to ? &Lanewise<[](uint64_t a) { return a & ~kWindowMask; }, uint64_t, uint64_t>
                 : &Lanewise<[](uint64_t a) { return a | kLocalWindow; }, uint64_t, uint64_t>;
  } else if (instruction.Has("param") || instruction.Has("param::entry")) {
    op->run = to ? &Lanewise<[](uint64_t a) { return a & ~kWindowMask; }, uint64_t, uint64_t>
                 : &Lanewise<[](uint64_t a) { return a | kParamWindow; }, uint64_t, uint64_t>;
  } else {
    op->run = &Move<uint64_t>;
  }
  return absl::OkStatus();
}

}  // namespace

void AddMoveFamily(Families* families) {
  (*families)["mov"] = &DecodeMove;
  (*families)["cvta"] = &DecodeCvta;
  (*families)["setp"] = &DecodeSetPredicate;
  (*families)["and"] = &DecodeLogic<And>;
  (*families)["or"] = &DecodeLogic<Or>;
  (*families)["xor"] = &DecodeLogic<Xor>;
  (*families)["not"] = &DecodeLogic<Not>;
  (*families)["selp"] = [](Decoder& decoder, const Instruction& instruction, Op* op) {
    const Type type = Decoder::TypeOf(instruction);
    const auto& operands = instruction.operands;
    op->op_class = OpClass::kMove;
    op->run = ptx::SizeOf(type) == 2   ? &Select<uint16_t>
              : ptx::SizeOf(type) == 4 ? &Select<uint32_t>
                                       : &Select<uint64_t>;
    decoder.SetDst(op, {decoder.Write(operands[0])});
    decoder.SetSrc(op, {decoder.Read(operands[1], type), decoder.Read(operands[2], type),
                        decoder.Read(operands[3], Type::kPred)});
    return absl::OkStatus();
  };
}

}  // namespace trireme::gpusim
