// What the decoders of the instruction families share.
#pragma once

#include <initializer_list>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "absl/status/statusor.h"
#include "tests/gpusim/vm/program.h"

namespace trireme::gpusim {

class Decoder {
 public:
  Decoder(std::shared_ptr<const ptx::Module> module, const ptx::Function& kernel,
          const SymbolTable& symbols);
  absl::StatusOr<std::unique_ptr<Program>> Run();

  // ---- For the families. An operand that does not fit its place makes ok() false.
  // Where `operand` lies, an immediate as a `type`.
  Slot Read(const ptx::Operand& operand, ptx::Type type);
  Slot Write(const ptx::Operand& operand);
  // The bytes of a register, or of `type` for anything else.
  int SizeOf(const ptx::Operand& operand, ptx::Type type) const;
  void SetDst(Op* op, const std::vector<Slot>& slots);
  void SetSrc(Op* op, const std::vector<Slot>& slots);
  // [base + offset]: the base's slot; op->offset is set. Symbols become constants.
  Slot Address(const ptx::Operand& operand, Op* op);
  // The registers of a vector operand, or the operand alone.
  std::vector<Slot> ReadAll(const ptx::Operand& operand, ptx::Type type);
  std::vector<Slot> WriteAll(const ptx::Operand& operand);
  // d|p: one slot without "|p".
  std::vector<Slot> WriteBoth(const ptx::Operand& operand);
  // The nth part of the opcode that names a type; kNone.
  static ptx::Type TypeOf(const ptx::Instruction& instruction, int nth = 0);
  absl::Status Unknown(const ptx::Instruction& instruction) const;
  // A constant of all lanes.
  Slot Constant(uint64_t bits, int size);
  // Where a variable of the kernel lies in its state space.
  int64_t OffsetOf(const ptx::Operand& variable) const {
    return static_cast<int64_t>(variables_[static_cast<size_t>(variable.reg)]);
  }
  Slot CarryFlag();  // of add.cc: a predicate
  const ptx::Function& kernel() const { return kernel_; }

 private:
  absl::Status Layout();
  absl::Status DecodeAll();
  void PlaceRegisters();
  absl::StatusOr<uint64_t> AddressOf(const ptx::Operand& symbol) const;
  Slot SpecialSlot(const std::string& name);
  uint32_t Allocate(uint32_t bytes);
  void Fail(std::string what);

  std::shared_ptr<const ptx::Module> module_;
  const ptx::Function& kernel_;
  const SymbolTable& symbols_;
  std::unique_ptr<Program> program_ = std::make_unique<Program>();
  std::vector<uint32_t> register_bytes_;  // in the file; until PlaceRegisters slot r is register r
  std::vector<uint64_t> variables_;       // addresses of kernel_.variables within their spaces
  std::map<std::string, uint64_t> shared_externs_;
  std::map<std::pair<uint64_t, int>, Slot> constants_;
  std::map<std::string, Slot> special_slots_;
  std::string failure_;
  const ptx::Instruction* current_ = nullptr;
};

using DecodeFamily = absl::Status (*)(Decoder& decoder, const ptx::Instruction& instruction,
                                      Op* op);
using Families = std::map<std::string_view, DecodeFamily>;

// Each family adds the roots of its opcodes ("add", "ld").
void AddIntegerFamily(Families* families);
void AddCarryFamily(Families* families);
void AddFloatFamily(Families* families);
void AddConvertFamily(Families* families);
void AddMoveFamily(Families* families);
void AddMemoryFamily(Families* families);
void AddControlFamily(Families* families);
void AddWarpFamily(Families* families);
void AddMatrixFamily(Families* families);
void AddAsyncFamily(Families* families);
void AddBarrierFamily(Families* families);
void AddAtomicFamily(Families* families);
void AddMbarrierFamily(Families* families);
void AddClusterFamily(Families* families);
void AddFenceFamily(Families* families);
void AddWgmmaFamily(Families* families);
void AddTensorFamily(Families* families);

}  // namespace trireme::gpusim
