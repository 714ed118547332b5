// Branches and ends (PTX ISA, "Control Flow Instructions").
#include "runtime/base/strings.h"
#include "tests/gpusim/vm/cluster.h"
#include "tests/gpusim/vm/lanewise.h"

namespace trireme::gpusim {
namespace {

using ptx::Instruction;
using ptx::Operand;

Flow Branch(Warp& warp, const Op& op, LaneMask active) {
  warp.BranchTo(active, op.target);
  return Flow::kChanged;
}

Flow Exit(Warp& warp, const Op& op, LaneMask active) {
  warp.Exit(active);
  if (warp.finished()) WarpEnds(warp, op);
  return Flow::kChanged;
}

Flow Trap(Warp& warp, const Op& op, LaneMask active) {
  warp.ReportAt(op, std::countr_zero(active), FindingKind::kAssert, "the kernel trapped");
  warp.grid().Abort();
  return Flow::kNext;
}

Flow Nothing(Warp&, const Op&, LaneMask) { return Flow::kNext; }

}  // namespace

void AddControlFamily(Families* families) {
  (*families)["bra"] = [](Decoder& decoder, const Instruction& instruction,
                          Op* op) -> absl::Status {
    if (instruction.operands.size() != 1 || instruction.operands[0].kind != Operand::Kind::kLabel) {
      return decoder.Unknown(instruction);
    }
    op->op_class = OpClass::kControl;
    op->target = instruction.operands[0].target;
    op->run = &Branch;
    return absl::OkStatus();
  };
  const auto end = [](Decoder&, const Instruction&, Op* op) {
    op->op_class = OpClass::kControl;
    op->run = &Exit;
    return absl::OkStatus();
  };
  (*families)["ret"] = end;
  (*families)["exit"] = end;
  (*families)["trap"] = [](Decoder&, const Instruction&, Op* op) {
    op->op_class = OpClass::kControl;
    op->run = &Trap;
    return absl::OkStatus();
  };
  const auto nothing = [](Decoder&, const Instruction&, Op* op) {
    op->op_class = OpClass::kControl;
    op->run = &Nothing;
    return absl::OkStatus();
  };
  (*families)["nanosleep"] = nothing;
  (*families)["pmevent"] = nothing;
  (*families)["brkpt"] = nothing;
}

}  // namespace trireme::gpusim
