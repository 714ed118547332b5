// What the lanes of a warp do together: shuffles, votes, matches, reductions (PTX ISA, "Parallel
// Synchronization and Communication Instructions" and "shfl.sync").
#include <algorithm>
#include <bit>

#include "runtime/base/strings.h"
#include "tests/gpusim/vm/lanewise.h"
#include "tests/gpusim/vm/warp_sync.h"

namespace trireme::gpusim {
namespace {

using ptx::Instruction;
using ptx::Type;

enum class Shuffle { kUp, kDown, kBfly, kIdx };

// d|p = shfl.mode a, b, c, membermask. c: clamp in bits 0-4, segment mask in bits 8-12.
template <Shuffle mode>
Flow ShuffleSync(Warp& warp, const Op& op, LaneMask active) {
  const LaneMask members = MemberMask(warp, op, op.src[3], active);
  if (!Together(warp, op, members, active)) return Flow::kRetry;
  warp.RequireDefined(op, active);
  uint32_t values[kWarpSize];
  std::copy_n(warp.In<uint32_t>(op.src[0]), kWarpSize, values);
  const uint32_t* b = warp.In<uint32_t>(op.src[1]);
  const uint32_t* c = warp.In<uint32_t>(op.src[2]);
  LaneMask in_range = 0;
  uint32_t* dst = warp.Out<uint32_t>(op.dst[0], active);
  ForEachLane(active, [&](int lane) {
    const int by = static_cast<int>(b[lane] & 31), clamp = static_cast<int>(c[lane] & 31),
              segment = static_cast<int>(c[lane] >> 8 & 31);
    const int max_lane = (lane & segment) | (clamp & ~segment), min_lane = lane & segment;
    int from = lane;
    bool valid = false;
    switch (mode) {
      case Shuffle::kUp:
        from = lane - by;
        valid = from >= max_lane;
        break;
      case Shuffle::kDown:
        from = lane + by;
        valid = from <= max_lane;
        break;
      case Shuffle::kBfly:
        from = lane ^ by;
        valid = from <= max_lane;
        break;
      case Shuffle::kIdx:
        from = min_lane | (by & ~segment);
        valid = from <= max_lane;
        break;
    }
    if (!valid) from = lane;
    if ((active >> from & 1) == 0) {
      warp.ReportAt(op, lane, FindingKind::kDivergence,
                    StrCat("takes the value of lane ", from, ", which does not take part"));
    }
    dst[lane] = values[from];
    in_range |= static_cast<LaneMask>(valid) << lane;
  });
  if (op.num_dst > 1) warp.SetPredicate(op.dst[1], in_range, active);
  return Flow::kNext;
}

absl::Status DecodeShuffle(Decoder& decoder, const Instruction& instruction, Op* op) {
  const auto& operands = instruction.operands;
  if (operands.size() != 5 || !instruction.Has("sync")) return decoder.Unknown(instruction);
  op->op_class = OpClass::kShuffle;
  op->run = instruction.Has("up")     ? &ShuffleSync<Shuffle::kUp>
            : instruction.Has("down") ? &ShuffleSync<Shuffle::kDown>
            : instruction.Has("bfly") ? &ShuffleSync<Shuffle::kBfly>
                                      : &ShuffleSync<Shuffle::kIdx>;
  decoder.SetDst(op, decoder.WriteBoth(operands[0]));
  decoder.SetSrc(op,
                 {decoder.Read(operands[1], Type::kB32), decoder.Read(operands[2], Type::kB32),
                  decoder.Read(operands[3], Type::kB32), decoder.Read(operands[4], Type::kB32)});
  return absl::OkStatus();
}

// ---- vote

enum class Vote : uint64_t { kAll, kAny, kUni, kBallot };

Flow VoteSync(Warp& warp, const Op& op, LaneMask active) {
  const LaneMask members = MemberMask(warp, op, op.src[1], active);
  if (!Together(warp, op, members, active)) return Flow::kRetry;
  warp.RequireDefined(op, active);
  const bool negated = (op.imm & 8) != 0;
  const LaneMask votes =
      (negated ? ~warp.Predicate(op.src[0]) : warp.Predicate(op.src[0])) & active;
  switch (static_cast<Vote>(op.imm & 7)) {
    case Vote::kBallot: {
      uint32_t* dst = warp.Out<uint32_t>(op.dst[0], active);
      ForEachLane(active, [&](int lane) { dst[lane] = votes; });
      break;
    }
    case Vote::kAll:
      warp.SetPredicate(op.dst[0], votes == active ? kAllLanes : 0, active);
      break;
    case Vote::kAny:
      warp.SetPredicate(op.dst[0], votes != 0 ? kAllLanes : 0, active);
      break;
    case Vote::kUni:
      warp.SetPredicate(op.dst[0], votes == 0 || votes == active ? kAllLanes : 0, active);
      break;
  }
  return Flow::kNext;
}

absl::Status DecodeVote(Decoder& decoder, const Instruction& instruction, Op* op) {
  const auto& operands = instruction.operands;
  if (operands.size() != 3 || !instruction.Has("sync")) return decoder.Unknown(instruction);
  op->op_class = OpClass::kShuffle;
  const Vote vote = instruction.Has("ballot") ? Vote::kBallot
                    : instruction.Has("all")  ? Vote::kAll
                    : instruction.Has("any")  ? Vote::kAny
                                              : Vote::kUni;
  op->imm = static_cast<uint64_t>(vote) | (operands[1].negated ? 8 : 0);
  decoder.SetDst(op, {decoder.Write(operands[0])});
  decoder.SetSrc(op,
                 {decoder.Read(operands[1], Type::kPred), decoder.Read(operands[2], Type::kB32)});
  op->run = &VoteSync;
  return absl::OkStatus();
}

// ---- match, redux, activemask, elect, bar.warp.sync

template <typename T, bool all>
Flow MatchSync(Warp& warp, const Op& op, LaneMask active) {
  const LaneMask members = MemberMask(warp, op, op.src[1], active);
  if (!Together(warp, op, members, active)) return Flow::kRetry;
  warp.RequireDefined(op, active);
  T values[kWarpSize];
  std::copy_n(warp.In<T>(op.src[0]), kWarpSize, values);
  uint32_t* dst = warp.Out<uint32_t>(op.dst[0], active);
  LaneMask same = 0;
  ForEachLane(active, [&](int lane) {
    LaneMask equal = 0;
    ForEachLane(active, [&](int other) {
      equal |= static_cast<LaneMask>(values[other] == values[lane]) << other;
    });
    dst[lane] = all && equal != active ? 0 : equal;
    same |= static_cast<LaneMask>(equal == active) << lane;
  });
  if (op.num_dst > 1) warp.SetPredicate(op.dst[1], same, active);
  return Flow::kNext;
}

template <typename T, T (*combine)(T, T)>
Flow ReduxSync(Warp& warp, const Op& op, LaneMask active) {
  const LaneMask members = MemberMask(warp, op, op.src[1], active);
  if (!Together(warp, op, members, active)) return Flow::kRetry;
  warp.RequireDefined(op, active);
  const T* src = warp.In<T>(op.src[0]);
  T sum = src[std::countr_zero(active)];
  ForEachLane(active & (active - 1), [&](int lane) { sum = combine(sum, src[lane]); });
  T* dst = warp.Out<T>(op.dst[0], active);
  ForEachLane(active, [&](int lane) { dst[lane] = sum; });
  return Flow::kNext;
}

template <typename T>
T Sum(T a, T b) {
  return static_cast<T>(static_cast<uint32_t>(a) + static_cast<uint32_t>(b));
}
template <typename T>
T Least(T a, T b) {
  return std::min(a, b);
}
template <typename T>
T Most(T a, T b) {
  return std::max(a, b);
}
uint32_t BitAnd(uint32_t a, uint32_t b) { return a & b; }
uint32_t BitOr(uint32_t a, uint32_t b) { return a | b; }
uint32_t BitXor(uint32_t a, uint32_t b) { return a ^ b; }

absl::Status DecodeRedux(Decoder& decoder, const Instruction& instruction, Op* op) {
  const Type type = Decoder::TypeOf(instruction);
  const bool is_signed = type == Type::kS32;
  const bool integer = is_signed || type == Type::kU32 || type == Type::kB32;
  op->op_class = OpClass::kShuffle;
  if (integer && instruction.Has("add")) op->run = &ReduxSync<uint32_t, &Sum<uint32_t>>;
  if (integer && instruction.Has("min")) {
    op->run =
        is_signed ? &ReduxSync<int32_t, &Least<int32_t>> : &ReduxSync<uint32_t, &Least<uint32_t>>;
  }
  if (integer && instruction.Has("max")) {
    op->run =
        is_signed ? &ReduxSync<int32_t, &Most<int32_t>> : &ReduxSync<uint32_t, &Most<uint32_t>>;
  }
  if (instruction.Has("and")) op->run = &ReduxSync<uint32_t, &BitAnd>;
  if (instruction.Has("or")) op->run = &ReduxSync<uint32_t, &BitOr>;
  if (instruction.Has("xor")) op->run = &ReduxSync<uint32_t, &BitXor>;
  if (op->run == nullptr) return decoder.Unknown(instruction);
  SetOperands(decoder, instruction, Type::kB32, op);
  return absl::OkStatus();
}

Flow ActiveMask(Warp& warp, const Op& op, LaneMask active) {
  uint32_t* dst = warp.Out<uint32_t>(op.dst[0], active);
  ForEachLane(active, [&](int lane) { dst[lane] = active; });
  return Flow::kNext;
}

// elect.sync d|p, membermask: the lowest lane.
Flow ElectSync(Warp& warp, const Op& op, LaneMask active) {
  const LaneMask members = MemberMask(warp, op, op.src[0], active);
  if (!Together(warp, op, members, active)) return Flow::kRetry;
  const int leader = std::countr_zero(members);
  uint32_t* dst = warp.Out<uint32_t>(op.dst[0], active);
  ForEachLane(active, [&](int lane) { dst[lane] = static_cast<uint32_t>(leader); });
  warp.SetPredicate(op.dst[1], LaneMask{1} << leader, active);
  return Flow::kNext;
}

absl::Status DecodeElect(Decoder& decoder, const Instruction& instruction, Op* op) {
  const auto& operands = instruction.operands;
  op->op_class = OpClass::kShuffle;
  if (operands[0].second < 0) return decoder.Unknown(instruction);
  decoder.SetDst(op, decoder.WriteBoth(operands[0]));
  decoder.SetSrc(op, {decoder.Read(operands[1], Type::kB32)});
  op->run = &ElectSync;
  return absl::OkStatus();
}

}  // namespace

LaneMask MemberMask(Warp& warp, const Op& op, Slot slot, LaneMask active) {
  const uint32_t* masks = warp.In<uint32_t>(slot);
  const int first = std::countr_zero(active);
  const LaneMask members = masks[first];
  ForEachLane(active, [&](int lane) {
    if (masks[lane] != members || (members >> lane & 1) == 0) {
      warp.ReportAt(op, lane, FindingKind::kDivergence,
                    "its member mask leaves it out, or differs from another lane's");
    }
  });
  return members & warp.live();
}

bool Together(Warp& warp, const Op& op, LaneMask members, LaneMask active) {
  if ((members & ~active) == 0) return true;
  warp.waits_for = StrCat("lanes of its own at '", op.text->opcode, "'");
  return false;
}

void AddWarpFamily(Families* families) {
  (*families)["shfl"] = &DecodeShuffle;
  (*families)["vote"] = &DecodeVote;
  (*families)["redux"] = &DecodeRedux;
  (*families)["elect"] = &DecodeElect;
  (*families)["activemask"] = [](Decoder& decoder, const Instruction& instruction, Op* op) {
    op->op_class = OpClass::kShuffle;
    op->run = &ActiveMask;
    SetOperands(decoder, instruction, Type::kB32, op);
    return absl::OkStatus();
  };
  (*families)["match"] = [](Decoder& decoder, const Instruction& instruction, Op* op) {
    const Type type = Decoder::TypeOf(instruction);
    const bool all = instruction.Has("all"), wide = ptx::SizeOf(type) == 8;
    const auto& operands = instruction.operands;
    op->op_class = OpClass::kShuffle;
    op->run = all ? (wide ? &MatchSync<uint64_t, true> : &MatchSync<uint32_t, true>)
                  : (wide ? &MatchSync<uint64_t, false> : &MatchSync<uint32_t, false>);
    decoder.SetDst(op, decoder.WriteBoth(operands[0]));
    decoder.SetSrc(op, {decoder.Read(operands[1], type), decoder.Read(operands[2], Type::kB32)});
    return absl::OkStatus();
  };
}

}  // namespace trireme::gpusim
