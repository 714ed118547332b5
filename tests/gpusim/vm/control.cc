// Branches and ends (PTX ISA, "Control Flow Instructions").
#include <bit>
#include <cstring>
#include <string>

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

// The text at an address of this device, as far as it is there.
std::string TextAt(const DeviceMemory& memory, uint64_t address) {
  std::string text;
  MemoryLock lock;
  for (const std::byte* c; text.size() < 200 && (c = memory.Find(address, 1)) != nullptr;
       ++address) {
    lock.Hold(address);
    if (*c == std::byte{0}) break;
    text += static_cast<char>(*c);
  }
  return text;
}

// __assertfail(expression, file, line, function, size): op.offset is where its first argument lies.
Flow AssertFails(Warp& warp, const Op& op, LaneMask active) {
  const int lane = std::countr_zero(active);
  uint64_t expression = 0;
  std::memcpy(&expression,
              warp.cta().local(warp.index() * kWarpSize + lane, static_cast<uint64_t>(op.offset)),
              sizeof(expression));
  warp.ReportAt(op, lane, FindingKind::kAssert,
                StrCat("assert(", TextAt(warp.grid().memory(), expression), ") failed"));
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
  // Functions of one's own are inlined; what is left are those of the system.
  (*families)["call"] = [](Decoder& decoder, const Instruction& instruction,
                           Op* op) -> absl::Status {
    op->op_class = OpClass::kControl;
    const auto& operands = instruction.operands;
    const size_t callee = !operands.empty() && operands[0].kind == Operand::Kind::kTuple ? 1 : 0;
    if (operands.size() != callee + 2) return decoder.Unknown(instruction);
    const Operand& arguments = operands[callee + 1];
    if (operands[callee].name == "vprintf") {  // nothing is printed
      op->run = &Nothing;
    } else if (operands[callee].name == "__assertfail" && !arguments.items.empty()) {
      op->offset = decoder.OffsetOf(arguments.items[0]);
      op->run = &AssertFails;
    } else {
      return absl::UnimplementedError(
          ToAbsl(StrCat("PTX line ", instruction.ptx_line, ": a call of '", operands[callee].name,
                        "', which nvcc has not inlined: __forceinline__ is needed")));
    }
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
