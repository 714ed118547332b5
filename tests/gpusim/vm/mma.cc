// mma.sync (PTX ISA, "Matrix multiply-accumulate operation using mma instruction": the figures
// there give who holds what).
//
// With g = lane / 4, t = lane % 4 and e elements a register:
//   A: register i: row g + 8 (i % 2), columns e t + 4 e (i / 2) and on
//   B: register i: rows e t + 4 e i and on, column g
//   C, D of 32 bits: register i: row g + 8 (i / 2), column 2 t + i % 2; of f16: row g + 8 i
#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>

#include "tests/gpusim/vm/families.h"
#include "tests/gpusim/vm/fp8.h"
#include "tests/gpusim/vm/lanewise.h"
#include "tests/gpusim/vm/matrix_unit.h"
#include "tests/gpusim/vm/numbers.h"
#include "tests/gpusim/vm/warp_sync.h"
#include "tests/gpusim/vm/worker.h"

namespace trireme::gpusim {
namespace {

using ptx::Instruction;
using ptx::Type;

constexpr int kM = 16, kN = 8;

// Elements as they lie in a register, as floats; integers of 8 bits are exact in them, and so are
// the sums of k products.
template <float (*value)(uint16_t)>
struct Half {
  using Element = uint16_t;
  static float Value(Element bits) { return value(bits); }
};
struct Tf32 {  // the lower 13 bits are not looked at
  using Element = uint32_t;
  static float Value(Element bits) { return std::bit_cast<float>(bits & ~0x1fffu); }
};
template <float (*value)(uint8_t)>
struct Byte {
  using Element = uint8_t;
  static float Value(Element bits) { return value(bits); }
};
float FromS8(uint8_t bits) { return static_cast<int8_t>(bits); }
float FromU8(uint8_t bits) { return bits; }

template <typename A, typename B, int k>
struct Fragments {
  static constexpr int e = sizeof(uint32_t) / sizeof(typename A::Element);
  static_assert(sizeof(typename B::Element) == sizeof(typename A::Element));
  static constexpr int kA = kM * k / (32 * e), kB = kN * k / (32 * e);  // registers
  alignas(64) float a[kM][k], b[k][kN], c[kM][kN];

  void Read(const Warp& warp, const Op& op) {
    for (int i = 0; i < kA; ++i) {
      const uint32_t* src = warp.In<uint32_t>(op.src[i]);
      for (int g = 0; g < 8; ++g) {  // four lanes hold elements side by side
        float* const to = &a[g + 8 * (i % 2)][4 * e * (i / 2)];
        EachOfFour<A>(src + 4 * g, [&](int j, float value) { to[j] = value; });
      }
    }
    for (int i = 0; i < kB; ++i) {
      const uint32_t* src = warp.In<uint32_t>(op.src[kA + i]);
      for (int g = 0; g < 8; ++g) {
        EachOfFour<B>(src + 4 * g, [&](int j, float value) { b[4 * e * i + j][g] = value; });
      }
    }
  }

 private:
  template <typename T, typename F>
  static void EachOfFour(const uint32_t* lanes, F&& f) {
    typename T::Element elements[4 * e];
    std::memcpy(elements, lanes, sizeof(elements));
    for (int j = 0; j < 4 * e; ++j) f(j, T::Value(elements[j]));
  }
};

// How C comes in and D goes out.
struct FloatSums {
  static constexpr int kRegisters = 4;
  template <typename F>
  static void Read(const Warp& warp, const Slot* slots, F* f) {
    for (int i = 0; i < kRegisters; i += 2) {  // two columns side by side
      const float* first = warp.In<float>(slots[i]);
      const float* second = warp.In<float>(slots[i + 1]);
      float* const to = f->c[8 * (i / 2)];
      for (int lane = 0; lane < kWarpSize; ++lane) {
        to[2 * lane] = first[lane];
        to[2 * lane + 1] = second[lane];
      }
    }
  }
  template <typename F>
  static void Write(Warp& warp, const Op& op, const Slot*, const F& f) {
    for (int i = 0; i < kRegisters; i += 2) {
      float* first = warp.Out<float>(op.dst[i], kAllLanes);
      float* second = warp.Out<float>(op.dst[i + 1], kAllLanes);
      const float* const from = f.c[8 * (i / 2)];
      for (int lane = 0; lane < kWarpSize; ++lane) {
        first[lane] = from[2 * lane];
        second[lane] = from[2 * lane + 1];
      }
    }
  }
};
struct HalfSums {
  static constexpr int kRegisters = 2;
  template <typename F>
  static void Read(const Warp& warp, const Slot* slots, F* f) {
    for (int i = 0; i < kRegisters; ++i) {
      const uint32_t* src = warp.In<uint32_t>(slots[i]);
      for (int lane = 0; lane < kWarpSize; ++lane) {
        float* const at = &f->c[lane / 4 + 8 * i][lane % 4 * 2];
        at[0] = FromF16(static_cast<uint16_t>(src[lane]));
        at[1] = FromF16(static_cast<uint16_t>(src[lane] >> 16));
      }
    }
  }
  template <typename F>
  static void Write(Warp& warp, const Op& op, const Slot*, const F& f) {
    for (int i = 0; i < kRegisters; ++i) {
      uint32_t* dst = warp.Out<uint32_t>(op.dst[i], kAllLanes);
      for (int lane = 0; lane < kWarpSize; ++lane) {
        const float* at = &f.c[lane / 4 + 8 * i][lane % 4 * 2];
        dst[lane] = uint32_t{ToF16(at[1])} << 16 | ToF16(at[0]);
      }
    }
  }
};
// The products alone are summed as floats. op.imm: 1 for .satfinite, else sums wrap.
struct IntegerSums {
  static constexpr int kRegisters = 4;
  template <typename F>
  static void Read(const Warp&, const Slot*, F* f) {
    for (auto& row : f->c) std::fill(std::begin(row), std::end(row), 0.0f);
  }
  template <typename F>
  static void Write(Warp& warp, const Op& op, const Slot* slots, const F& f) {
    using Limits = std::numeric_limits<int32_t>;
    for (int i = 0; i < kRegisters; ++i) {
      int32_t sums[kWarpSize];
      std::copy_n(warp.In<int32_t>(slots[i]), kWarpSize, sums);
      int32_t* dst = warp.Out<int32_t>(op.dst[i], kAllLanes);
      for (int lane = 0; lane < kWarpSize; ++lane) {
        const float products = f.c[lane / 4 + 8 * (i / 2)][lane % 4 * 2 + i % 2];
        const int64_t sum = int64_t{sums[lane]} + static_cast<int64_t>(products);
        dst[lane] = static_cast<int32_t>(
            op.imm != 0 ? std::clamp<int64_t>(sum, Limits::min(), Limits::max()) : sum);
      }
    }
  }
};

template <typename A, typename B, int k, typename Sums>
Flow MultiplyMatrix(Warp& warp, const Op& op, LaneMask active) {
  if (!Together(warp, op, warp.live(), active)) return Flow::kRetry;
  warp.RequireDefined(op, active);
  if (active != kAllLanes) {
    warp.ReportAt(op, std::countr_zero(active), FindingKind::kDivergence, "mma needs all 32 lanes");
  }
  ++warp.worker().counters().mma;
  using Of = Fragments<A, B, k>;
  Of f;
  f.Read(warp, op);
  const Slot* const sums = op.src + Of::kA + Of::kB;
  Sums::Read(warp, sums, &f);
  constexpr bool integer = std::is_same_v<Sums, IntegerSums>;
  constexpr bool fp8 = Of::e == 4 && !integer;
  MultiplyAdd(integer ? MatrixRounding::kFloatOrder : warp.grid().matrix_rounding(),
              {.block = k, .fraction_bits = fp8 ? 13 : MatrixFormat().fraction_bits}, &f.a[0][0],
              &f.b[0][0], &f.c[0][0], kM, kN, k);
  Sums::Write(warp, op, sums, f);
  return Flow::kNext;
}

using Bf16 = Half<&FromBf16>;
using F16 = Half<&FromF16>;
using S8 = Byte<&FromS8>;
using U8 = Byte<&FromU8>;
using E4m3 = Byte<&FromE4m3>;
using E5m2 = Byte<&FromE5m2>;

struct Form {
  std::string_view shape, d, a, b;
  Execute run;
};
constexpr Form kForms[] = {
    {"m16n8k16", "f32", "bf16", "bf16", &MultiplyMatrix<Bf16, Bf16, 16, FloatSums>},
    {"m16n8k8", "f32", "bf16", "bf16", &MultiplyMatrix<Bf16, Bf16, 8, FloatSums>},
    {"m16n8k16", "f32", "f16", "f16", &MultiplyMatrix<F16, F16, 16, FloatSums>},
    {"m16n8k8", "f32", "f16", "f16", &MultiplyMatrix<F16, F16, 8, FloatSums>},
    {"m16n8k16", "f16", "f16", "f16", &MultiplyMatrix<F16, F16, 16, HalfSums>},
    {"m16n8k8", "f16", "f16", "f16", &MultiplyMatrix<F16, F16, 8, HalfSums>},
    {"m16n8k8", "f32", "tf32", "tf32", &MultiplyMatrix<Tf32, Tf32, 8, FloatSums>},
    {"m16n8k4", "f32", "tf32", "tf32", &MultiplyMatrix<Tf32, Tf32, 4, FloatSums>},
    {"m16n8k32", "s32", "s8", "s8", &MultiplyMatrix<S8, S8, 32, IntegerSums>},
    {"m16n8k32", "s32", "s8", "u8", &MultiplyMatrix<S8, U8, 32, IntegerSums>},
    {"m16n8k32", "s32", "u8", "s8", &MultiplyMatrix<U8, S8, 32, IntegerSums>},
    {"m16n8k32", "s32", "u8", "u8", &MultiplyMatrix<U8, U8, 32, IntegerSums>},
    {"m16n8k16", "s32", "s8", "s8", &MultiplyMatrix<S8, S8, 16, IntegerSums>},
    {"m16n8k16", "s32", "u8", "u8", &MultiplyMatrix<U8, U8, 16, IntegerSums>},
    {"m16n8k32", "f32", "e4m3", "e4m3", &MultiplyMatrix<E4m3, E4m3, 32, FloatSums>},
    {"m16n8k32", "f32", "e4m3", "e5m2", &MultiplyMatrix<E4m3, E5m2, 32, FloatSums>},
    {"m16n8k32", "f32", "e5m2", "e4m3", &MultiplyMatrix<E5m2, E4m3, 32, FloatSums>},
    {"m16n8k32", "f32", "e5m2", "e5m2", &MultiplyMatrix<E5m2, E5m2, 32, FloatSums>},
};

}  // namespace

absl::Status DecodeMma(Decoder& decoder, const Instruction& instruction, Op* op) {
  const auto& operands = instruction.operands;
  const auto& parts = instruction.parts;
  op->op_class = OpClass::kMatrix;
  if (operands.size() != 4 || parts.size() < 8) return decoder.Unknown(instruction);
  const auto* types = &parts[parts.size() - 4];  // d, a, b, c
  for (const Form& form : kForms) {
    if (instruction.Has(form.shape) && form.d == types[0] && form.a == types[1] &&
        form.b == types[2] && form.d == types[3]) {
      op->run = form.run;
    }
  }
  if (op->run == nullptr || instruction.Has("sp")) return decoder.Unknown(instruction);
  op->imm = instruction.Has("satfinite") ? 1 : 0;
  decoder.SetDst(op, decoder.WriteAll(operands[0]));
  std::vector<Slot> sources;
  for (size_t i = 1; i < 4; ++i) {
    for (const Slot slot : decoder.ReadAll(operands[i], Type::kB32)) sources.push_back(slot);
  }
  decoder.SetSrc(op, sources);
  return absl::OkStatus();
}

}  // namespace trireme::gpusim
