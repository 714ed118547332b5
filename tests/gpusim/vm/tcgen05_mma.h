// One tcgen05.mma: what its instruction descriptor says, what it touches, what it computes (PTX
// ISA, "tcgen05: Instruction Descriptor", "Data Path Layout", "Scale Factor Layouts"; field
// positions and layouts cross-checked with CUTLASS's mma_sm100_desc and mma_traits_sm100).
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "tests/gpusim/vm/matrix_operand.h"
#include "tests/gpusim/vm/tcgen05.h"

namespace trireme::gpusim {

// As it was started.
struct TensorMma {
  TensorMmaForm form;
  uint64_t a = 0, b = 0;                       // descriptors; a: an address with A in tensor memory
  uint32_t d = 0, scales_a = 0, scales_b = 0;  // addresses in tensor memory
  bool accumulates = false;
  std::array<uint32_t, 8> masked{};  // lanes that are not written, a bit each; 4 words a CTA
  std::vector<Cta*> ctas;            // one, or a pair in the order of their ranks

  // From the instruction descriptor.
  int m = 0, n = 0;  // m: of one CTA
  MatrixElement type_a = MatrixElement::kBf16, type_b = MatrixElement::kBf16;
  bool negate_a = false, negate_b = false, a_is_mn_major = false, b_is_mn_major = false;
  bool saturates = false;
  int scale_id_a = 0, scale_id_b = 0;  // the first byte of a column that is used
  bool scales_are_ue8m0 = false;

  int k() const { return DepthOf(type_a); }
  // M 64 fills the lower 16 lanes of each 32 (or the upper, by d's lane).
  int LaneOf(int row) const {
    const int first = static_cast<int>(d >> 16);
    return first + (m == 64 ? row % 16 + row / 16 * 32 : row);
  }
};

// Fills in what the descriptor says. "": it is one; else what is wrong with it.
std::string ParseInstructionDescriptor(uint32_t bits, TensorMma* mma);
// Operands in shared memory. False: a descriptor is none that is known.
bool OperandsOf(const TensorMma& mma, SharedOperand* a, SharedOperand* b);

void Compute(const TensorMma& mma, MatrixRounding rounding);

}  // namespace trireme::gpusim
