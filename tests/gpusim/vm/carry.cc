// Arithmetic of several words: add.cc and its kin pass a carry on in a flag of the thread (PTX ISA,
// "Extended-Precision Integer Arithmetic Instructions").
#include <type_traits>

#include "tests/gpusim/vm/families.h"
#include "tests/gpusim/vm/lanewise.h"

namespace trireme::gpusim {
namespace {

using ptx::Instruction;
using ptx::Type;

template <typename T>
using Wide = std::conditional_t<sizeof(T) == 4, uint64_t, unsigned __int128>;

// Of op.imm.
enum : uint64_t { kReadsFlag = 1, kWritesFlag = 2, kSubtracts = 4, kHigh = 8, kSigned = 16 };

// The flag is a predicate: the last destination, and the last source. A difference borrows when the
// flag is set.
template <typename T>
Flow AddWithCarry(Warp& warp, const Op& op, LaneMask active) {
  warp.RequireDefined(op, active);
  const T* a = warp.In<T>(op.src[0]);
  const T* b = warp.In<T>(op.src[1]);
  const LaneMask in = (op.imm & kReadsFlag) != 0 ? warp.Predicate(op.src[2]) : 0;
  LaneMask out = 0;
  T* dst = warp.Out<T>(op.dst[0], active);
  ForEachLane(active, [&](int lane) {
    const Wide<T> carry = in >> lane & 1;
    const Wide<T> sum = (op.imm & kSubtracts) != 0 ? Wide<T>{a[lane]} - b[lane] - carry
                                                   : Wide<T>{a[lane]} + b[lane] + carry;
    dst[lane] = static_cast<T>(sum);
    out |= static_cast<LaneMask>((sum >> (8 * sizeof(T)) & 1) != 0) << lane;
  });
  if ((op.imm & kWritesFlag) != 0) warp.SetPredicate(op.dst[1], out, active);
  return Flow::kNext;
}

template <typename T>
T Half(T a, T b, bool high, bool is_signed) {
  if (!high) return static_cast<T>(Wide<T>{a} * b);
  T half = static_cast<T>((Wide<T>{a} * b) >> (8 * sizeof(T)));
  if (is_signed) {  // the product of two's complements
    if (static_cast<std::make_signed_t<T>>(a) < 0) half -= b;
    if (static_cast<std::make_signed_t<T>>(b) < 0) half -= a;
  }
  return half;
}

template <typename T>
Flow MultiplyAddWithCarry(Warp& warp, const Op& op, LaneMask active) {
  warp.RequireDefined(op, active);
  const T* a = warp.In<T>(op.src[0]);
  const T* b = warp.In<T>(op.src[1]);
  const T* c = warp.In<T>(op.src[2]);
  const LaneMask in = (op.imm & kReadsFlag) != 0 ? warp.Predicate(op.src[3]) : 0;
  LaneMask out = 0;
  T* dst = warp.Out<T>(op.dst[0], active);
  ForEachLane(active, [&](int lane) {
    const T half = Half<T>(a[lane], b[lane], (op.imm & kHigh) != 0, (op.imm & kSigned) != 0);
    const Wide<T> sum = Wide<T>{half} + c[lane] + (in >> lane & 1);
    dst[lane] = static_cast<T>(sum);
    out |= static_cast<LaneMask>((sum >> (8 * sizeof(T)) & 1) != 0) << lane;
  });
  if ((op.imm & kWritesFlag) != 0) warp.SetPredicate(op.dst[1], out, active);
  return Flow::kNext;
}

}  // namespace

absl::Status DecodeCarry(Decoder& decoder, const Instruction& instruction, Op* op) {
  const Type type = Decoder::TypeOf(instruction);
  const std::string_view root = instruction.parts[0];
  const auto& operands = instruction.operands;
  const bool multiplies = root.starts_with("mad"), wide = ptx::SizeOf(type) == 8;
  if (operands.size() != (multiplies ? 4u : 3u) || ptx::SizeOf(type) < 4) {
    return decoder.Unknown(instruction);
  }
  op->op_class = OpClass::kInteger;
  const auto flag = [](bool is_set, uint64_t bit) { return is_set ? bit : 0; };
  op->imm = flag(root.ends_with("c"), kReadsFlag) | flag(instruction.Has("cc"), kWritesFlag) |
            flag(root.starts_with("sub"), kSubtracts) | flag(instruction.Has("hi"), kHigh) |
            flag(type == Type::kS32 || type == Type::kS64, kSigned);
  std::vector<Slot> to = {decoder.Write(operands[0])}, from;
  for (size_t i = 1; i < operands.size(); ++i) from.push_back(decoder.Read(operands[i], type));
  if ((op->imm & kWritesFlag) != 0) to.push_back(decoder.CarryFlag());
  if ((op->imm & kReadsFlag) != 0) from.push_back(decoder.CarryFlag());
  decoder.SetDst(op, to);
  decoder.SetSrc(op, from);
  if (multiplies) {
    op->run = wide ? &MultiplyAddWithCarry<uint64_t> : &MultiplyAddWithCarry<uint32_t>;
  } else {
    op->run = wide ? &AddWithCarry<uint64_t> : &AddWithCarry<uint32_t>;
  }
  return absl::OkStatus();
}

void AddCarryFamily(Families* families) {
  for (const std::string_view root : {"addc", "subc", "madc"}) (*families)[root] = &DecodeCarry;
}

}  // namespace trireme::gpusim
