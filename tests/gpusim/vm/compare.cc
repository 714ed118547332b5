// setp (PTX ISA, "Comparison and Selection Instructions").
#include <cmath>
#include <type_traits>

#include "tests/gpusim/vm/families.h"
#include "tests/gpusim/vm/lanewise.h"
#include "tests/gpusim/vm/numbers.h"

namespace trireme::gpusim {
namespace {

using ptx::Instruction;
using ptx::Operand;
using ptx::Type;

enum class Compare {
  kEq,
  kNe,
  kLt,
  kLe,
  kGt,
  kGe,
  kLo,
  kLs,
  kHi,
  kHs,
  kEqu,
  kNeu,
  kLtu,
  kLeu,
  kGtu,
  kGeu,
  kNum,
  kNan
};

template <typename T, Compare compare>
bool Holds(T a, T b) {
  if constexpr (std::is_floating_point_v<T>) {
    const bool unordered = std::isnan(a) || std::isnan(b);
    switch (compare) {
      case Compare::kNum:
        return !unordered;
      case Compare::kNan:
        return unordered;
      case Compare::kNe:
        return !unordered && a != b;
      case Compare::kEqu:
        return unordered || a == b;
      case Compare::kNeu:
        return unordered || a != b;
      case Compare::kLtu:
        return unordered || a < b;
      case Compare::kLeu:
        return unordered || a <= b;
      case Compare::kGtu:
        return unordered || a > b;
      case Compare::kGeu:
        return unordered || a >= b;
      default:
        break;
    }
  }
  switch (compare) {
    case Compare::kEq:
      return a == b;
    case Compare::kNe:
      return a != b;
    case Compare::kLt:
    case Compare::kLo:
      return a < b;
    case Compare::kLe:
    case Compare::kLs:
      return a <= b;
    case Compare::kGt:
    case Compare::kHi:
      return a > b;
    default:
      return a >= b;
  }
}

// How dst[0] and dst[1] follow from the comparison and src[2], a predicate.
enum class Combine : uint64_t { kNone, kAnd, kOr, kXor };

template <typename T, Compare compare, bool is_bf16, bool is_f16>
Flow SetPredicate(Warp& warp, const Op& op, LaneMask active) {
  warp.RequireDefined(op, active);
  const T* a = warp.In<T>(op.src[0]);
  const T* b = warp.In<T>(op.src[1]);
  LaneMask holds = 0;
  for (int lane = 0; lane < kWarpSize; ++lane) {
    bool one;
    if constexpr (is_bf16) {
      one = Holds<float, compare>(FromBf16(a[lane]), FromBf16(b[lane]));
    } else if constexpr (is_f16) {
      one = Holds<float, compare>(FromF16(a[lane]), FromF16(b[lane]));
    } else {
      one = Holds<T, compare>(a[lane], b[lane]);
    }
    holds |= static_cast<LaneMask>(one) << lane;
  }
  LaneMask other = ~holds;
  if (op.num_src > 2) {
    const LaneMask with =
        (op.imm & 8) != 0 ? ~warp.Predicate(op.src[2]) : warp.Predicate(op.src[2]);
    switch (static_cast<Combine>(op.imm & 7)) {
      case Combine::kAnd:
        holds &= with, other &= with;
        break;
      case Combine::kOr:
        holds |= with, other |= with;
        break;
      default:
        holds ^= with, other ^= with;
        break;
    }
  }
  warp.SetPredicate(op.dst[0], holds, active);
  if (op.num_dst > 1) warp.SetPredicate(op.dst[1], other, active);
  return Flow::kNext;
}

template <Compare compare>
Execute ForType(Type type) {
  switch (type) {
    case Type::kF32:
      return &SetPredicate<float, compare, false, false>;
    case Type::kF64:
      return &SetPredicate<double, compare, false, false>;
    case Type::kBf16:
      return &SetPredicate<uint16_t, compare, true, false>;
    case Type::kF16:
      return &SetPredicate<uint16_t, compare, false, true>;
    default:
      return ForInteger(
          type, []<typename T>() -> Execute { return &SetPredicate<T, compare, false, false>; });
  }
}

Execute ChooseCompare(std::string_view name, Type type) {
#define TRIREME_CASE(text, value) \
  if (name == text) return ForType<Compare::value>(type)
  TRIREME_CASE("eq", kEq);
  TRIREME_CASE("ne", kNe);
  TRIREME_CASE("lt", kLt);
  TRIREME_CASE("le", kLe);
  TRIREME_CASE("gt", kGt);
  TRIREME_CASE("ge", kGe);
  TRIREME_CASE("lo", kLo);
  TRIREME_CASE("ls", kLs);
  TRIREME_CASE("hi", kHi);
  TRIREME_CASE("hs", kHs);
  TRIREME_CASE("equ", kEqu);
  TRIREME_CASE("neu", kNeu);
  TRIREME_CASE("ltu", kLtu);
  TRIREME_CASE("leu", kLeu);
  TRIREME_CASE("gtu", kGtu);
  TRIREME_CASE("geu", kGeu);
  TRIREME_CASE("num", kNum);
  TRIREME_CASE("nan", kNan);
#undef TRIREME_CASE
  return nullptr;
}

}  // namespace

absl::Status DecodeSetPredicate(Decoder& decoder, const Instruction& instruction, Op* op) {
  const Type type = Decoder::TypeOf(instruction);
  op->op_class = OpClass::kPredicate;
  op->run = ChooseCompare(instruction.parts[1], type);
  if (op->run == nullptr) return decoder.Unknown(instruction);
  const auto& operands = instruction.operands;
  std::vector<Slot> to = {decoder.Write(operands[0])};
  if (operands[0].second >= 0) {
    Operand second = operands[0];
    second.reg = operands[0].second;
    to.push_back(decoder.Write(second));
  }
  std::vector<Slot> from = {decoder.Read(operands[1], type), decoder.Read(operands[2], type)};
  if (operands.size() > 3) {
    from.push_back(decoder.Read(operands[3], Type::kPred));
    const Combine combine = instruction.Has("and")  ? Combine::kAnd
                            : instruction.Has("or") ? Combine::kOr
                                                    : Combine::kXor;
    op->imm = static_cast<uint64_t>(combine) | (operands[3].negated ? 8 : 0);
  }
  decoder.SetDst(op, to);
  decoder.SetSrc(op, from);
  return absl::OkStatus();
}

}  // namespace trireme::gpusim
