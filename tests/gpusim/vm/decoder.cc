#include "tests/gpusim/vm/decoder.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <iterator>
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

uint64_t AlignUp(uint64_t value, uint64_t alignment) {
  return (value + alignment - 1) / alignment * alignment;
}

// The registers of one lane in the file: a predicate is a bit of a word.
uint32_t FileBytes(Type type) {
  if (type == Type::kPred) return sizeof(LaneMask);
  return static_cast<uint32_t>(std::max(ptx::SizeOf(type), 2)) * kWarpSize;
}

// What is not an ordinary warp instruction.
bool IsMatrixOperation(std::string_view root) {
  constexpr std::string_view kRoots[] = {"mma",      "wgmma",    "tcgen05",
                                         "ldmatrix", "stmatrix", "movmatrix"};
  return std::find(std::begin(kRoots), std::end(kRoots), root) != std::end(kRoots);
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
    op.matrix = IsMatrixOperation(instruction.parts[0]);
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
