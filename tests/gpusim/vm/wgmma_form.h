// The forms of wgmma.mma_async and what they compute.
#pragma once

#include <compare>
#include <cstdint>

#include "tests/gpusim/vm/program.h"
#include "tests/gpusim/vm/wgmma.h"

namespace trireme::gpusim {

inline constexpr int kWgmmaRows = 64;

// What an opcode says. m is 64, k 32 bytes.
struct WgmmaForm {
  enum class Element : uint8_t { kBf16, kF16, kTf32, kE4m3, kE5m2, kS8, kU8 };
  enum class Sum : uint8_t { kF32, kF16, kS32 };

  int n = 8;
  Element a = Element::kBf16, b = Element::kBf16;
  Sum sum = Sum::kF32;
  bool a_in_registers = false;
  bool saturates = false;
  bool negate_a = false, negate_b = false;
  bool a_is_mn_major = false, b_is_mn_major = false;

  int element_bytes() const {
    return a == Element::kTf32 ? 4 : a == Element::kBf16 || a == Element::kF16 ? 2 : 1;
  }
  int k() const { return 32 / element_bytes(); }
  int num_sums() const { return sum == Sum::kF16 ? n / 4 : n / 2; }  // registers
  auto operator<=>(const WgmmaForm&) const = default;
};

// src: A's registers or its descriptor, B's descriptor, the predicate scale-d.
inline const WgmmaForm& FormOf(const Op& op) { return *reinterpret_cast<const WgmmaForm*>(op.imm); }

// Carries an operation out, whose operands are there.
void Compute(Cta& cta, int first_warp, Wgmma* wgmma);

}  // namespace trireme::gpusim
