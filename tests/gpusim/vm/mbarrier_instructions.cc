// The instructions (PTX ISA, "Parallel Synchronization and Communication Instructions: mbarrier").
#include <utility>

#include "runtime/base/strings.h"
#include "tests/gpusim/vm/cluster.h"
#include "tests/gpusim/vm/lanewise.h"
#include "tests/gpusim/vm/mbarrier.h"
#include "tests/gpusim/vm/worker.h"

namespace trireme::gpusim {
namespace {

using ptx::Instruction;
using ptx::Type;

constexpr uint32_t kBytes = 8;  // of the object

// The state that an arrival returns: the arrivals that were pending before it, and the phase.
uint64_t Token(const Mbarrier& mbarrier) {
  return uint64_t{mbarrier.phase} << 20 | static_cast<uint64_t>(mbarrier.pending);
}
uint32_t PhaseOf(uint64_t token) { return static_cast<uint32_t>(token >> 20); }

SharedPlace PlaceOf(Warp& warp, const Op& op, int lane) {
  return ResolveShared(warp, op, lane, warp.Address(op, 0, lane), kBytes);
}
Mbarrier* Find(Warp& warp, const Op& op, int lane) {
  return FindMbarrier(warp, op, lane, PlaceOf(warp, op, lane), false);
}

// ---- init, inval

Flow Init(Warp& warp, const Op& op, LaneMask active) {
  warp.RequireDefined(op, active);
  const uint32_t* counts = warp.In<uint32_t>(op.src[1]);
  ForEachLane(active, [&](int lane) {
    const SharedPlace place = PlaceOf(warp, op, lane);
    if (place.cta == nullptr) return;
    if (place.at % kBytes != 0) {
      warp.ReportAt(op, lane, FindingKind::kMisaligned, "an mbarrier is aligned to 8 bytes");
      return warp.grid().Abort();
    }
    if (counts[lane] == 0 || counts[lane] > Mbarrier::kMaxCount) {
      ReportMisuse(warp, op, lane, StrCat("an mbarrier for ", counts[lane], " arrivals"));
    }
    const Accessor who = warp.AsAccessor(lane);
    Fault fault;
    if (place.cta->mbarriers.contains(place.at)) {
      ReportMisuse(warp, op, lane,
                   StrCat("the mbarrier at shared byte ", place.at,
                          " is initialised and was not invalidated before"));
    } else if (place.cta->shadow.CheckFree(place.at, kBytes, who, &fault)) {
      warp.ReportAt(op, lane, fault.kind, fault.what);
    }
    Mbarrier mbarrier;
    mbarrier.expected = mbarrier.pending = counts[lane];
    mbarrier.agent = warp.cta().cluster().NewAgent();
    mbarrier.init = {who.agent, who.lane, who.time};
    place.cta->mbarriers[place.at] = std::move(mbarrier);
    place.cta->shadow.SetMbarrier(place.at, kBytes, true);
  });
  return Flow::kNext;
}

Flow Invalidate(Warp& warp, const Op& op, LaneMask active) {
  warp.RequireDefined(op, active);
  ForEachLane(active, [&](int lane) {
    const SharedPlace place = PlaceOf(warp, op, lane);
    const Mbarrier* mbarrier = FindMbarrier(warp, op, lane, place, false);
    if (mbarrier == nullptr) return;
    if (mbarrier->bytes != 0 || !mbarrier->landed.empty()) {
      ReportMisuse(warp, op, lane, "the mbarrier is invalidated while copies complete on it");
    }
    place.cta->mbarriers.erase(place.at);
    place.cta->shadow.SetMbarrier(place.at, kBytes, false);
  });
  return Flow::kNext;
}

// ---- arrive, arrive_drop, expect_tx, complete_tx

// op.imm of an arrival.
constexpr uint64_t kDrop = 1, kExpectTx = 2, kNoComplete = 4, kRelaxed = 8, kHasCount = 16;

// src: address {, count or bytes}; dst: the state, if it is asked for.
Flow ArriveOn(Warp& warp, const Op& op, LaneMask active) {
  warp.RequireDefined(op, active);
  const uint32_t* values = (op.imm & kHasCount) != 0 ? warp.In<uint32_t>(op.src[1]) : nullptr;
  Knowledge released;
  if ((op.imm & kRelaxed) == 0) released = warp.Release(active);
  const Mbarrier* last = nullptr;
  uint32_t last_phase = 0;
  ForEachLane(active, [&](int lane) {
    Mbarrier* const mbarrier = Find(warp, op, lane);
    if (mbarrier == nullptr) return;
    if (mbarrier != last || mbarrier->phase != last_phase) mbarrier->gathered.Join(released);
    last = mbarrier;
    last_phase = mbarrier->phase;
    const bool expect = (op.imm & kExpectTx) != 0;
    const int64_t count = values != nullptr && !expect ? values[lane] : 1;
    if (op.num_dst > 0) {
      warp.Out<uint64_t>(op.dst[0], LaneMask{1} << lane)[lane] = Token(*mbarrier);
    }
    if (expect) AddBytes(warp, op, lane, mbarrier, static_cast<int32_t>(values[lane]));
    if ((op.imm & kDrop) != 0) mbarrier->expected -= count;
    if ((op.imm & kNoComplete) != 0 && mbarrier->pending <= count) {
      ReportMisuse(warp, op, lane, "an arrival with .noComplete completes the phase");
    }
    Arrive(warp, op, lane, mbarrier, count);
  });
  return Flow::kNext;
}

// op.imm: 1 for bytes that are announced, -1 for bytes that have come.
Flow CountBytes(Warp& warp, const Op& op, LaneMask active) {
  warp.RequireDefined(op, active);
  const int32_t* bytes = warp.In<int32_t>(op.src[1]);
  ForEachLane(active, [&](int lane) {
    Mbarrier* const mbarrier = Find(warp, op, lane);
    if (mbarrier == nullptr) return;
    AddBytes(warp, op, lane, mbarrier, static_cast<int64_t>(op.imm) * bytes[lane]);
    CompleteIfDone(mbarrier);
  });
  return Flow::kNext;
}

// ---- test_wait, try_wait

// op.imm of a wait.
constexpr uint64_t kParity = 1, kSuspends = 2, kWaitRelaxed = 4;

// How often a wait may return false for one phase: a try_wait hardly ever, as it suspends the warp;
// a test_wait as often as a program may reasonably ask. Then the warp waits, so that a deadlock
// shows.
constexpr int kMaxSpurious = 1, kMaxTests = 1000;

std::string WaitingFor(const Mbarrier& mbarrier, const SharedPlace& place, bool parity,
                       uint64_t value) {
  return StrCat("phase ", parity ? StrCat("of parity ", value & 1) : StrCat(PhaseOf(value)),
                " of the mbarrier at shared byte ", place.at, " of CTA rank ", place.cta->rank(),
                " (it is in phase ", mbarrier.phase, ": ", mbarrier.pending, " of ",
                mbarrier.expected, " arrivals and ", mbarrier.bytes, " bytes are missing)");
}

// dst: a predicate; src: address, parity or state.
Flow Wait(Warp& warp, const Op& op, LaneMask active) {
  warp.RequireDefined(op, active);
  const bool parity = (op.imm & kParity) != 0;
  LaneMask done = 0;
  uint64_t key = 0;
  uint32_t phase = 0;
  std::string waits_for;
  const Mbarrier* acquired = nullptr;
  bool found = true;
  ForEachLane(active, [&](int lane) {
    if (!found) return;
    const SharedPlace place = PlaceOf(warp, op, lane);
    const Mbarrier* mbarrier = FindMbarrier(warp, op, lane, place, false);
    found = mbarrier != nullptr;
    if (!found) return;
    if (place.cta != &warp.cta()) {
      ReportMisuse(warp, op, lane,
                   "waits on an mbarrier of another CTA: only its own can be waited on");
    }
    const uint64_t value =
        parity ? warp.In<uint32_t>(op.src[1])[lane] : warp.In<uint64_t>(op.src[1])[lane];
    if (!parity && PhaseOf(value) + 1 < mbarrier->phase) {
      ReportMisuse(warp, op, lane, "the state is older than the phase before the current one");
    }
    if (parity ? (mbarrier->phase & 1) != (value & 1) : PhaseOf(value) < mbarrier->phase) {
      done |= LaneMask{1} << lane;
      if (mbarrier != acquired && (op.imm & kWaitRelaxed) == 0) {
        warp.Acquire(mbarrier->released, active);
      }
      acquired = mbarrier;
    } else {
      key =
          (uint64_t{place.cta->rank()} << 32 | place.at) * kWarpSize + static_cast<uint64_t>(lane);
      phase = mbarrier->phase;
      if (warp.worker().explaining()) waits_for = WaitingFor(*mbarrier, place, parity, value);
    }
  });
  if (!found) return Flow::kNext;
  if (done == 0) {
    warp.waits_for = std::move(waits_for);
    if (warp.worker().explaining()) return Flow::kRetry;
    MbarrierPolls& polls = warp.polls[key];
    if (polls.phase != phase) polls = {phase, 0};
    const bool suspends = (op.imm & kSuspends) != 0;
    if (polls.in_vain >= (suspends ? kMaxSpurious : kMaxTests)) return Flow::kRetry;
    if (suspends && warp.worker().random()() % 8 != 0) return Flow::kRetry;
    ++polls.in_vain;
  }
  warp.SetPredicate(op.dst[0], done, active);
  return Flow::kNext;
}

uint32_t PendingCount(uint64_t state) { return static_cast<uint32_t>(state & 0xfffff); }

// ---- decoding

void SetAddressAnd(Decoder& decoder, const Instruction& instruction, size_t address, Type type,
                   Op* op) {
  const auto& operands = instruction.operands;
  std::vector<Slot> sources = {decoder.Address(operands[address], op)};
  if (operands.size() > address + 1) sources.push_back(decoder.Read(operands[address + 1], type));
  decoder.SetSrc(op, sources);
}

absl::Status DecodeArrive(Decoder& decoder, const Instruction& instruction, Op* op) {
  const auto& operands = instruction.operands;
  if (operands.empty()) return decoder.Unknown(instruction);
  const size_t address = operands[0].kind == ptx::Operand::Kind::kAddress ? 0 : 1;
  if (operands.size() <= address) return decoder.Unknown(instruction);
  op->imm = (instruction.parts[1] == "arrive_drop" ? kDrop : uint64_t{0}) |
            (instruction.Has("expect_tx") ? kExpectTx : uint64_t{0}) |
            (instruction.Has("noComplete") ? kNoComplete : uint64_t{0}) |
            (instruction.Has("relaxed") ? kRelaxed : uint64_t{0}) |
            (operands.size() > address + 1 ? kHasCount : uint64_t{0});
  if (instruction.Has("expect_tx") && (op->imm & kHasCount) == 0) {
    return decoder.Unknown(instruction);
  }
  if (address == 1 && operands[0].kind == ptx::Operand::Kind::kRegister) {
    decoder.SetDst(op, {decoder.Write(operands[0])});
  }
  SetAddressAnd(decoder, instruction, address, Type::kB32, op);
  op->run = &ArriveOn;
  return absl::OkStatus();
}

absl::Status DecodeWait(Decoder& decoder, const Instruction& instruction, Op* op) {
  const bool parity = instruction.Has("parity");
  op->imm = (parity ? kParity : uint64_t{0}) |
            (instruction.parts[1] == "try_wait" ? kSuspends : uint64_t{0}) |
            (instruction.Has("relaxed") ? kWaitRelaxed : uint64_t{0});
  if (instruction.operands.size() < 3) return decoder.Unknown(instruction);
  decoder.SetDst(op, {decoder.Write(instruction.operands[0])});
  SetAddressAnd(decoder, instruction, 1, parity ? Type::kB32 : Type::kB64, op);
  op->run = &Wait;
  return absl::OkStatus();
}

absl::Status DecodeMbarrier(Decoder& decoder, const Instruction& instruction, Op* op) {
  op->op_class = OpClass::kBarrier;
  if (instruction.parts.size() < 2 || instruction.operands.empty()) {
    return decoder.Unknown(instruction);
  }
  const std::string_view what = instruction.parts[1];
  if (what == "arrive" || what == "arrive_drop") return DecodeArrive(decoder, instruction, op);
  if (what == "test_wait" || what == "try_wait") return DecodeWait(decoder, instruction, op);
  if (what == "pending_count") {
    SetOperands(decoder, instruction, Type::kB64, op);
    op->run = &Lanewise<&PendingCount, uint32_t, uint64_t>;
    return absl::OkStatus();
  }
  if (what == "init") {
    op->run = &Init;
  } else if (what == "inval") {
    op->run = &Invalidate;
  } else if (what == "expect_tx" || what == "complete_tx") {
    op->run = &CountBytes;
    op->imm = static_cast<uint64_t>(what == "expect_tx" ? 1 : -1);
  } else {
    return decoder.Unknown(instruction);
  }
  if (what != "inval" && instruction.operands.size() != 2) return decoder.Unknown(instruction);
  SetAddressAnd(decoder, instruction, 0, Type::kB32, op);
  return absl::OkStatus();
}

}  // namespace

void AddMbarrierFamily(Families* families) { (*families)["mbarrier"] = &DecodeMbarrier; }

}  // namespace trireme::gpusim
