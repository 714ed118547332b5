#include <algorithm>
#include <bit>
#include <vector>

#include "runtime/base/strings.h"
#include "tests/gpusim/vm/fp8.h"
#include "tests/gpusim/vm/matrix_unit.h"
#include "tests/gpusim/vm/tcgen05_mma.h"

namespace trireme::gpusim {
namespace {

using Kind = TensorMmaForm::Kind;

bool IsScaled(Kind kind) { return kind >= Kind::kMxf8f6f4; }

// Formats by the kind's numbering.
bool ElementOf(Kind kind, uint32_t format, MatrixElement* type) {
  const auto among = [&](std::initializer_list<MatrixElement> known) {
    if (format >= known.size()) return false;
    *type = known.begin()[format];
    return true;
  };
  switch (kind) {
    case Kind::kF16:
      return among({MatrixElement::kF16, MatrixElement::kBf16});
    case Kind::kTf32:
      *type = MatrixElement::kTf32;
      return format == 2;
    case Kind::kF8f6f4:
    case Kind::kMxf8f6f4:
      return among({MatrixElement::kE4m3, MatrixElement::kE5m2});
    case Kind::kI8:
      return among({MatrixElement::kU8, MatrixElement::kS8});
    case Kind::kMxf4:
    case Kind::kMxf4nvf4:
      *type = MatrixElement::kE2m1;
      return format == 1;
  }
  return false;
}

// The scale factors of a row: `count` of them, each for as many elements along K.
std::vector<float> ScalesOf(const TensorMma& mma, Cta& cta, uint32_t address, int row, int id) {
  const uint32_t word =
      cta.tensor_memory.At(row % 32, static_cast<int>(address & 0xffff) + row / 32);
  std::vector<float> scales(mma.form.scales);
  for (size_t i = 0; i < scales.size(); ++i) {
    const uint8_t bits = static_cast<uint8_t>(word >> 8 * (static_cast<size_t>(id) + i));
    scales[i] = mma.scales_are_ue8m0 ? FromUe8m0(bits) : FromUe4m3(bits);
  }
  return scales;
}

void ScaleRow(const std::vector<float>& scales, int k, float* values, size_t step) {
  for (int i = 0; i < k && !scales.empty(); ++i) {
    values[static_cast<size_t>(i) * step] *=
        scales[static_cast<size_t>(i) * scales.size() / static_cast<size_t>(k)];
  }
}

// a [m][k] of one CTA.
std::vector<float> ReadA(const TensorMma& mma, Cta& cta, const SharedOperand& operand) {
  const int k = mma.k();
  std::vector<float> a(static_cast<size_t>(mma.m * k));
  const float sign = mma.negate_a ? -1.0f : 1.0f;
  if (mma.form.a_in_tensor_memory) {
    const int per_word = k / 8, column = static_cast<int>(mma.a & 0xffff);
    float values[8];
    for (int row = 0; row < mma.m; ++row) {
      for (int w = 0; w < 8; ++w) {
        const uint32_t word = cta.tensor_memory.At(mma.LaneOf(row), column + w);
        ToFloats(mma.type_a, reinterpret_cast<const std::byte*>(&word), 4, values);
        for (int i = 0; i < per_word; ++i) {
          a[static_cast<size_t>(row * k + w * per_word + i)] = sign * values[i];
        }
      }
    }
  } else {
    operand.Read(cta.shared(0), [&](int row, int i, float value) {
      a[static_cast<size_t>(row * k + i)] = sign * value;
    });
  }
  for (int row = 0; row < mma.m && mma.form.scales > 0; ++row) {
    ScaleRow(ScalesOf(mma, cta, mma.scales_a, row, mma.scale_id_a), k,
             &a[static_cast<size_t>(row * k)], 1);
  }
  return a;
}

// b [k][n]; of a pair each CTA holds half of the columns.
std::vector<float> ReadB(const TensorMma& mma, Cta& with_scales, const SharedOperand& operand) {
  const int k = mma.k();
  std::vector<float> b(static_cast<size_t>(k * mma.n));
  const float sign = mma.negate_b ? -1.0f : 1.0f;
  for (size_t part = 0; part < mma.ctas.size(); ++part) {
    operand.Read(mma.ctas[part]->shared(0), [&](int column, int i, float value) {
      b[static_cast<size_t>(i * mma.n + static_cast<int>(part) * operand.rows + column)] =
          sign * value;
    });
  }
  for (int column = 0; column < mma.n && mma.form.scales > 0; ++column) {
    ScaleRow(ScalesOf(mma, with_scales, mma.scales_b, column, mma.scale_id_b), k,
             &b[static_cast<size_t>(column)], static_cast<size_t>(mma.n));
  }
  return b;
}

void AddIntegers(const TensorMma& mma, const std::vector<float>& a, const std::vector<float>& b,
                 std::vector<uint32_t>* sums) {
  for (int row = 0; row < mma.m; ++row) {
    for (int column = 0; column < mma.n; ++column) {
      uint32_t& sum = (*sums)[static_cast<size_t>(row * mma.n + column)];
      int64_t value = static_cast<int32_t>(sum);
      for (int i = 0; i < mma.k(); ++i) {
        value += static_cast<int64_t>(a[static_cast<size_t>(row * mma.k() + i)] *
                                      b[static_cast<size_t>(i * mma.n + column)]);
      }
      if (mma.saturates) value = std::clamp<int64_t>(value, INT32_MIN, INT32_MAX);
      sum = static_cast<uint32_t>(value);
    }
  }
}

}  // namespace

std::string ParseInstructionDescriptor(uint32_t bits, TensorMma* mma) {
  const auto field = [bits](int at, int size) { return bits >> at & ((1u << size) - 1); };
  const Kind kind = mma->form.kind;
  const bool scaled = IsScaled(kind);
  const int m = static_cast<int>(field(24, 5)) * 16;
  const int n = static_cast<int>(field(17, 6)) * 8;
  if (field(2, 1) != 0) return "sparse operands are not known";
  if (!ElementOf(kind, field(7, 3), &mma->type_a) || !ElementOf(kind, field(10, 3), &mma->type_b)) {
    return StrCat("element formats ", field(7, 3), " and ", field(10, 3),
                  " are none that are known of this kind");
  }
  mma->negate_a = field(13, 1) != 0;
  mma->negate_b = field(14, 1) != 0;
  mma->a_is_mn_major = field(15, 1) != 0;
  mma->b_is_mn_major = field(16, 1) != 0;
  const int width = BitsOf(mma->type_a);
  if ((mma->a_is_mn_major || mma->b_is_mn_major) && width != 16 && width != 8) {
    return "a major dimension that this element type does not have, or that is not known";
  }
  if (scaled) {
    mma->scale_id_b = static_cast<int>(field(4, 2));
    mma->scale_id_a = static_cast<int>(field(29, 2));
    mma->scales_are_ue8m0 = field(23, 1) != 0;
    const int scales = mma->form.scales;
    for (const int id : {mma->scale_id_a, mma->scale_id_b}) {
      if (id % scales != 0 || id + scales > 4) {
        return StrCat("scale factor id ", id, " with ", scales, " factors a row");
      }
    }
    if (!mma->scales_are_ue8m0 && scales != 4) return "ue4m3 factors are for blocks of 16";
    if (mma->scales_are_ue8m0 && scales == 4) return "ue8m0 factors are for blocks of 32";
  } else {
    const uint32_t sums = field(4, 2), wanted = kind == Kind::kI8 ? 2 : 1;
    if (sums != wanted) return StrCat("sums of format ", sums, " are not known of this kind");
    mma->saturates = field(3, 1) != 0;
  }
  mma->m = mma->form.pair ? m / 2 : m;
  mma->n = n;
  const bool shaped = mma->form.pair ? m == 256 : m == 128 || (m == 64 && !scaled);
  const int step = m == 64 && !scaled && kind != Kind::kI8 ? 8 : 16;
  if (!shaped || n < step || n > 256 || n % step != 0 || (mma->form.pair && n % 32 != 0)) {
    return StrCat("shape M ", m, ", N ", n, mma->form.pair ? " of a pair" : "",
                  ": there is none, or it is not known");
  }
  return "";
}

bool OperandsOf(const TensorMma& mma, SharedOperand* a, SharedOperand* b) {
  a->type = mma.type_a;
  a->rows = mma.m;
  a->mn_major = mma.a_is_mn_major;
  b->type = mma.type_b;
  b->rows = mma.n / static_cast<int>(mma.ctas.size());
  b->mn_major = mma.b_is_mn_major;
  return (mma.form.a_in_tensor_memory || MatrixDescriptor::OfTcgen05(mma.a, &a->descriptor)) &&
         MatrixDescriptor::OfTcgen05(mma.b, &b->descriptor);
}

void Compute(const TensorMma& mma, MatrixRounding rounding) {
  SharedOperand operand_a, operand_b;
  OperandsOf(mma, &operand_a, &operand_b);
  for (size_t part = 0; part < mma.ctas.size(); ++part) {
    Cta* const cta = mma.ctas[part];
    const std::vector<float> a = ReadA(mma, *cta, operand_a);
    const std::vector<float> b = ReadB(mma, *cta, operand_b);
    const auto each = [&](auto&& f) {
      for (int row = 0; row < mma.m; ++row) {
        const int lane = mma.LaneOf(row);
        if ((mma.masked[4 * part + static_cast<size_t>(lane / 32)] >> lane % 32 & 1) != 0) continue;
        for (int column = 0; column < mma.n; ++column) {
          f(cta->tensor_memory.At(lane, static_cast<int>(mma.d & 0xffff) + column),
            static_cast<size_t>(row * mma.n + column));
        }
      }
    };
    std::vector<uint32_t> sums(static_cast<size_t>(mma.m * mma.n));
    if (mma.accumulates) each([&](uint32_t& cell, size_t i) { sums[i] = cell; });
    if (mma.form.kind == Kind::kI8) {
      AddIntegers(mma, a, b, &sums);
    } else {
      std::vector<float> c(sums.size());
      std::transform(sums.begin(), sums.end(), c.begin(),
                     [](uint32_t bits) { return std::bit_cast<float>(bits); });
      MultiplyAdd(rounding, {.block = mma.k(), .fraction_bits = 25}, a.data(), b.data(), c.data(),
                  mma.m, mma.n, mma.k());
      std::transform(c.begin(), c.end(), sums.begin(),
                     [](float value) { return std::bit_cast<uint32_t>(value); });
    }
    each([&](uint32_t& cell, size_t i) { cell = sums[i]; });
  }
}

}  // namespace trireme::gpusim
