#include <algorithm>
#include <bit>
#include <cstring>
#include <type_traits>
#include <vector>

#include "tests/gpusim/vm/grid.h"
#include "tests/gpusim/vm/numbers.h"
#include "tests/gpusim/vm/wgmma_form.h"

namespace trireme::gpusim {
namespace {

using Sum = WgmmaForm::Sum;

constexpr int kRows = kWgmmaRows, kDepth = 32;  // rows of A; integers along K

MatrixFormat FormatOf(const WgmmaForm& form) {
  return {.block = form.k(), .fraction_bits = IsFp8(form.a) ? 13 : 25};
}

// Both operands as floats: a [64][k], b [k][n].
struct Operands {
  std::vector<float> a, b;
};

// A register of A holds 4 bytes along K: register i of lane l those from 4 (l % 4) + 16 (i / 2) of
// row l / 4 + 8 (i % 2) of the warp's 16.
template <typename Put>
void ReadRegisters(Cta& cta, int first_warp, const Wgmma& wgmma, Put&& put) {
  const WgmmaForm& form = FormOf(*wgmma.op);
  const int per_word = 4 / form.element_bytes();
  float values[4];
  for (int w = 0; w < 4; ++w) {
    const Warp& warp = *cta.warps()[static_cast<size_t>(first_warp + w)];
    for (int i = 0; i < 4; ++i) {
      const uint32_t* src = warp.In<uint32_t>(wgmma.op->src[i]);
      for (int lane = 0; lane < kWarpSize; ++lane) {
        ToFloats(form.a, reinterpret_cast<const std::byte*>(&src[lane]), 4, values);
        const int row = 16 * w + lane / 4 + 8 * (i % 2), k = (lane % 4 + 4 * (i / 2)) * per_word;
        for (int j = 0; j < per_word; ++j) put(row, k + j, values[j]);
      }
    }
  }
}

Operands ReadOperands(Cta& cta, int first_warp, const Wgmma& wgmma) {
  const WgmmaForm& form = FormOf(*wgmma.op);
  const int k = form.k();
  Operands operands;
  operands.a.resize(static_cast<size_t>(kRows * k));
  operands.b.resize(static_cast<size_t>(k * form.n));
  const float sign_a = form.negate_a ? -1.0f : 1.0f, sign_b = form.negate_b ? -1.0f : 1.0f;
  const auto put_a = [&](int row, int i, float value) {
    operands.a[static_cast<size_t>(row * k + i)] = sign_a * value;
  };
  if (form.a_in_registers) {
    ReadRegisters(cta, first_warp, wgmma, put_a);
  } else {
    OperandA(form, wgmma.a).Read(cta.shared(0), put_a);
  }
  OperandB(form, wgmma.b).Read(cta.shared(0), [&](int column, int i, float value) {
    operands.b[static_cast<size_t>(i * form.n + column)] = sign_b * value;
  });
  return operands;
}

// Sum i of lane l of warp w is that of row 16 w + l / 4 + 8 (i / 2 % 2) and column
// 8 (i / 4) + 2 (l % 4) + i % 2; of f16 two neighbours share a register. Calls f(lane 0's, row and
// column of lane 0, step from lane to lane).
template <Sum sum, typename T, typename F>
void EachSum(Cta& cta, int first_warp, const Wgmma& wgmma, F&& f) {
  for (int w = 0; w < 4; ++w) {
    const Warp& warp = *cta.warps()[static_cast<size_t>(first_warp + w)];
    for (int i = 0; i < FormOf(*wgmma.op).n / 2; ++i) {
      constexpr bool half = sum == Sum::kF16;
      // In flight: nobody else looks at them.
      T* const lanes = const_cast<T*>(warp.In<T>(wgmma.op->dst[half ? i / 2 : i]));
      f(half ? lanes + i % 2 : lanes, 16 * w + 8 * (i / 2 % 2), 8 * (i / 4) + i % 2, half ? 2 : 1);
    }
  }
}

template <Sum sum>
void AddFloats(Cta& cta, int first_warp, const Wgmma& wgmma, const Operands& operands) {
  using T = std::conditional_t<sum == Sum::kF16, uint16_t, float>;
  const int n = FormOf(*wgmma.op).n;
  std::vector<float> c(static_cast<size_t>(kRows * n));
  // Calls f(sum, its place in c).
  const auto each = [&](auto&& f) {
    EachSum<sum, T>(cta, first_warp, wgmma, [&](T* lanes, int row, int column, int step) {
      for (int lane = 0; lane < kWarpSize; ++lane) {
        f(lanes + step * lane,
          &c[static_cast<size_t>((row + lane / 4) * n + column + lane % 4 * 2)]);
      }
    });
  };
  if (wgmma.accumulates) {
    each([](const T* value, float* place) {
      if constexpr (sum == Sum::kF16) {
        *place = FromF16(*value);
      } else {
        *place = *value;
      }
    });
  }
  const WgmmaForm& form = FormOf(*wgmma.op);
  MultiplyAdd(cta.grid().matrix_rounding(), FormatOf(form), operands.a.data(), operands.b.data(),
              c.data(), kRows, n, form.k());
  each([](T* value, const float* place) {
    if constexpr (sum == Sum::kF16) {
      *value = ToF16(*place);
    } else {
      *value = *place;
    }
  });
}

void AddIntegers(Cta& cta, int first_warp, const Wgmma& wgmma, const Operands& operands) {
  const WgmmaForm& form = FormOf(*wgmma.op);
  EachSum<Sum::kS32, int32_t>(
      cta, first_warp, wgmma, [&](int32_t* lanes, int first_row, int first_column, int) {
        for (int lane = 0; lane < kWarpSize; ++lane) {
          const int row = first_row + lane / 4, column = first_column + lane % 4 * 2;
          int64_t value = wgmma.accumulates ? lanes[lane] : 0;
          for (int k = 0; k < kDepth; ++k) {
            value += static_cast<int64_t>(operands.a[static_cast<size_t>(row * kDepth + k)] *
                                          operands.b[static_cast<size_t>(k * form.n + column)]);
          }
          if (form.saturates) value = std::clamp<int64_t>(value, INT32_MIN, INT32_MAX);
          lanes[lane] = static_cast<int32_t>(value);
        }
      });
}

}  // namespace

void Compute(Cta& cta, int first_warp, Wgmma* wgmma) {
  if (wgmma->computed) return;
  wgmma->computed = true;
  const Operands operands = ReadOperands(cta, first_warp, *wgmma);
  switch (FormOf(*wgmma->op).sum) {
    case Sum::kF32:
      return AddFloats<Sum::kF32>(cta, first_warp, *wgmma, operands);
    case Sum::kF16:
      return AddFloats<Sum::kF16>(cta, first_warp, *wgmma, operands);
    case Sum::kS32:
      return AddIntegers(cta, first_warp, *wgmma, operands);
  }
}

}  // namespace trireme::gpusim
