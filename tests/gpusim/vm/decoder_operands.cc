// Operands: where an instruction finds what it reads and writes.
#include <algorithm>
#include <bit>
#include <utility>

#include "runtime/base/status.h"
#include "runtime/base/strings.h"
#include "tests/gpusim/vm/decoder.h"

namespace trireme::gpusim {
namespace {

using ptx::Operand;
using ptx::Type;

constexpr std::pair<std::string_view, Special> kSpecials[] = {
    {"%tid.x", Special::kTidX},
    {"%tid.y", Special::kTidY},
    {"%tid.z", Special::kTidZ},
    {"%ntid.x", Special::kNtidX},
    {"%ntid.y", Special::kNtidY},
    {"%ntid.z", Special::kNtidZ},
    {"%ctaid.x", Special::kCtaidX},
    {"%ctaid.y", Special::kCtaidY},
    {"%ctaid.z", Special::kCtaidZ},
    {"%nctaid.x", Special::kNctaidX},
    {"%nctaid.y", Special::kNctaidY},
    {"%nctaid.z", Special::kNctaidZ},
    {"%laneid", Special::kLaneid},
    {"%warpid", Special::kWarpid},
    {"%nwarpid", Special::kNwarpid},
    {"%smid", Special::kSmid},
    {"%nsmid", Special::kNsmid},
    {"%lanemask_eq", Special::kLanemaskEq},
    {"%lanemask_lt", Special::kLanemaskLt},
    {"%lanemask_le", Special::kLanemaskLe},
    {"%lanemask_gt", Special::kLanemaskGt},
    {"%lanemask_ge", Special::kLanemaskGe},
    {"%cluster_ctaid.x", Special::kClusterCtaidX},
    {"%cluster_ctaid.y", Special::kClusterCtaidY},
    {"%cluster_ctaid.z", Special::kClusterCtaidZ},
    {"%cluster_nctaid.x", Special::kClusterNctaidX},
    {"%cluster_nctaid.y", Special::kClusterNctaidY},
    {"%cluster_nctaid.z", Special::kClusterNctaidZ},
    {"%cluster_ctarank", Special::kClusterCtarank},
    {"%cluster_nctarank", Special::kClusterNctarank},
    {"%clusterid.x", Special::kClusteridX},
    {"%clusterid.y", Special::kClusteridY},
    {"%clusterid.z", Special::kClusteridZ},
    {"%nclusterid.x", Special::kNclusteridX},
    {"%nclusterid.y", Special::kNclusteridY},
    {"%nclusterid.z", Special::kNclusteridZ},
    {"%is_explicit_cluster", Special::kIsExplicitCluster},
    {"%dynamic_smem_size", Special::kDynamicSmemSize},
    {"%total_smem_size", Special::kTotalSmemSize},
    {"%gridid", Special::kGridid},
    {"%envreg1", Special::kEnvreg1},
    {"%envreg2", Special::kEnvreg2},
};

}  // namespace

Slot Decoder::Constant(uint64_t bits, int size) {
  const auto [it, is_new] = constants_.try_emplace({bits, size});
  if (is_new) {
    const uint32_t bytes = static_cast<uint32_t>(size == 0 ? 4 : size * kWarpSize);
    it->second = {Allocate(bytes), program_->num_slots++};
  }
  return it->second;
}

Slot Decoder::CarryFlag() {
  const auto [it, is_new] = special_slots_.try_emplace("%cc");
  if (is_new) it->second = {Allocate(sizeof(LaneMask)), program_->num_slots++};
  return it->second;
}

Slot Decoder::SpecialSlot(const std::string& name) {
  const auto [it, is_new] = special_slots_.try_emplace(name);
  if (!is_new) return it->second;
  const auto* known = std::find_if(std::begin(kSpecials), std::end(kSpecials),
                                   [&](const auto& s) { return s.first == name; });
  if (known == std::end(kSpecials)) {
    Fail(StrCat("unknown special register ", name));
    return {};
  }
  it->second = {Allocate(4 * kWarpSize), program_->num_slots++};
  program_->specials.push_back({known->second, it->second});
  return it->second;
}

absl::StatusOr<uint64_t> Decoder::AddressOf(const Operand& symbol) const {
  if (symbol.reg >= 0) return variables_[static_cast<size_t>(symbol.reg)] + symbol.bits;
  for (size_t i = 0; i < kernel_.params.size(); ++i) {
    if (kernel_.params[i].name == symbol.name) return program_->param_offsets[i] + symbol.bits;
  }
  if (const auto it = shared_externs_.find(symbol.name); it != shared_externs_.end()) {
    return it->second + symbol.bits;
  }
  if (const auto it = symbols_.find(symbol.name); it != symbols_.end()) {
    return it->second + symbol.bits;
  }
  return absl::NotFoundError(ToAbsl(StrCat("unknown symbol ", symbol.name)));
}

int Decoder::SizeOf(const Operand& operand, Type type) const {
  if (operand.kind == Operand::Kind::kRegister) {
    return std::max(ptx::SizeOf(kernel_.registers[static_cast<size_t>(operand.reg)].type), 2);
  }
  if (operand.kind == Operand::Kind::kSpecial) return 4;
  return std::max(ptx::SizeOf(type), 2);
}

Slot Decoder::Read(const Operand& operand, Type type) {
  switch (operand.kind) {
    case Operand::Kind::kRegister:
      return {0, static_cast<uint32_t>(operand.reg)};
    case Operand::Kind::kImmediate: {
      if (type == Type::kPred) return Constant(operand.bits != 0 ? kAllLanes : 0, 0);
      uint64_t bits = operand.bits;
      if (operand.is_float && type == Type::kF32 && bits >> 32 != 0) {
        bits = std::bit_cast<uint32_t>(static_cast<float>(std::bit_cast<double>(bits)));
      }
      const int size = std::max(ptx::SizeOf(type), 2);
      if (size < 8) bits &= (uint64_t{1} << (8 * size)) - 1;
      return Constant(bits, size);
    }
    case Operand::Kind::kSpecial:
      return SpecialSlot(operand.name);
    case Operand::Kind::kSymbol: {
      const absl::StatusOr<uint64_t> address = AddressOf(operand);
      if (!address.ok()) Fail(std::string(FromAbsl(address.status().message())));
      return address.ok() ? Constant(*address, std::max(ptx::SizeOf(type), 4)) : Slot{};
    }
    default:
      Fail("an operand of an unexpected kind");
      return {};
  }
}

Slot Decoder::Write(const Operand& operand) {
  if (operand.kind == Operand::Kind::kRegister) {
    return {0, static_cast<uint32_t>(operand.reg)};
  }
  if (operand.kind == Operand::Kind::kSink) {  // written and never read
    const auto [it, is_new] = special_slots_.try_emplace("_");
    if (is_new) it->second = {Allocate(16 * kWarpSize), program_->num_slots++};
    return it->second;
  }
  Fail("a destination must be a register");
  return {};
}

std::vector<Slot> Decoder::ReadAll(const Operand& operand, Type type) {
  if (operand.kind != Operand::Kind::kVector) return {Read(operand, type)};
  std::vector<Slot> slots;
  for (const Operand& item : operand.items) slots.push_back(Read(item, type));
  return slots;
}

std::vector<Slot> Decoder::WriteAll(const Operand& operand) {
  if (operand.kind != Operand::Kind::kVector) return {Write(operand)};
  std::vector<Slot> slots;
  for (const Operand& item : operand.items) slots.push_back(Write(item));
  return slots;
}

std::vector<Slot> Decoder::WriteBoth(const Operand& operand) {
  std::vector<Slot> slots = {Write(operand)};
  if (operand.second >= 0) slots.push_back({0, static_cast<uint32_t>(operand.second)});
  return slots;
}

Slot Decoder::Address(const Operand& operand, Op* op) {
  if (operand.kind != Operand::Kind::kAddress || operand.items.empty()) {
    Fail("expected an address");
    return {};
  }
  op->offset = static_cast<int64_t>(operand.bits);
  const Operand& base = operand.items[0];
  if (base.kind == Operand::Kind::kRegister) {
    op->narrow_address = SizeOf(base, Type::kB64) == 4;
    return Read(base, Type::kB64);
  }
  if (base.kind == Operand::Kind::kImmediate) op->offset = 0;
  return Read(base, Type::kB64);
}

void Decoder::SetDst(Op* op, const std::vector<Slot>& slots) {
  auto& place = program_->slot_arena.emplace_back(new Slot[slots.size()]);
  std::copy(slots.begin(), slots.end(), place.get());
  op->dst = place.get();
  op->num_dst = static_cast<uint16_t>(slots.size());
}

void Decoder::SetSrc(Op* op, const std::vector<Slot>& slots) {
  auto& place = program_->slot_arena.emplace_back(new Slot[slots.size()]);
  std::copy(slots.begin(), slots.end(), place.get());
  op->src = place.get();
  op->num_src = static_cast<uint16_t>(slots.size());
}

Type Decoder::TypeOf(const ptx::Instruction& instruction, int nth) {
  for (size_t i = 1; i < instruction.parts.size(); ++i) {
    const Type type = ptx::TypeNamed(instruction.parts[i]);
    if (type != Type::kNone && nth-- == 0) return type;
  }
  return Type::kNone;
}

absl::Status Decoder::Unknown(const ptx::Instruction& instruction) const {
  return absl::UnimplementedError(
      ToAbsl(StrCat("kernel ", kernel_.name, ", PTX line ", instruction.ptx_line, ": '",
                    instruction.opcode, "' is not known to the simulator")));
}

}  // namespace trireme::gpusim
