// Fences, register budgets and dependent grids (PTX ISA, "membar, fence", "setmaxnreg",
// "griddepcontrol").
#include "runtime/base/strings.h"
#include "tests/gpusim/vm/cluster.h"
#include "tests/gpusim/vm/global_order.h"
#include "tests/gpusim/vm/lanewise.h"

namespace trireme::gpusim {
namespace {

using ptx::Instruction;

Flow Nothing(Warp&, const Op&, LaneMask) { return Flow::kNext; }

// membar; .sc, .acq_rel, .acquire, .release between generic accesses.
Flow FenceGeneric(Warp& warp, const Op&, LaneMask active) {
  FenceGlobal(warp, active);
  return Flow::kNext;
}

// fence.proxy.async: generic accesses before it are seen by asynchronous ones after it. op.imm: in
// shared memory, in global memory.
constexpr uint64_t kShared = 1, kGlobal = 2;
Flow FenceProxyAsync(Warp& warp, const Op& op, LaneMask active) {
  warp.FenceAsyncProxy(active, (op.imm & kShared) != 0, (op.imm & kGlobal) != 0);
  return Flow::kNext;
}

// fence.mbarrier_init: the same for the mbarriers that these lanes have initialised, and nothing
// else.
Flow FenceMbarrierInit(Warp& warp, const Op&, LaneMask active) {
  for (const auto& cta : warp.cta().cluster().ctas()) {
    for (auto& [at, mbarrier] : cta->mbarriers) {
      if (mbarrier.init.agent == warp.agent() && (active >> mbarrier.init.lane & 1) != 0) {
        mbarrier.init_fenced = true;
      }
    }
  }
  return Flow::kNext;
}

absl::Status DecodeFence(Decoder& decoder, const Instruction& instruction, Op* op) {
  op->op_class = OpClass::kBarrier;
  if (instruction.Has("mbarrier_init")) {
    op->run = &FenceMbarrierInit;
  } else if (!instruction.Has("proxy")) {
    op->run = &FenceGeneric;
  } else if (instruction.Has("alias") || instruction.Has("tensormap::generic")) {
    op->run = &Nothing;  // one proxy for aliases and tensor maps
  } else {
    bool is_async = false;
    op->imm = kShared | kGlobal;
    for (const std::string_view part : instruction.parts) {
      is_async |= part.substr(0, part.find(':')) == "async";
      if (part == "global") op->imm = kGlobal;
      if (part.starts_with("shared")) op->imm = kShared;
    }
    if (!is_async) return decoder.Unknown(instruction);
    op->run = &FenceProxyAsync;
  }
  return absl::OkStatus();
}

// ---- setmaxnreg: registers move between the CTA's pool and its warps.

// op.imm: registers per thread, bit 32: .inc.
Flow SetMaxRegisters(Warp& warp, const Op& op, LaneMask active) {
  Cta& cta = warp.cta();
  const int wanted = static_cast<int>(op.imm & 0xffff), had = warp.registers;
  const bool increases = (op.imm >> 32) != 0;
  if (wanted % 8 != 0 || wanted < 24) {
    warp.ReportAt(op, std::countr_zero(active), FindingKind::kBadOperand,
                  StrCat(wanted, " registers: a multiple of 8 from 24 to 256 is needed"));
  }
  if (increases ? wanted < had : wanted > had) {
    warp.ReportAt(op, std::countr_zero(active), FindingKind::kBadOperand,
                  StrCat("setmaxnreg to ", wanted, " where the warp has ", had, " registers"));
    return Flow::kNext;
  }
  const int64_t more = int64_t{wanted - had} * kWarpSize;
  if (more > cta.registers_free) {
    warp.waits_for = StrCat(more, " registers; the CTA has ", cta.registers_free, " free");
    return Flow::kRetry;
  }
  cta.registers_free -= more;
  warp.registers = wanted;
  return Flow::kNext;
}

absl::Status DecodeSetMaxRegisters(Decoder& decoder, const Instruction& instruction, Op* op) {
  op->op_class = OpClass::kControl;
  if (instruction.operands.size() != 1 || instruction.operands[0].bits > 256) {
    return decoder.Unknown(instruction);
  }
  op->imm = instruction.operands[0].bits | (instruction.Has("inc") ? uint64_t{1} << 32 : 0);
  op->run = &SetMaxRegisters;
  return absl::OkStatus();
}

// griddepcontrol: the launches before this one have ended when it starts, so there is nothing to
// wait for.
absl::Status DecodeGridDependency(Decoder&, const Instruction&, Op* op) {
  op->op_class = OpClass::kControl;
  op->run = &Nothing;
  return absl::OkStatus();
}

}  // namespace

void AddFenceFamily(Families* families) {
  (*families)["fence"] = &DecodeFence;
  (*families)["membar"] = [](Decoder&, const Instruction&, Op* op) {
    op->op_class = OpClass::kBarrier;
    op->run = &FenceGeneric;
    return absl::OkStatus();
  };
  (*families)["setmaxnreg"] = &DecodeSetMaxRegisters;
  (*families)["griddepcontrol"] = &DecodeGridDependency;
}

}  // namespace trireme::gpusim
