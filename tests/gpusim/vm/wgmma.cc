#include "tests/gpusim/vm/wgmma.h"

#include <algorithm>
#include <mutex>
#include <set>

#include "runtime/base/strings.h"
#include "tests/gpusim/vm/cluster.h"
#include "tests/gpusim/vm/decoder.h"
#include "tests/gpusim/vm/grid.h"
#include "tests/gpusim/vm/warp_sync.h"
#include "tests/gpusim/vm/wgmma_form.h"
#include "tests/gpusim/vm/worker.h"

namespace trireme::gpusim {

namespace {

using ptx::Instruction;
using ptx::Type;

Warpgroup& GroupOf(Warp& warp) {
  return *warp.cta().warpgroups[static_cast<size_t>(warp.index() / 4)];
}
Warpgroup::Member& MemberOf(Warp& warp) {
  return GroupOf(warp).members[static_cast<size_t>(warp.index() % 4)];
}

// ---- Starting

// The chunks of an operand in shared memory. False: reported, the launch aborted.
bool AddChunks(Warp& warp, const Op& op, const SharedOperand& operand,
               std::vector<uint32_t>* chunks) {
  const std::vector<uint32_t> more = operand.Chunks();
  chunks->insert(chunks->end(), more.begin(), more.end());
  return ResolveShared(warp, op, 0, *std::max_element(more.begin(), more.end()), 16).cta != nullptr;
}

// Its four warps must agree.
bool Agree(Warp& warp, const Op& op, const Wgmma& wgmma, uint64_t a, uint64_t b, bool accumulates) {
  if (wgmma.op == &op && wgmma.a == a && wgmma.b == b && wgmma.accumulates == accumulates)
    return true;
  warp.ReportAt(op, 0, FindingKind::kDivergence,
                "the warps of a warpgroup start different wgmma operations");
  warp.grid().Abort();
  return false;
}

template <typename T>
bool SameInAllLanes(Warp& warp, const Op& op, Slot slot, std::string_view what) {
  const T* values = warp.In<T>(slot);
  if (std::all_of(values, values + kWarpSize, [&](T v) { return v == values[0]; })) return true;
  warp.ReportAt(op, 0, FindingKind::kDivergence, StrCat("the lanes have different ", what));
  return false;
}

Flow Start(Warp& warp, const Op& op, LaneMask active) {
  if (!Together(warp, op, warp.live(), active)) return Flow::kRetry;
  warp.RequireDefined(op, active);
  if (active != kAllLanes ||
      static_cast<size_t>(warp.index() / 4) >= warp.cta().warpgroups.size()) {
    warp.ReportAt(op, std::countr_zero(active), FindingKind::kDivergence,
                  "wgmma needs all lanes of four warps");
    warp.grid().Abort();
    return Flow::kNext;
  }
  const WgmmaForm& form = FormOf(op);
  const int num_a = NumA(form);
  uint64_t a = 0;
  if (!form.a_in_registers) {
    SameInAllLanes<uint64_t>(warp, op, op.src[0], "descriptors");
    a = warp.In<uint64_t>(op.src[0])[0];
  }
  SameInAllLanes<uint64_t>(warp, op, op.src[num_a], "descriptors");
  const uint64_t b = warp.In<uint64_t>(op.src[num_a])[0];
  const LaneMask scale = warp.Predicate(op.src[num_a + 1]);
  if (scale != 0 && scale != kAllLanes) {
    warp.ReportAt(op, 0, FindingKind::kDivergence, "the lanes have different scale-d");
  }
  const bool accumulates = scale != 0;
  CheckRegisters(warp, op, form, accumulates);

  Cta& cta = warp.cta();
  Warpgroup& group = GroupOf(warp);
  Warpgroup::Member& member = MemberOf(warp);
  const uint64_t number = member.started++ - group.completed;
  if (number == group.pending.size()) {
    Wgmma& wgmma = group.pending.emplace_back();
    wgmma.op = &op;
    wgmma.a = a;
    wgmma.b = b;
    wgmma.accumulates = accumulates;
    if (!form.a_in_registers && !AddChunks(warp, op, OperandA(form, a), &wgmma.chunks)) {
      return Flow::kNext;
    }
    if (!AddChunks(warp, op, OperandB(form, b), &wgmma.chunks)) return Flow::kNext;
    for (const uint32_t at : wgmma.chunks) cta.shadow.BeginRead(at, 16);
  }
  Wgmma& wgmma = group.pending[static_cast<size_t>(number)];
  if (!Agree(warp, op, wgmma, a, b, accumulates)) return Flow::kNext;
  const Accessor who = warp.AsAsyncAccessor(0);
  Fault fault;
  for (const uint32_t at : wgmma.chunks) {
    if (!cta.shadow.CheckRead(at, 16, who, &fault)) continue;
    warp.ReportAt(op, 0, fault.kind, fault.what);
    break;
  }
  Claim(warp, op, 1);
  wgmma.started_by |= LaneMask{1} << warp.index() % 4;
  // At once, or when it is waited for; the operations of a warpgroup run in order.
  if (wgmma.started_by != 15) return Flow::kNext;
  ++warp.worker().counters().wgmma;
  if ((warp.worker().random()() & 1) == 0) return Flow::kNext;
  for (uint64_t i = 0; i <= number; ++i) {
    if (group.pending[static_cast<size_t>(i)].started_by != 15) break;
    Compute(cta, warp.index() / 4 * 4, &group.pending[static_cast<size_t>(i)]);
  }
  return Flow::kNext;
}

// ---- Fences and groups

Flow Fence(Warp& warp, const Op& op, LaneMask active) {
  if (!Together(warp, op, warp.live(), active)) return Flow::kRetry;
  for (auto& state : RegistersOf(warp).of) state.unfenced = false;
  return Flow::kNext;
}

Flow CommitGroup(Warp& warp, const Op& op, LaneMask active) {
  if (!Together(warp, op, warp.live(), active)) return Flow::kRetry;
  if (static_cast<size_t>(warp.index() / 4) >= warp.cta().warpgroups.size()) return Flow::kNext;
  Warpgroup::Member& member = MemberOf(warp);
  member.group_ends.push_back(member.started);
  return Flow::kNext;
}

// Ends the operations below `end`, which all four warps have started.
void Complete(Warp& warp, Warpgroup* group, uint64_t end) {
  Cta& cta = warp.cta();
  while (group->completed < end) {
    Wgmma& wgmma = group->pending.front();
    Compute(cta, warp.index() / 4 * 4, &wgmma);
    Accessor as;
    as.agent = group->agent;
    as.time = static_cast<uint32_t>(++group->completed);
    as.async_proxy = true;
    for (const uint32_t at : wgmma.chunks) cta.shadow.EndRead(at, 16, as);
    for (int w = 0; w < 4; ++w) {
      group->members[static_cast<size_t>(w)].unclaimed.push_back(wgmma.op);
    }
    group->pending.pop_front();
  }
}

Flow WaitGroup(Warp& warp, const Op& op, LaneMask active) {
  if (!Together(warp, op, warp.live(), active)) return Flow::kRetry;
  if (static_cast<size_t>(warp.index() / 4) >= warp.cta().warpgroups.size()) return Flow::kNext;
  Warpgroup& group = GroupOf(warp);
  Warpgroup::Member& member = MemberOf(warp);
  const auto& ends = member.group_ends;
  if (ends.size() <= op.imm) return Flow::kNext;
  const uint64_t end = ends[ends.size() - 1 - op.imm];
  for (uint64_t i = group.completed; i < end; ++i) {
    if (group.pending[static_cast<size_t>(i - group.completed)].started_by == 15) continue;
    if (warp.worker().explaining())
      warp.waits_for = "the other warps of its warpgroup to start a wgmma";
    return Flow::kRetry;
  }
  Complete(warp, &group, end);
  // This warp's registers are free, and it knows that the operands are.
  while (member.released < end) {
    Claim(warp, *member.unclaimed.front(), -1);
    member.unclaimed.pop_front();
    ++member.released;
  }
  Knowledge seen;
  seen.generic.Mutable(group.agent).Join({static_cast<uint32_t>(end), 0, 0});
  warp.Acquire(seen, active);
  member.group_ends.erase(member.group_ends.begin(),
                          member.group_ends.end() - static_cast<ptrdiff_t>(op.imm));
  return Flow::kNext;
}

// ---- Decoding

// {d}, a or {a}, b, scale-d {, imm-scale-a, imm-scale-b {, imm-trans-a}, imm-trans-b}
absl::Status DecodeStart(Decoder& decoder, const Instruction& instruction, Op* op) {
  const auto& operands = instruction.operands;
  WgmmaForm form;
  if (operands.size() < 4 || !ParseWgmmaForm(instruction, &form))
    return decoder.Unknown(instruction);
  form.a_in_registers = operands[1].kind == ptx::Operand::Kind::kVector;
  if (operands.size() > 5) {
    form.negate_a = static_cast<int64_t>(operands[4].bits) == -1;
    form.negate_b = static_cast<int64_t>(operands[5].bits) == -1;
  }
  size_t next = 6;
  if (!form.a_in_registers && operands.size() > next + 1) {
    form.a_is_mn_major = operands[next++].bits == 1;
  }
  if (operands.size() > next) form.b_is_mn_major = operands[next].bits == 1;
  if ((form.a_is_mn_major || form.b_is_mn_major) && form.element_bytes() != 2) {
    return decoder.Unknown(instruction);
  }
  decoder.SetDst(op, decoder.WriteAll(operands[0]));
  std::vector<Slot> sources =
      decoder.ReadAll(operands[1], form.a_in_registers ? Type::kB32 : Type::kB64);
  sources.push_back(decoder.Read(operands[2], Type::kB64));
  sources.push_back(decoder.Read(operands[3], Type::kPred));
  if (op->num_dst != form.num_sums() || sources.size() != static_cast<size_t>(NumA(form)) + 2) {
    return decoder.Unknown(instruction);
  }
  decoder.SetSrc(op, sources);
  static std::mutex mu;
  static std::set<WgmmaForm> forms;  // few, and never freed: operations point to them
  std::lock_guard lock(mu);
  op->imm = reinterpret_cast<uint64_t>(&*forms.insert(form).first);
  op->run = &Start;
  return absl::OkStatus();
}

absl::Status DecodeWgmma(Decoder& decoder, const Instruction& instruction, Op* op) {
  op->op_class = OpClass::kMatrix;
  const std::string_view what = instruction.parts.size() > 1 ? instruction.parts[1] : "";
  if (what == "mma_async") return DecodeStart(decoder, instruction, op);
  if (what == "fence") {
    op->run = &Fence;
  } else if (what == "commit_group") {
    op->run = &CommitGroup;
  } else if (what == "wait_group" && instruction.operands.size() == 1) {
    op->imm = instruction.operands[0].bits;
    op->run = &WaitGroup;
  } else {
    return decoder.Unknown(instruction);
  }
  return absl::OkStatus();
}

}  // namespace

bool IsWgmma(const Op& op) { return op.run == &Start; }

bool WgmmaInFlight(Warp& warp) {
  if (static_cast<size_t>(warp.index() / 4) >= warp.cta().warpgroups.size()) return false;
  return MemberOf(warp).released < MemberOf(warp).started;
}

void AddWgmmaFamily(Families* families) { (*families)["wgmma"] = &DecodeWgmma; }

}  // namespace trireme::gpusim
