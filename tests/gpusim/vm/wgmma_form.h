// The forms of wgmma.mma_async and what they compute.
#pragma once

#include <compare>
#include <cstdint>

#include "tests/gpusim/ptx/module.h"
#include "tests/gpusim/vm/matrix_operand.h"
#include "tests/gpusim/vm/program.h"
#include "tests/gpusim/vm/wgmma.h"

namespace trireme::gpusim {

class Cta;
class Warp;

inline constexpr int kWgmmaRows = 64;

// What an opcode says. m is 64, k 32 bytes.
struct WgmmaForm {
  using Element = MatrixElement;
  enum class Sum : uint8_t { kF32, kF16, kS32 };

  int n = 8;
  Element a = Element::kBf16, b = Element::kBf16;
  Sum sum = Sum::kF32;
  bool a_in_registers = false;
  bool saturates = false;
  bool negate_a = false, negate_b = false;
  bool a_is_mn_major = false, b_is_mn_major = false;

  int element_bytes() const { return BitsOf(a) / 8; }
  int k() const { return DepthOf(a); }
  int num_sums() const { return sum == Sum::kF16 ? n / 4 : n / 2; }  // registers
  auto operator<=>(const WgmmaForm&) const = default;
};

// Of the opcode; false: there is none like that.
bool ParseWgmmaForm(const ptx::Instruction& instruction, WgmmaForm* form);

// src: A's registers or its descriptor, B's descriptor, the predicate scale-d.
inline const WgmmaForm& FormOf(const Op& op) { return *reinterpret_cast<const WgmmaForm*>(op.imm); }
inline int NumA(const WgmmaForm& form) { return form.a_in_registers ? 4 : 1; }
bool IsWgmma(const Op& op);

inline SharedOperand OperandA(const WgmmaForm& form, uint64_t bits) {
  return {MatrixDescriptor::OfWgmma(bits), form.a, kWgmmaRows, form.a_is_mn_major};
}
inline SharedOperand OperandB(const WgmmaForm& form, uint64_t bits) {
  return {MatrixDescriptor::OfWgmma(bits), form.b, form.n, form.b_is_mn_major};
}

// A warp's, and whether an operation may have those that it names: reported.
WgmmaRegisters& RegistersOf(Warp& warp);
void CheckRegisters(Warp& warp, const Op& op, const WgmmaForm& form, bool accumulates);
// By 1 when the operation starts, by -1 when it was waited for.
void Claim(Warp& warp, const Op& op, int by);

// Carries an operation out, whose operands are there.
void Compute(Cta& cta, int first_warp, Wgmma* wgmma);

}  // namespace trireme::gpusim
