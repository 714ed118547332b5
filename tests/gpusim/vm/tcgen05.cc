// Allocation, fences and commit of tcgen05, and what its parts share.
#include "tests/gpusim/vm/tcgen05.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

#include "runtime/base/strings.h"
#include "tests/gpusim/vm/access.h"
#include "tests/gpusim/vm/cluster.h"
#include "tests/gpusim/vm/decoder.h"
#include "tests/gpusim/vm/warp_sync.h"
#include "tests/gpusim/vm/worker.h"

namespace trireme::gpusim {
namespace {

using ptx::Instruction;
using ptx::Type;

// ---- alloc, dealloc, relinquish_alloc_permit: by all lanes of one warp.

bool GoodColumns(Warp& warp, const Op& op, uint32_t columns) {
  if (std::has_single_bit(columns) && columns >= 32 && columns <= TensorMemory::kColumns)
    return true;
  warp.ReportAt(
      op, 0, FindingKind::kBadOperand,
      StrCat(columns, " columns of tensor memory: a power of two from 32 to 512 is needed"));
  warp.grid().Abort();
  return false;
}

// src: address, columns.
Flow Allocate(Warp& warp, const Op& op, LaneMask active) {
  if (!Together(warp, op, warp.live(), active)) return Flow::kRetry;
  warp.RequireDefined(op, active);
  std::array<uint64_t, kWarpSize> addresses;
  warp.Addresses(op, 0, &addresses);
  const uint32_t columns = warp.In<uint32_t>(op.src[1])[0];
  if (!GoodColumns(warp, op, columns)) return Flow::kNext;
  TensorMemory& memory = warp.cta().tensor_memory;
  if (memory.gave_up_permit) {
    warp.ReportAt(op, 0, FindingKind::kBarrierMisuse,
                  "allocates tensor memory behind the CTA's relinquish_alloc_permit");
  }
  const int first = memory.Allocate(static_cast<int>(columns));
  if (first < 0) {
    if (warp.worker().explaining()) {
      warp.waits_for = StrCat(columns, " columns of tensor memory; ", memory.allocated(),
                              " of 512 are allocated");
    }
    return Flow::kRetry;
  }
  const auto space = static_cast<MemorySpace>(op.imm);
  WarpAccess access(warp, op, 4, space);
  std::byte* const to = access.Touch<AccessMode::kWrite>(0, addresses[0]);
  if (to == nullptr) return Flow::kNext;
  const uint32_t address = static_cast<uint32_t>(first);
  std::memcpy(to, &address, 4);
  return Flow::kNext;
}

// src: tensor address, columns.
Flow Free(Warp& warp, const Op& op, LaneMask active) {
  if (!Together(warp, op, warp.live(), active)) return Flow::kRetry;
  warp.RequireDefined(op, active);
  const uint32_t address = warp.In<uint32_t>(op.src[0])[0];
  const uint32_t columns = warp.In<uint32_t>(op.src[1])[0];
  if (!GoodColumns(warp, op, columns)) return Flow::kNext;
  TensorMemory& memory = warp.cta().tensor_memory;
  const TensorPlace place{0, TensorMemory::kLanes, static_cast<int>(address & 0xffff),
                          static_cast<int>(columns)};
  Fault fault;
  TensorAccessor who = AsTensorAccessor(warp, -1);
  who.fenced = who.seen;  // no fence is asked for
  if (memory.Holds(place) && memory.CheckWrite(place, who, &fault)) {
    warp.ReportAt(op, 0, fault.kind, StrCat("frees columns: ", fault.what));
  }
  if (address >> 16 != 0 || !memory.Free(place.column, place.columns)) {
    warp.ReportAt(op, 0, FindingKind::kBadOperand,
                  StrCat(columns, " columns from ", address, " are not what an allocation gave"));
  }
  return Flow::kNext;
}

Flow GiveUpPermit(Warp& warp, const Op& op, LaneMask active) {
  if (!Together(warp, op, warp.live(), active)) return Flow::kRetry;
  warp.cta().tensor_memory.gave_up_permit = true;
  return Flow::kNext;
}

// ---- fences

Flow FenceBefore(Warp& warp, const Op&, LaneMask) {
  TensorWarp& tensor = TensorOf(warp);
  warp.knowledge.generic.Mutable(tensor.data_agent).Join({tensor.epoch, 0, 0});
  ++tensor.epoch;
  return Flow::kNext;
}

Flow FenceAfter(Warp& warp, const Op&, LaneMask) {
  TensorOf(warp).fenced.Join(warp.knowledge.generic);
  return Flow::kNext;
}

// ---- commit: src: mbarrier {, CTA mask}; op.imm: 1 with a mask.

Flow Commit(Warp& warp, const Op& op, LaneMask active) {
  warp.RequireDefined(op, active);
  ForEachLane(active, [&](int lane) {
    const SharedPlace on = ResolveShared(warp, op, lane, AddressAt(warp, op, 0, lane), 8);
    if (on.cta == nullptr) return;
    std::vector<Cta*> ctas = {on.cta};
    if (op.imm != 0) ctas = MulticastTargets(warp, op, lane, warp.In<uint16_t>(op.src[2])[lane]);
    for (Cta* const cta : ctas) {
      if (FindMbarrier(warp, op, lane, {cta, on.at}, true) == nullptr) return;
    }
    const uint32_t issued = TensorOf(warp).queues[static_cast<size_t>(lane)].issued;
    // What the operations came after, their end comes after, too.
    Knowledge before = warp.knowledge;
    before.generic.Mutable(TensorOf(warp).issue_agent).Join({0, issued, LaneMask{1} << lane});
    StartTensorWork(warp, lane, [&warp, &op, lane, ctas, at = on.at, before] {
      for (Cta* const cta : ctas) {
        Mbarrier* const mbarrier = FindMbarrier(warp, op, lane, {cta, at}, true);
        if (mbarrier == nullptr) return;
        mbarrier->gathered.Join(before);
        Arrive(warp, op, lane, mbarrier, 1);
      }
    });
  });
  return Flow::kNext;
}

// ---- decoding

bool IsKnownGroup(const Instruction& instruction) {
  return instruction.Has("cta_group::1") || instruction.Has("cta_group::2");
}

absl::Status DecodeTensor(Decoder& decoder, const Instruction& instruction, Op* op) {
  const std::string_view what = instruction.parts.size() > 1 ? instruction.parts[1] : "";
  const auto& operands = instruction.operands;
  op->op_class = OpClass::kAsync;
  if (what == "mma") return DecodeTensorMma(decoder, instruction, op);
  if (what == "cp") return DecodeTensorCp(decoder, instruction, op);
  if (what == "ld" || what == "st" || what == "wait::ld" || what == "wait::st") {
    return DecodeTensorTransfer(decoder, instruction, op);
  }
  if (what == "fence::before_thread_sync") {
    op->run = &FenceBefore;
  } else if (what == "fence::after_thread_sync") {
    op->run = &FenceAfter;
  } else if (!IsKnownGroup(instruction)) {
    return decoder.Unknown(instruction);
  } else if (what == "relinquish_alloc_permit") {
    op->run = &GiveUpPermit;
  } else if (what == "commit" && !operands.empty()) {
    std::vector<Slot> sources;
    AddAddress(decoder, operands[0], &sources);
    op->imm = instruction.Has("multicast::cluster") ? 1 : 0;
    if (operands.size() != 1 + op->imm) return decoder.Unknown(instruction);
    if (op->imm != 0) sources.push_back(decoder.Read(operands[1], Type::kB16));
    decoder.SetSrc(op, sources);
    op->run = &Commit;
  } else if (what == "alloc" && operands.size() == 2) {
    decoder.SetSrc(op, {decoder.Address(operands[0], op), decoder.Read(operands[1], Type::kB32)});
    op->imm = static_cast<uint64_t>(SpaceOf(instruction));
    op->run = &Allocate;
  } else if (what == "dealloc" && operands.size() == 2) {
    decoder.SetSrc(op,
                   {decoder.Read(operands[0], Type::kB32), decoder.Read(operands[1], Type::kB32)});
    op->run = &Free;
  } else {
    return decoder.Unknown(instruction);
  }
  return absl::OkStatus();
}

}  // namespace

TensorWarp& TensorOf(Warp& warp) {
  if (warp.tensor == nullptr) {
    warp.tensor = std::make_unique<TensorWarp>();
    warp.tensor->data_agent = warp.cta().cluster().NewAgent();
    warp.tensor->issue_agent = warp.cta().cluster().NewAgent();
  }
  return *warp.tensor;
}

TensorAccessor AsTensorAccessor(Warp& warp, int lane) {
  TensorWarp& tensor = TensorOf(warp);
  TensorAccessor who;
  who.warp_agent = tensor.data_agent;
  who.issue_agent = tensor.issue_agent;
  who.seen = &warp.knowledge.generic;
  who.fenced = &tensor.fenced;
  if (lane < 0) {
    const Accessor plain = warp.AsAccessor(0);
    who.as = {tensor.data_agent, 0, tensor.epoch};
    who.plain = {plain.agent, plain.lane, plain.time};
  } else {
    who.as = {tensor.issue_agent, lane, tensor.queues[static_cast<size_t>(lane)].issued};
  }
  return who;
}

void StartTensorWork(Warp& warp, int lane, std::function<void()> run) {
  auto& queue = TensorOf(warp).queues[static_cast<size_t>(lane)];
  queue.steps.push_back(std::move(run));
  warp.cta().cluster().async.Start([&queue] {
    const std::function<void()> next = std::move(queue.steps.front());
    queue.steps.pop_front();
    next();
  });
}

bool TensorWorkIsWaitedFor(const Warp& warp, std::string* what) {
  if (warp.tensor == nullptr || warp.tensor->transfers.empty()) return true;
  *what = StrCat("the warp ends without tcgen05.wait::",
                 warp.tensor->transfers[0].writes ? "st" : "ld");
  return false;
}

bool TensorMemoryIsGivenBack(Cta& cta, std::string* what) {
  for (const auto& warp : cta.warps()) {
    if (warp->tensor == nullptr) continue;
    const TensorWarp& tensor = *warp->tensor;
    for (int lane = 0; lane < kWarpSize; ++lane) {
      const uint32_t issued = tensor.queues[static_cast<size_t>(lane)].issued;
      const auto waited = [&](const auto& other) {
        return other->knowledge.generic.Of(tensor.issue_agent).Covers(lane, issued);
      };
      if (issued == 0 || std::any_of(cta.warps().begin(), cta.warps().end(), waited)) continue;
      *what = StrCat("the CTA ends and nobody has waited for the tcgen05 operations of warp ",
                     warp->index());
      return false;
    }
  }
  if (cta.tensor_memory.allocated() == 0) return true;
  *what = StrCat("the CTA ends with ", cta.tensor_memory.allocated(),
                 " columns of tensor memory allocated");
  return false;
}

void AddTensorFamily(Families* families) { (*families)["tcgen05"] = &DecodeTensor; }

}  // namespace trireme::gpusim
