// tcgen05.ld, .st and .wait: between tensor memory and a warp's registers. The warp with index w
// reaches lanes 32 (w % 4) to 32 (w % 4) + 31. Layouts are those of the PTX ISA's figures, the same
// as CUTLASS's copy_traits_sm100.
#include <algorithm>

#include "runtime/base/strings.h"
#include "tests/gpusim/vm/decoder.h"
#include "tests/gpusim/vm/tcgen05.h"
#include "tests/gpusim/vm/warp_sync.h"

namespace trireme::gpusim {
namespace {

using ptx::Instruction;
using ptx::Type;

enum class Shape : uint8_t { k32x32, k16x64, k16x128, k16x256 };
struct Form {
  Shape shape = Shape::k32x32;
  int repeat = 1;

  uint64_t Pack() const {
    return static_cast<uint64_t>(shape) << 8 | static_cast<uint64_t>(repeat);
  }
  static Form Unpack(uint64_t bits) {
    return {static_cast<Shape>(bits >> 8), static_cast<int>(bits & 0xff)};
  }
  int columns() const {  // of one repetition
    constexpr int kColumns[] = {1, 2, 4, 8};
    return kColumns[static_cast<size_t>(shape)];
  }
  int registers() const { return repeat * (shape == Shape::k32x32 ? 1 : columns() / 2); }
  int lanes() const { return shape == Shape::k32x32 ? 32 : 16; }
};

struct Cell {
  int lane, column;  // of the transfer's place
};
// What lies in register i of `lane`.
Cell CellOf(const Form& form, int i, int lane) {
  switch (form.shape) {
    case Shape::k32x32:
      return {lane, i};
    case Shape::k16x64:
      return {lane / 4 + 8 * (lane % 2), 2 * i + lane / 2 % 2};
    case Shape::k16x128:
      return {lane / 4 + 8 * (i % 2), 4 * (i / 2) + lane % 4};
    case Shape::k16x256:
      return {lane / 4 + 8 * (i / 2 % 2), 8 * (i / 4) + 2 * (lane % 4) + i % 2};
  }
  return {};
}

// The place that a warp's access names. False: reported.
bool PlaceOf(Warp& warp, const Op& op, TensorPlace* place) {
  std::array<uint64_t, kWarpSize> addresses;
  warp.Addresses(op, 0, &addresses);
  if (std::count(addresses.begin(), addresses.end(), addresses[0]) != kWarpSize) {
    warp.ReportAt(op, 0, FindingKind::kDivergence, "the lanes have different addresses");
  }
  const Form form = Form::Unpack(op.imm);
  const uint32_t at = static_cast<uint32_t>(addresses[0]);
  *place = {static_cast<int>(at >> 16), form.lanes(), static_cast<int>(at & 0xffff),
            form.columns() * form.repeat};
  const int first = 32 * (warp.index() % 4);
  if (place->lane != first && (form.lanes() == 32 || place->lane != first + 16)) {
    warp.ReportAt(op, 0, FindingKind::kBadOperand,
                  StrCat("lane ", place->lane, " of tensor memory: warp ", warp.index(),
                         " reaches lanes ", first, " to ", first + 31));
    warp.grid().Abort();
    return false;
  }
  if (warp.cta().tensor_memory.Holds(*place)) return true;
  warp.ReportAt(op, 0, FindingKind::kOutOfBounds,
                StrCat("columns ", place->column, " to ", place->column + place->columns,
                       " of tensor memory are not allocated"));
  warp.grid().Abort();
  return false;
}

bool WholeWarp(Warp& warp, const Op& op, LaneMask active) {
  if (active == kAllLanes) return true;
  warp.ReportAt(op, 0, FindingKind::kDivergence, "tcgen05 needs all lanes of the warp");
  warp.grid().Abort();
  return false;
}

// src: address; dst: registers, which hold something after the wait.
Flow Load(Warp& warp, const Op& op, LaneMask active) {
  if (!Together(warp, op, warp.live(), active)) return Flow::kRetry;
  warp.RequireDefined(op, active);
  TensorWarp::Transfer transfer;
  transfer.op = &op;
  if (!WholeWarp(warp, op, active) || !PlaceOf(warp, op, &transfer.place)) {
    return Flow::kNext;
  }
  TensorMemory& memory = warp.cta().tensor_memory;
  Fault fault;
  if (memory.CheckRead(transfer.place, AsTensorAccessor(warp, -1), &fault)) {
    warp.ReportAt(op, 0, fault.kind, fault.what);
  }
  memory.Begin(transfer.place, false);
  const Form form = Form::Unpack(op.imm);
  transfer.values.resize(op.num_dst);
  for (int i = 0; i < op.num_dst; ++i) {
    warp.defined(op.dst[i]) = 0;
    for (int lane = 0; lane < kWarpSize; ++lane) {
      const Cell cell = CellOf(form, i, lane);
      transfer.values[static_cast<size_t>(i)][static_cast<size_t>(lane)] =
          memory.At(transfer.place.lane + cell.lane, transfer.place.column + cell.column);
    }
  }
  TensorOf(warp).transfers.push_back(std::move(transfer));
  return Flow::kNext;
}

// src: address, registers.
Flow Store(Warp& warp, const Op& op, LaneMask active) {
  if (!Together(warp, op, warp.live(), active)) return Flow::kRetry;
  warp.RequireDefined(op, active);
  TensorWarp::Transfer transfer;
  transfer.op = &op;
  transfer.writes = true;
  if (!WholeWarp(warp, op, active) || !PlaceOf(warp, op, &transfer.place)) {
    return Flow::kNext;
  }
  TensorMemory& memory = warp.cta().tensor_memory;
  Fault fault;
  if (memory.CheckWrite(transfer.place, AsTensorAccessor(warp, -1), &fault)) {
    warp.ReportAt(op, 0, fault.kind, fault.what);
  }
  memory.Begin(transfer.place, true);
  const Form form = Form::Unpack(op.imm);
  for (int i = 1; i < op.num_src; ++i) {
    for (int lane = 0; lane < kWarpSize; ++lane) {
      const Cell cell = CellOf(form, i - 1, lane);
      memory.At(transfer.place.lane + cell.lane, transfer.place.column + cell.column) =
          warp.In<uint32_t>(op.src[i])[lane];
    }
  }
  TensorOf(warp).transfers.push_back(std::move(transfer));
  return Flow::kNext;
}

// op.imm: 1 for stores.
Flow Wait(Warp& warp, const Op& op, LaneMask active) {
  if (!Together(warp, op, warp.live(), active)) return Flow::kRetry;
  const bool writes = op.imm != 0;
  auto& transfers = TensorOf(warp).transfers;
  for (const TensorWarp::Transfer& transfer : transfers) {
    if (transfer.writes != writes) continue;
    warp.cta().tensor_memory.End(transfer.place, writes, AsTensorAccessor(warp, -1));
    for (size_t i = 0; i < transfer.values.size(); ++i) {
      std::copy(transfer.values[i].begin(), transfer.values[i].end(),
                warp.Out<uint32_t>(transfer.op->dst[i], kAllLanes));
    }
  }
  std::erase_if(transfers, [&](const auto& transfer) { return transfer.writes == writes; });
  return Flow::kNext;
}

bool ParseForm(const Instruction& instruction, Form* form) {
  constexpr std::string_view kShapes[] = {"32x32b", "16x64b", "16x128b", "16x256b"};
  bool shaped = false, repeated = false;
  for (const std::string_view part : instruction.parts) {
    for (size_t i = 0; i < std::size(kShapes); ++i) {
      if (part != kShapes[i]) continue;
      form->shape = static_cast<Shape>(i);
      shaped = true;
    }
    for (int repeat = 1; repeat <= 128; repeat *= 2) {
      if (part != StrCat("x", repeat)) continue;
      form->repeat = repeat;
      repeated = true;
    }
  }
  return shaped && repeated && form->registers() <= 128 && !instruction.Has("pack::16b") &&
         !instruction.Has("unpack::16b");
}

}  // namespace

absl::Status DecodeTensorTransfer(Decoder& decoder, const Instruction& instruction, Op* op) {
  const std::string_view what = instruction.parts[1];
  const auto& operands = instruction.operands;
  if (what == "wait::ld" || what == "wait::st") {
    op->imm = what == "wait::st" ? 1 : 0;
    op->run = &Wait;
    return absl::OkStatus();
  }
  Form form;
  if (operands.size() != 2 || !ParseForm(instruction, &form)) return decoder.Unknown(instruction);
  const bool loads = what == "ld";
  std::vector<Slot> sources = {decoder.Address(operands[loads ? 1 : 0], op)};
  const std::vector<Slot> registers =
      loads ? decoder.WriteAll(operands[0]) : decoder.ReadAll(operands[1], Type::kB32);
  if (registers.size() != static_cast<size_t>(form.registers()))
    return decoder.Unknown(instruction);
  if (loads) {
    decoder.SetDst(op, registers);
  } else {
    sources.insert(sources.end(), registers.begin(), registers.end());
  }
  decoder.SetSrc(op, sources);
  op->imm = form.Pack();
  op->run = loads ? &Load : &Store;
  return absl::OkStatus();
}

}  // namespace trireme::gpusim
