#include "tests/gpusim/vm/decoder.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

#include "runtime/base/check.h"
#include "runtime/base/status.h"
#include "runtime/base/strings.h"
#include "tests/gpusim/vm/address.h"
#include "tests/gpusim/vm/registers.h"
#include "tests/gpusim/vm/wgmma.h"

namespace trireme::gpusim {
namespace {

using ptx::Operand;
using ptx::Type;

const Families& AllFamilies() {
  static const Families kFamilies = [] {
    Families families;
    AddIntegerFamily(&families);
    AddCarryFamily(&families);
    AddFloatFamily(&families);
    AddConvertFamily(&families);
    AddMoveFamily(&families);
    AddMemoryFamily(&families);
    AddControlFamily(&families);
    AddWarpFamily(&families);
    AddMatrixFamily(&families);
    AddAsyncFamily(&families);
    AddBarrierFamily(&families);
    AddAtomicFamily(&families);
    AddMbarrierFamily(&families);
    AddClusterFamily(&families);
    AddFenceFamily(&families);
    AddWgmmaFamily(&families);
    AddTensorFamily(&families);
    return families;
  }();
  return kFamilies;
}

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

uint64_t AlignUp(uint64_t value, uint64_t alignment) {
  return (value + alignment - 1) / alignment * alignment;
}

// The registers of one lane in the file: a predicate is a bit of a word.
uint32_t FileBytes(Type type) {
  if (type == Type::kPred) return sizeof(LaneMask);
  return static_cast<uint32_t>(std::max(ptx::SizeOf(type), 2)) * kWarpSize;
}

}  // namespace

std::string_view NameOf(OpClass op_class) {
  constexpr std::string_view kNames[] = {"integer", "float",  "convert", "move",    "predicate",
                                         "memory",  "shared", "control", "barrier", "shuffle",
                                         "matrix",  "async",  "atomic"};
  static_assert(std::size(kNames) == static_cast<size_t>(OpClass::kCount));
  return kNames[static_cast<size_t>(op_class)];
}

Decoder::Decoder(std::shared_ptr<const ptx::Module> module, const ptx::Function& kernel,
                 const SymbolTable& symbols)
    : module_(std::move(module)), kernel_(kernel), symbols_(symbols) {}

void Decoder::Fail(std::string what) {
  if (failure_.empty()) failure_ = std::move(what);
}

uint32_t Decoder::Allocate(uint32_t bytes) {
  const uint32_t alignment = bytes >= 64 ? 64 : 4;
  const uint32_t at = static_cast<uint32_t>(AlignUp(program_->file_bytes, alignment));
  program_->file_bytes = at + bytes;
  return at;
}

// Places registers, parameters and the kernel's own variables.
absl::Status Decoder::Layout() {
  Program& program = *program_;
  for (const ptx::Register& reg : kernel_.registers) {
    register_bytes_.push_back(FileBytes(reg.type));
  }
  program.num_slots = static_cast<uint32_t>(register_bytes_.size());
  for (const ptx::Variable& param : kernel_.params) {
    program.param_bytes = static_cast<uint32_t>(AlignUp(program.param_bytes, param.alignment));
    program.param_offsets.push_back(program.param_bytes);
    program.param_sizes.push_back(static_cast<uint32_t>(param.size));
    program.param_bytes += static_cast<uint32_t>(param.size);
  }
  uint64_t shared = 0, local = 0;
  const auto place = [](uint64_t* end, const ptx::Variable& variable) {
    *end = AlignUp(*end, variable.alignment);
    const uint64_t at = *end;
    *end += variable.size;
    return at;
  };
  for (const ptx::Variable& variable : kernel_.variables) {
    // Arguments of a call are the thread's own, too.
    uint64_t* end = variable.space == ptx::Space::kShared ? &shared : &local;
    variables_.push_back(place(end, variable));
    if (variable.space == ptx::Space::kShared) {
      program.shared_alignment = std::max(program.shared_alignment, variable.alignment);
    }
  }
  // Shared variables of the module: those of a size belong to every kernel that names them; the
  // ones without share the launch's dynamic part.
  for (const ptx::Variable& variable : module_->variables) {
    if (variable.space != ptx::Space::kShared || variable.size == 0) continue;
    shared_externs_[variable.name] = place(&shared, variable);
    program.shared_alignment = std::max(program.shared_alignment, variable.alignment);
  }
  uint32_t dynamic_alignment = 16;
  for (const ptx::Variable& variable : module_->variables) {
    if (variable.space != ptx::Space::kShared || variable.size != 0) continue;
    dynamic_alignment = std::max(dynamic_alignment, variable.alignment);
  }
  shared = AlignUp(shared, dynamic_alignment);
  for (const ptx::Variable& variable : module_->variables) {
    if (variable.space == ptx::Space::kShared && variable.size == 0) {
      shared_externs_[variable.name] = shared;
    }
  }
  program.static_shared_bytes = static_cast<uint32_t>(shared);
  program.shared_alignment = std::max(program.shared_alignment, dynamic_alignment);
  program.local_bytes = static_cast<uint32_t>(AlignUp(local, 16));
  if (kernel_.max_threads > 0) program.max_threads = kernel_.max_threads;
  for (size_t i = 0; i < 3; ++i) program.cluster[i] = kernel_.required_cluster[i];
  return absl::OkStatus();
}

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

absl::Status Decoder::DecodeAll() {
  for (const ptx::Instruction& instruction : kernel_.instructions) {
    current_ = &instruction;
    Op op;
    op.text = &instruction;
    op.aligned = instruction.Has("aligned");
    if (instruction.predicate >= 0) {
      op.guarded = true;
      op.guard_negated = instruction.predicate_negated;
      op.guard = {0, static_cast<uint32_t>(instruction.predicate)};
    }
    const auto family = AllFamilies().find(instruction.parts[0]);
    if (family == AllFamilies().end()) return Unknown(instruction);
    TRIREME_RETURN_IF_ERROR(family->second(*this, instruction, &op));
    if (!failure_.empty()) {
      return absl::InvalidArgumentError(
          ToAbsl(StrCat("kernel ", kernel_.name, ", PTX line ", instruction.ptx_line, ", ",
                        instruction.opcode, ": ", failure_)));
    }
    program_->ops.push_back(op);
  }
  if (program_->ops.empty()) return absl::InvalidArgumentError("the kernel has no instructions");
  return absl::OkStatus();
}

// Gives registers their places, and all slots their final numbers: constants and special registers
// first.
void Decoder::PlaceRegisters() {
  const uint32_t num_registers = static_cast<uint32_t>(register_bytes_.size());
  const RegisterPlan plan = PlanRegisters(program_->ops, register_bytes_);
  const uint32_t num_others = program_->num_slots - num_registers;
  std::vector<Slot> places;
  for (const uint32_t bytes : plan.place_bytes) {
    places.push_back({Allocate(bytes), num_others + static_cast<uint32_t>(places.size())});
  }
  program_->num_slots = num_others + static_cast<uint32_t>(places.size());
  const auto place = [&](Slot* slot) {
    if (slot->index < num_registers) {
      *slot = places[plan.place[slot->index]];
    } else {
      slot->index -= num_registers;
    }
  };
  for (Op& op : program_->ops) {
    for (int i = 0; i < op.num_dst; ++i) place(&op.dst[i]);
    for (int i = 0; i < op.num_src; ++i) place(&op.src[i]);
    if (op.guarded) place(&op.guard);
  }
  for (auto& [key, slot] : constants_) place(&slot);
  for (Program::SpecialSlot& special : program_->specials) place(&special.slot);
}

absl::StatusOr<std::unique_ptr<Program>> Decoder::Run() {
  program_->name = kernel_.name;
  program_->module = module_;
  TRIREME_RETURN_IF_ERROR(Layout());
  TRIREME_RETURN_IF_ERROR(DecodeAll());
  PlaceRegisters();
  Program& program = *program_;
  program.file_bytes = static_cast<uint32_t>(AlignUp(program.file_bytes, 64));
  program.image.assign(program.file_bytes, 0);
  program.defined.assign(program.num_slots, 0);
  for (const auto& [key, slot] : constants_) {
    const auto& [bits, size] = key;
    program.defined[slot.index] = kAllLanes;
    if (size == 0) {
      std::memcpy(&program.image[slot.offset], &bits, sizeof(LaneMask));
      continue;
    }
    for (int lane = 0; lane < kWarpSize; ++lane) {
      std::memcpy(&program.image[slot.offset + static_cast<size_t>(lane * size)], &bits,
                  static_cast<size_t>(size));
    }
  }
  for (const Program::SpecialSlot& special : program.specials) {
    program.defined[special.slot.index] = kAllLanes;
  }
  WatchWgmmaRegisters(&program);
  return std::move(program_);
}

absl::StatusOr<std::unique_ptr<Program>> Decode(std::shared_ptr<const ptx::Module> module,
                                                const ptx::Function& kernel,
                                                const SymbolTable& symbols) {
  return Decoder(std::move(module), kernel, symbols).Run();
}

}  // namespace trireme::gpusim
