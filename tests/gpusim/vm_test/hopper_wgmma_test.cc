// wgmma against CUTLASS's layouts: operands are put where cutlass_layouts.txt says, results are
// looked for where it says.
#include <bit>
#include <map>
#include <random>

#include "runtime/base/strings.h"
#include "tests/gpusim/vm/matrix_descriptor.h"
#include "tests/gpusim/vm/matrix_unit.h"
#include "tests/gpusim/vm/numbers.h"
#include "tests/gpusim/vm_test/cutlass_layouts.h"
#include "tests/gpusim/vm_test/hopper_harness.h"

namespace trireme::gpusim {
namespace {

TEST(MatrixDescriptor, PlacesEveryChunkWhereCutlassDoes) {
  ASSERT_EQ(Cutlass().operands.size(), 19u);
  for (const CutlassOperand& operand : Cutlass().operands) {
    const MatrixDescriptor descriptor = MatrixDescriptor::OfWgmma(operand.descriptor);
    size_t i = 0;
    const uint32_t rows = static_cast<uint32_t>(operand.rows);
    for (uint32_t outer = 0; outer < (operand.mn_major ? 16 : rows); ++outer) {
      for (uint32_t inner = 0; inner < (operand.mn_major ? rows / 8 : 2); ++inner) {
        const uint32_t at =
            operand.mn_major ? descriptor.MnMajor(inner, outer) : descriptor.KMajor(outer, inner);
        ASSERT_EQ(at, operand.chunks[i++]) << operand.descriptor << " " << outer << " " << inner;
      }
    }
    EXPECT_EQ(i, operand.chunks.size());
  }
}

TEST(MatrixDescriptor, TheBaseOffsetMovesTheSwizzlesPattern) {
  const uint64_t plain =
      4611686293305360384;  // 128-byte swizzle, 1024 bytes between groups of rows
  const MatrixDescriptor moved = MatrixDescriptor::OfWgmma(plain | 512 >> 4 | uint64_t{4} << 49);
  const MatrixDescriptor straight = MatrixDescriptor::OfWgmma(plain);
  for (uint32_t row = 0; row < 8; ++row)
    EXPECT_EQ(moved.KMajor(row, 1), straight.KMajor(row, 1) + 512);
}

// ---- Whole operations

struct Kind {
  const char* name;
  const char* types;  // sum.a.b of the opcode
  int element_bytes;
  uint32_t (*encode)(int value);  // of small integers
  bool half_sums = false, integer_sums = false;
  friend void PrintTo(const Kind& kind, std::ostream* os) { *os << kind.name; }
};
uint32_t Bf16(int v) { return ToBf16(static_cast<float>(v)); }
uint32_t F16(int v) { return ToF16(static_cast<float>(v)); }
uint32_t Tf32(int v) { return std::bit_cast<uint32_t>(static_cast<float>(v)); }
uint32_t Integer(int v) { return static_cast<uint8_t>(v); }
uint32_t E5m2(int v) { return F16(v) >> 8; }
// 1 to 4 have at most one fraction bit: exponent 0 is 7 << 3.
uint32_t E4m3(int v) {
  constexpr uint32_t kOf[] = {0, 7 << 3, 8 << 3, 8 << 3 | 4, 9 << 3};
  return (v < 0 ? 0x80u : 0u) | kOf[v < 0 ? -v : v];
}

class Wgmma : public testing::TestWithParam<Kind> {
 protected:
  using Matrix = std::vector<int>;  // [rows][k]

  int k() const { return 32 / GetParam().element_bytes; }
  Matrix Random(int rows, int lowest) {
    std::uniform_int_distribution<int> values(lowest, 3);
    Matrix matrix(static_cast<size_t>(rows * k()));
    for (int& v : matrix) v = values(random_);
    return matrix;
  }
  void PutElement(std::vector<uint8_t>* to, size_t at, int value) {
    const uint32_t bits = GetParam().encode(value);
    std::memcpy(to->data() + at, &bits, static_cast<size_t>(GetParam().element_bytes));
  }
  // As CUTLASS places it, from byte `base` on.
  void Place(const Matrix& matrix, const CutlassOperand& layout, size_t base,
             std::vector<uint8_t>* to) {
    const int bytes = layout.element_bytes, per_chunk = 16 / bytes;
    for (int row = 0; row < layout.rows; ++row) {
      for (int i = 0; i < k(); ++i) {
        const size_t chunk = static_cast<size_t>(layout.mn_major ? i * (layout.rows / 8) + row / 8
                                                                 : row * 2 + i / per_chunk);
        const size_t within =
            static_cast<size_t>((layout.mn_major ? row % 8 : i % per_chunk) * bytes);
        PutElement(to, base + layout.chunks[chunk] + within,
                   matrix[static_cast<size_t>(row * k() + i)]);
      }
    }
  }
  std::mt19937 random_{11};
};

struct Shape {
  const CutlassOperand *a, *b;  // a null: in registers
  bool accumulate = true;
  int scale_a = 1, scale_b = 1;
};

constexpr uint32_t kBytesA = 16384, kImage = 32768;

// One warpgroup: image to shared memory, accumulators 1, 2, 3 ... of the thread, one wgmma,
// accumulators to memory.
std::string KernelFor(const Kind& kind, const Shape& shape) {
  const int n = shape.b->rows, sums = kind.half_sums ? n / 4 : n / 2;
  std::string text = StrCat(
      ".version 9.0\n.target sm_90a\n.address_size 64\n"
      ".visible .entry k(.param .u64 out, .param .u64 image, .param .u64 a)\n{\n"
      ".reg .pred %p<4>;\n.reg .b32 %r<20>;\n.reg .b32 %d<",
      sums,
      ">;\n.reg .b64 %rd<20>;\n"
      ".shared .align 1024 .b8 smem[",
      kImage, "];\n",
      R"(ld.param.u64 %rd1, [out];
ld.param.u64 %rd2, [image];
ld.param.u64 %rd3, [a];
mov.u32 %r1, %tid.x;
shl.b32 %r2, %r1, 2;
cvt.u64.u32 %rd4, %r2;
add.s64 %rd2, %rd2, %rd4;
mov.u32 %r3, 0;
COPY:
ld.global.u32 %r4, [%rd2];
st.shared.u32 [%r2], %r4;
add.s64 %rd2, %rd2, 512;
add.s32 %r2, %r2, 512;
add.s32 %r3, %r3, 1;
setp.lt.u32 %p1, %r3, )",
      kImage / 512,
      ";\n@%p1 bra COPY;\nfence.proxy.async;\nbar.sync 0;\n"
      "mad.wide.u32 %rd3, %r1, 16, %rd3;\nld.global.v4.u32 {%r8, %r9, %r10, %r11}, [%rd3];\n");
  for (int i = 0; i < sums; ++i) {
    text += StrCat("mov.b32 %d", i, ", ",
                   kind.integer_sums ? uint32_t{1}
                   : kind.half_sums  ? uint32_t{ToF16(1)} << 16 | ToF16(1)
                                     : std::bit_cast<uint32_t>(1.0f),
                   ";\n");
  }
  text += StrCat("setp.eq.u32 %p2, ", shape.accumulate ? 1 : 0, ", 1;\n", "mov.b64 %rd5, ",
                 shape.a != nullptr ? shape.a->descriptor : 0, ";\nmov.b64 %rd6, ",
                 shape.b->descriptor + (kBytesA >> 4), ";\nwgmma.fence.sync.aligned;\n",
                 "wgmma.mma_async.sync.aligned.m64n", n, "k", 32 / kind.element_bytes, ".",
                 kind.types, " {");
  for (int i = 0; i < sums; ++i) text += StrCat(i == 0 ? "" : ", ", "%d", i);
  text += StrCat("}, ", shape.a != nullptr ? "%rd5" : "{%r8, %r9, %r10, %r11}", ", %rd6, %p2");
  if (!kind.integer_sums) text += StrCat(", ", shape.scale_a, ", ", shape.scale_b);
  if (kind.element_bytes == 2) {
    if (shape.a != nullptr) text += StrCat(", ", shape.a->mn_major);
    text += StrCat(", ", shape.b->mn_major);
  }
  text += ";\nwgmma.commit_group.sync.aligned;\nwgmma.wait_group.sync.aligned 0;\n";
  text += StrCat("mad.wide.u32 %rd1, %r1, ", 4 * sums, ", %rd1;\n");
  for (int i = 0; i < sums; ++i) text += StrCat("st.global.u32 [%rd1+", 4 * i, "], %d", i, ";\n");
  return text + "ret;\n}\n";
}

float SumOf(const Kind& kind, const std::vector<uint32_t>& words, int thread, int value, int n) {
  if (kind.half_sums) {
    const uint32_t word = words[static_cast<size_t>(thread * n / 4 + value / 2)];
    return FromF16(static_cast<uint16_t>(word >> (value % 2 * 16)));
  }
  const uint32_t word = words[static_cast<size_t>(thread * n / 2 + value)];
  return kind.integer_sums ? static_cast<float>(static_cast<int32_t>(word))
                           : std::bit_cast<float>(word);
}

class WgmmaKinds : public Wgmma {
 protected:
  void Check(const Shape& shape) {
    const Kind& kind = GetParam();
    const bool is_unsigned = std::string_view(kind.types).ends_with("u8.u8");
    const int n = shape.b->rows;
    const Matrix a = Random(64, is_unsigned ? 0 : -3), b = Random(n, is_unsigned ? 0 : -3);
    std::vector<uint8_t> image(kImage), in_registers(128 * 16);
    Place(b, *shape.b, kBytesA, &image);
    if (shape.a != nullptr) Place(a, *shape.a, 0, &image);
    const auto& fragment = Cutlass().fragments.at(StrCat("a64x", k()));
    const int per_thread = 16 / kind.element_bytes;
    for (int i = 0; i < 128 * per_thread; ++i) {
      const int at = fragment[static_cast<size_t>(i)];
      PutElement(&in_registers, static_cast<size_t>(i * kind.element_bytes),
                 a[static_cast<size_t>(at % 64 * k() + at / 64)]);
    }
    Bench bench;
    const uint64_t out = bench.Reserve(128 * 4 * static_cast<uint64_t>(n / 2));
    std::vector<char> params;
    Put(&params, 0, out);
    Put(&params, 8, bench.Upload(image));
    Put(&params, 16, bench.Upload(in_registers));
    LaunchConfig config;
    config.block = {128, 1, 1};
    config.seed = ++seed_;
    const absl::Status status = bench.Run(KernelFor(kind, shape), config, params);
    ASSERT_TRUE(status.ok()) << status.ToString() << bench.AllFindings();
    ASSERT_TRUE(bench.findings.empty()) << bench.AllFindings();
    const auto words =
        bench.Download<uint32_t>(out, static_cast<size_t>(128 * n / (kind.half_sums ? 4 : 2)));
    const auto& sums = Cutlass().fragments.at("sum64x128");
    for (int thread = 0; thread < 128; ++thread) {
      for (int v = 0; v < n / 2; ++v) {
        const int at = sums[static_cast<size_t>(thread * 64 + v)], row = at % 64, column = at / 64;
        int expected = 0;
        for (int i = 0; i < k(); ++i) {
          expected +=
              a[static_cast<size_t>(row * k() + i)] * b[static_cast<size_t>(column * k() + i)];
        }
        expected = expected * shape.scale_a * shape.scale_b + (shape.accumulate ? 1 : 0);
        ASSERT_EQ(SumOf(kind, words, thread, v, n), static_cast<float>(expected))
            << "thread " << thread << " value " << v;
      }
    }
  }
  const CutlassOperand* Find(int mn_major, size_t nth) {
    for (const CutlassOperand& operand : Cutlass().operands) {
      if (operand.element_bytes != GetParam().element_bytes || operand.mn_major != mn_major)
        continue;
      if (nth-- == 0) return &operand;
    }
    return nullptr;
  }
  uint64_t seed_ = 0;
};

TEST_P(WgmmaKinds, MultipliesWithBInEveryLayout) {
  for (int mn = 0; mn < 2; ++mn) {
    for (size_t i = 0; const CutlassOperand* b = Find(mn, i); ++i) {
      Check({.a = Find(0, 3), .b = b});
      Check({.a = nullptr, .b = b});
    }
  }
}

TEST_P(WgmmaKinds, MultipliesWithAInEveryLayout) {
  for (int mn = 0; mn < 2; ++mn) {
    for (size_t i = 0; const CutlassOperand* a = Find(mn, i); ++i) {
      if (a->rows == 64) Check({.a = a, .b = Find(0, 0)});
    }
  }
}

TEST_P(WgmmaKinds, OverwritesAndNegates) {
  Check({.a = Find(0, 3), .b = Find(0, 3), .accumulate = false});
  if (GetParam().integer_sums) return;
  Check({.a = Find(0, 3), .b = Find(0, 3), .scale_a = -1});
  Check({.a = nullptr, .b = Find(0, 3), .scale_a = -1, .scale_b = -1});
}

INSTANTIATE_TEST_SUITE_P(, WgmmaKinds,
                         testing::Values(Kind{"bf16", "f32.bf16.bf16", 2, &Bf16},
                                         Kind{"f16", "f32.f16.f16", 2, &F16},
                                         Kind{"f16_sums", "f16.f16.f16", 2, &F16, true},
                                         Kind{"tf32", "f32.tf32.tf32", 4, &Tf32},
                                         Kind{"e4m3", "f32.e4m3.e4m3", 1, &E4m3},
                                         Kind{"e5m2", "f32.e5m2.e5m2", 1, &E5m2},
                                         Kind{"e4m3_f16_sums", "f16.e4m3.e4m3", 1, &E4m3, true},
                                         Kind{"s8", "s32.s8.s8", 1, &Integer, false, true},
                                         Kind{"u8", "s32.u8.u8", 1, &Integer, false, true}),
                         [](const auto& info) { return std::string(info.param.name); });

// ---- Rounding

TEST(MatrixUnit, FloatOrderLosesWhatOneSumLosesAndTruncationKeepsTwoBitsMore) {
  std::vector<float> a(16, 1.0f), b(16, 0x1p-25f);
  float c = 1;
  MultiplyAdd(MatrixRounding::kFloatOrder, {}, a.data(), b.data(), &c, 1, 1, 16);
  EXPECT_EQ(c, 1.0f);
  MultiplyAdd(MatrixRounding::kTruncate, {}, a.data(), b.data(), &c, 1, 1, 16);
  EXPECT_EQ(c, 1.0f + 0x1p-21f);
  // A bit lower it is lost, too; and the sum is rounded to zero.
  std::fill(b.begin(), b.end(), 0x1p-26f);
  c = 1;
  MultiplyAdd(MatrixRounding::kTruncate, {}, a.data(), b.data(), &c, 1, 1, 16);
  EXPECT_EQ(c, 1.0f);
  std::fill(b.begin(), b.end(), 0.0f);
  b[0] = 0x1.8p-24f;
  c = 1;
  MultiplyAdd(MatrixRounding::kTruncate, {}, a.data(), b.data(), &c, 1, 1, 16);
  EXPECT_EQ(c, 1.0f);
  // fp8 keeps 13 bits behind the largest exponent.
  b[0] = 0x1p-14f;
  MultiplyAdd(MatrixRounding::kTruncate, {.block = 32, .fraction_bits = 13}, a.data(), b.data(), &c,
              1, 1, 16);
  EXPECT_EQ(c, 1.0f);
}

}  // namespace
}  // namespace trireme::gpusim
