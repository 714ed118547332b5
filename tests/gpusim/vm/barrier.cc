// bar, barrier: the named barriers of a CTA, and bar.warp.sync (PTX ISA, "bar, barrier").
#include <utility>

#include "runtime/base/strings.h"
#include "tests/gpusim/vm/families.h"
#include "tests/gpusim/vm/lanewise.h"
#include "tests/gpusim/vm/warp_sync.h"
#include "tests/gpusim/vm/worker.h"

namespace trireme::gpusim {
namespace {

using ptx::Instruction;
using ptx::Type;

Flow WarpBarrier(Warp& warp, const Op& op, LaneMask active) {
  const LaneMask members = MemberMask(warp, op, op.src[0], active);
  if (!Together(warp, op, members, active)) return Flow::kRetry;
  warp.Converge(active);
  return Flow::kNext;
}

// src: barrier number, and the threads that take part (0: all of the CTA).
struct Arrival {
  NamedBarrier* barrier = nullptr;
  int id = 0, expected = 0;
};

bool Find(Warp& warp, const Op& op, LaneMask active, Arrival* arrival) {
  const int lane = std::countr_zero(active);
  arrival->id = static_cast<int>(warp.In<uint32_t>(op.src[0])[lane]);
  const int num_numbers = op.num_src - (op.imm != 0 ? 1 : 0);  // the rest is a predicate
  int expected = num_numbers > 1 ? static_cast<int>(warp.In<uint32_t>(op.src[1])[lane]) : 0;
  const int threads = (warp.cta().num_threads() + kWarpSize - 1) / kWarpSize * kWarpSize;
  if (expected == 0) expected = threads;
  if (arrival->id < 0 || arrival->id > 15 || expected % kWarpSize != 0 || expected > threads) {
    warp.ReportAt(op, lane, FindingKind::kBarrierMisuse,
                  StrCat("barrier ", arrival->id, " for ", expected, " of ", threads, " threads"));
    warp.grid().Abort();
    return false;
  }
  arrival->expected = expected;
  arrival->barrier = &warp.cta().barriers[static_cast<size_t>(arrival->id)];
  return true;
}

// Threads of warps that have ended do not hold up a barrier of the whole CTA.
bool Complete(Warp& warp, const NamedBarrier& barrier) {
  if (barrier.expected == 0 || barrier.arrived >= barrier.expected) return barrier.expected != 0;
  int live = 0, all = 0;
  for (const auto& other : warp.cta().warps()) {
    all += kWarpSize;
    live += other->finished() ? 0 : kWarpSize;
  }
  return barrier.expected == all && barrier.arrived >= live;
}

void Advance(NamedBarrier* barrier) {
  ++barrier->phase;
  barrier->released.Join(barrier->gathered);
  barrier->gathered.Clear();
  barrier->arrived = barrier->expected = 0;
  barrier->last_voters = std::exchange(barrier->voters, 0);
  barrier->last_votes = std::exchange(barrier->votes, 0);
}

// What bar.red makes of the threads' predicates: the last source, op.imm & kNegated.
enum class Reduction : uint64_t { kNone, kPopc, kAnd, kOr };
constexpr uint64_t kNegated = 8;
Reduction ReductionOf(const Op& op) { return static_cast<Reduction>(op.imm & 7); }

void Vote(Warp& warp, const Op& op, LaneMask active, NamedBarrier* barrier) {
  if (ReductionOf(op) == Reduction::kNone) return;
  const LaneMask votes = warp.Predicate(op.src[op.num_src - 1]);
  barrier->voters += std::popcount(active);
  barrier->votes += std::popcount(active & ((op.imm & kNegated) != 0 ? ~votes : votes));
}

void TakeResult(Warp& warp, const Op& op, LaneMask active, const NamedBarrier& barrier) {
  switch (ReductionOf(op)) {
    case Reduction::kPopc: {
      uint32_t* dst = warp.Out<uint32_t>(op.dst[0], active);
      ForEachLane(active, [&](int lane) { dst[lane] = static_cast<uint32_t>(barrier.last_votes); });
      break;
    }
    case Reduction::kAnd:
      warp.SetPredicate(op.dst[0], barrier.last_votes == barrier.last_voters ? kAllLanes : 0,
                        active);
      break;
    case Reduction::kOr:
      warp.SetPredicate(op.dst[0], barrier.last_votes != 0 ? kAllLanes : 0, active);
      break;
    default:
      break;
  }
}

// One warp's arrival: it counts as a whole.
void Arrive(Warp& warp, const Op& op, LaneMask active, const Arrival& arrival) {
  NamedBarrier& barrier = *arrival.barrier;
  if (barrier.expected != 0 && barrier.expected != arrival.expected) {
    warp.ReportAt(op, std::countr_zero(active), FindingKind::kBarrierMisuse,
                  StrCat("barrier ", arrival.id, " is for ", arrival.expected,
                         " threads here and for ", barrier.expected, " where others arrived"));
  }
  barrier.expected = arrival.expected;
  barrier.arrived += kWarpSize;
  warp.ReleaseInto(active, &barrier.gathered);
  Vote(warp, op, active, &barrier);
  if (Complete(warp, barrier)) Advance(&barrier);
}

template <bool wait>
Flow CtaBarrier(Warp& warp, const Op& op, LaneMask active) {
  Arrival arrival;
  if (!warp.at_barrier) {
    warp.RequireDefined(op, active);
    if (!Together(warp, op, warp.live(), active)) {
      // Its other lanes may still come; a barrier is for whole warps.
      if (warp.worker().explaining()) {
        warp.waits_for = StrCat("its other lanes at '", op.text->opcode, "'");
      }
      return Flow::kRetry;
    }
    if (!Find(warp, op, active, &arrival)) return Flow::kNext;
    warp.barrier_phase = arrival.barrier->phase;
    Arrive(warp, op, active, arrival);
    if constexpr (!wait) return Flow::kNext;
    warp.at_barrier = true;
    warp.barrier_id = arrival.id;
  }
  NamedBarrier& barrier = warp.cta().barriers[static_cast<size_t>(warp.barrier_id)];
  if (barrier.phase == warp.barrier_phase && Complete(warp, barrier)) Advance(&barrier);
  if (barrier.phase == warp.barrier_phase) {
    if (warp.worker().explaining()) {
      warp.waits_for = StrCat("barrier ", warp.barrier_id, " (", barrier.arrived, " of ",
                              barrier.expected, " threads are there)");
    }
    return Flow::kRetry;
  }
  warp.at_barrier = false;
  TakeResult(warp, op, active, barrier);
  warp.Acquire(barrier.released, active);
  warp.Converge(active);
  return Flow::kNext;
}

absl::Status DecodeBarrier(Decoder& decoder, const Instruction& instruction, Op* op) {
  op->op_class = OpClass::kBarrier;
  if (instruction.Has("warp")) {
    decoder.SetSrc(op, {decoder.Read(instruction.operands[0], Type::kB32)});
    op->run = &WarpBarrier;
    return absl::OkStatus();
  }
  if (instruction.Has("cluster")) return DecodeClusterBarrier(decoder, instruction, op);
  const auto& operands = instruction.operands;
  const bool reduces = instruction.Has("red");
  std::vector<Slot> sources;
  for (size_t i = reduces ? 1 : 0; i < operands.size() - (reduces ? 1 : 0); ++i) {
    sources.push_back(decoder.Read(operands[i], Type::kB32));
  }
  if (reduces) {
    const Reduction reduction = instruction.Has("popc")  ? Reduction::kPopc
                                : instruction.Has("and") ? Reduction::kAnd
                                                         : Reduction::kOr;
    op->imm = static_cast<uint64_t>(reduction) | (operands.back().negated ? kNegated : 0);
    sources.push_back(decoder.Read(operands.back(), Type::kPred));
    decoder.SetDst(op, {decoder.Write(operands[0])});
  }
  decoder.SetSrc(op, sources);
  op->run = instruction.Has("arrive") ? &CtaBarrier<false> : &CtaBarrier<true>;
  return absl::OkStatus();
}

}  // namespace

void AddBarrierFamily(Families* families) {
  (*families)["bar"] = &DecodeBarrier;
  (*families)["barrier"] = &DecodeBarrier;
}

}  // namespace trireme::gpusim
