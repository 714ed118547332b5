// What warps may do with registers of wgmma operations: that other instructions keep off them.
#include <algorithm>
#include <bit>
#include <memory>
#include <vector>

#include "runtime/base/strings.h"
#include "tests/gpusim/vm/grid.h"
#include "tests/gpusim/vm/wgmma_form.h"

namespace trireme::gpusim {

WgmmaRegisters& RegistersOf(Warp& warp) {
  if (warp.wgmma_registers == nullptr) {
    warp.wgmma_registers = std::make_unique<WgmmaRegisters>();
    warp.wgmma_registers->of.resize(warp.grid().program().num_slots);
  }
  return *warp.wgmma_registers;
}

// Registers that other instructions have touched need a wgmma.fence; those of an operation in
// flight may only be accumulated to by one of the same form.
void CheckRegisters(Warp& warp, const Op& op, const WgmmaForm& form, bool accumulates) {
  WgmmaRegisters& registers = RegistersOf(warp);
  bool unfenced = false, mixed = false, undefined = false;
  for (int i = 0; i < op.num_dst; ++i) {
    const auto& state = registers.of[op.dst[i].index];
    unfenced |= state.unfenced;
    mixed |= state.feeding > 0 ||
             (state.accumulating > 0 && (state.form->n != form.n || state.form->sum != form.sum));
    undefined |= accumulates && state.accumulating == 0 && ~warp.defined(op.dst[i]) != 0;
  }
  for (int i = 0; form.a_in_registers && i < 4; ++i) {
    const auto& state = registers.of[op.src[i].index];
    unfenced |= state.unfenced;
    mixed |= state.accumulating > 0;
  }
  if (unfenced) {
    warp.ReportAt(op, 0, FindingKind::kMissingWgmmaFence,
                  "its registers were touched and no wgmma.fence has followed");
  }
  if (mixed) {
    warp.ReportAt(op, 0, FindingKind::kInFlight,
                  "its registers belong to a wgmma of another shape that is in flight");
  }
  if (undefined) {
    warp.ReportAt(op, 0, FindingKind::kUninitializedRegister,
                  "it adds to an accumulator that is not set");
  }
}

void Claim(Warp& warp, const Op& op, int by) {
  const WgmmaForm& form = FormOf(op);
  WgmmaRegisters& registers = RegistersOf(warp);
  for (int i = 0; i < op.num_dst; ++i) {
    auto& state = registers.of[op.dst[i].index];
    state.accumulating = static_cast<uint16_t>(state.accumulating + by);
    state.form = &form;
    warp.defined(op.dst[i]) = kAllLanes;
  }
  for (int i = 0; form.a_in_registers && i < 4; ++i) {
    auto& state = registers.of[op.src[i].index];
    state.feeding = static_cast<uint16_t>(state.feeding + by);
  }
}

namespace {

Flow Watched(Warp& warp, const Op& op, LaneMask active) {
  WgmmaRegisters& registers = RegistersOf(warp);
  const auto touch = [&](Slot slot) {
    auto& state = registers.of[slot.index];
    if (state.accumulating + state.feeding > 0) {
      warp.ReportAt(
          op, std::countr_zero(active), FindingKind::kInFlight,
          StrCat("touches a register of ", state.accumulating > 0 ? "the accumulator" : "A",
                 " of a wgmma that has not been waited for"));
    }
    state.unfenced = true;
  };
  for (int i = 0; i < op.num_dst; ++i) touch(op.dst[i]);
  for (int i = 0; i < op.num_src; ++i) touch(op.src[i]);
  return op.unwatched(warp, op, active);
}

}  // namespace

void WatchWgmmaRegisters(Program* program) {
  std::vector<bool> used(program->num_slots);
  bool any = false;
  for (const Op& op : program->ops) {
    if (!IsWgmma(op)) continue;
    any = true;
    for (int i = 0; i < op.num_dst; ++i) used[op.dst[i].index] = true;
    for (int i = 0; FormOf(op).a_in_registers && i < 4; ++i) used[op.src[i].index] = true;
  }
  if (!any) return;
  const auto touches = [&](const Slot* slots, int n) {
    return std::any_of(slots, slots + n, [&](Slot slot) { return used[slot.index]; });
  };
  for (Op& op : program->ops) {
    if (IsWgmma(op) || !(touches(op.dst, op.num_dst) || touches(op.src, op.num_src))) continue;
    op.unwatched = op.run;
    op.run = &Watched;
  }
}

}  // namespace trireme::gpusim
