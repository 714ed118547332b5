// mma.sync, ldmatrix and stmatrix against CUTLASS's layouts: fragments are filled as
// vm_test/cutlass_layouts.txt says, sums are compared with plain arithmetic. Nothing of the
// simulator itself says what is right here. And what else moves matrices.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <bit>
#include <fstream>
#include <functional>
#include <map>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "tests/gpusim/semantics/machine.h"

namespace trireme::gpusim {
namespace {

constexpr int kLanes = 32, kM = 16, kN = 8;

// What cutlass_layouts.txt says: "fragment mma16x2a", by lane and value the element, columns first;
// "rows ldmatrix", by lane and 16-bit value the element of shared memory, as 8 row + column.
std::vector<int> Layout(const std::string& name) {
  static const auto kAll = [] {
    std::map<std::string, std::vector<int>> all;
    std::ifstream file(TRIREME_SOURCE_DIR "/tests/gpusim/vm_test/cutlass_layouts.txt");
    for (std::string line; std::getline(file, line);) {
      std::istringstream words(line);
      std::string kind, key;
      words >> kind >> key;
      if (kind != "fragment" && kind != "rows") continue;
      for (int at; words >> at;) all[kind + " " + key].push_back(at);
    }
    return all;
  }();
  const auto found = kAll.find(name);
  EXPECT_NE(found, kAll.end()) << name;
  return found != kAll.end() ? found->second : std::vector<int>();
}
std::vector<int> Fragment(const std::string& name) { return Layout("fragment " + name); }

struct Form {
  std::string name;  // "m16n8k8.row.col.f32.tf32.tf32.f32"
  std::string layout;
  int k, bytes;                                     // of an element
  std::function<uint32_t(int)> encode_a, encode_b;  // a small number
  bool is_signed_a = true, is_signed_b = true;
};

// -2 to 4 in each format, written out: not by the conversions that are under test.
uint32_t Of(const std::array<uint32_t, 5>& magnitudes, uint32_t sign, int v) {
  return magnitudes[static_cast<size_t>(v < 0 ? -v : v)] | (v < 0 ? sign : 0);
}
uint32_t Bf16(int v) { return Of({0, 0x3f80, 0x4000, 0x4040, 0x4080}, 0x8000, v); }
uint32_t F16(int v) { return Of({0, 0x3c00, 0x4000, 0x4200, 0x4400}, 0x8000, v); }
uint32_t Tf32(int v) { return Bf16(v) << 16 | 0x1000; }  // its lowest bits are ignored
uint32_t Byte(int v) { return static_cast<uint8_t>(v); }
uint32_t E4m3(int v) { return Of({0, 0x38, 0x40, 0x44, 0x48}, 0x80, v); }
uint32_t E5m2(int v) { return Of({0, 0x3c, 0x40, 0x42, 0x44}, 0x80, v); }

// The registers of each lane, in 64-bit inputs.
std::vector<std::vector<uint64_t>> Pack(const std::vector<int>& fragment,
                                        const std::vector<int>& values, int bytes,
                                        const std::function<uint32_t(int)>& encode) {
  std::vector<std::vector<uint64_t>> lanes(kLanes);
  const size_t each = fragment.size() / kLanes;
  for (size_t lane = 0; lane < kLanes; ++lane) {
    lanes[lane].resize((each * static_cast<size_t>(bytes) + 7) / 8);
    for (size_t v = 0; v < each; ++v) {
      const auto at = static_cast<size_t>(fragment[lane * each + v]);
      const size_t bit = 8 * v * static_cast<size_t>(bytes);
      lanes[lane][bit / 64] |= uint64_t{encode(values[at])} << bit % 64;
    }
  }
  return lanes;
}

class MmaTest : public testing::TestWithParam<Form> {};

TEST_P(MmaTest, FragmentsLieWhereCutlassSays) {
  const Form& form = GetParam();
  std::mt19937 random(7);
  const auto small = [&](size_t n, bool is_signed) {
    std::vector<int> values(n);
    for (int& value : values) value = static_cast<int>(random() % 5) - (is_signed ? 2 : 0);
    return values;
  };
  const auto k = static_cast<size_t>(form.k);
  const auto a = small(kM * k, form.is_signed_a), b = small(kN * k, form.is_signed_b);
  const auto in_a = Pack(Fragment(form.layout + "a"), a, form.bytes, form.encode_a);
  const auto in_b = Pack(Fragment(form.layout + "b"), b, form.bytes, form.encode_b);
  std::vector<Inputs> inputs(kLanes);
  for (size_t lane = 0; lane < kLanes; ++lane) {
    inputs[lane] = {in_a[lane][0], in_a[lane].size() > 1 ? in_a[lane][1] : 0, in_b[lane][0]};
  }
  const size_t registers_a = kM * k * static_cast<size_t>(form.bytes) / 128,
               registers_b = registers_a / 2;
  const bool integer = form.name.find("s32") != std::string::npos;
  const std::string body =
      "mov.b64 {%r1, %r2}, %d10; mov.b64 {%r3, %r4}, %d11; mov.b64 {%r5, %r6}, %d12; mov.b32 "
      "%r7, " +
      std::string(integer ? "100" : "0f42C80000") + ";\n" + "mma.sync.aligned." + form.name +
      " {%r21, %r22, %r23, %r24}, " +
      (registers_a == 4   ? "{%r1, %r2, %r3, %r4}, {%r5, %r6}"
       : registers_b == 1 ? "{%r1, %r2}, {%r5}"
                          : "{}") +
      ", {%r7, %r7, %r7, %r7};\n";
  const auto c = Fragment(form.layout + "c");
  for (int half = 0; half < 2; ++half) {
    const Result run =
        RunPtx(body + (half == 0 ? "mov.b64 %d20, {%r21, %r22};" : "mov.b64 %d20, {%r23, %r24};"),
               "d", inputs, {.threads = kLanes});
    ASSERT_TRUE(run.status.ok()) << run.status;
    ASSERT_TRUE(run.findings.empty()) << run.findings[0].ToString();
    EXPECT_EQ(run.counters.mma, 1u);
    for (size_t lane = 0; lane < kLanes; ++lane) {
      for (size_t v = 0; v < 2; ++v) {
        const int at = c[lane * 4 + 2 * static_cast<size_t>(half) + v];
        const int row = at % kM, column = at / kM;
        int sum = 100;
        for (int i = 0; i < form.k; ++i) {
          sum += a[static_cast<size_t>(row + kM * i)] * b[static_cast<size_t>(column + kN * i)];
        }
        const auto bits = static_cast<uint32_t>(run.out[lane] >> 32 * v);
        EXPECT_EQ(integer ? static_cast<int>(bits) : static_cast<int>(std::bit_cast<float>(bits)),
                  sum)
            << "row " << row << ", column " << column;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    Forms, MmaTest,
    testing::Values(Form{"m16n8k16.row.col.f32.bf16.bf16.f32", "mma16x2", 16, 2, &Bf16, &Bf16},
                    Form{"m16n8k8.row.col.f32.bf16.bf16.f32", "mma8x2", 8, 2, &Bf16, &Bf16},
                    Form{"m16n8k16.row.col.f32.f16.f16.f32", "mma16x2", 16, 2, &F16, &F16},
                    Form{"m16n8k8.row.col.f32.tf32.tf32.f32", "mma8x4", 8, 4, &Tf32, &Tf32},
                    Form{"m16n8k4.row.col.f32.tf32.tf32.f32", "mma4x4", 4, 4, &Tf32, &Tf32},
                    Form{"m16n8k32.row.col.s32.s8.s8.s32", "mma32x1", 32, 1, &Byte, &Byte},
                    Form{"m16n8k32.row.col.s32.u8.s8.s32", "mma32x1", 32, 1, &Byte, &Byte, false,
                         true},
                    Form{"m16n8k32.row.col.satfinite.s32.s8.u8.s32", "mma32x1", 32, 1, &Byte, &Byte,
                         true, false},
                    Form{"m16n8k16.row.col.s32.s8.s8.s32", "mma16x1", 16, 1, &Byte, &Byte},
                    Form{"m16n8k32.row.col.f32.e4m3.e4m3.f32", "mma32x1", 32, 1, &E4m3, &E4m3},
                    Form{"m16n8k32.row.col.f32.e5m2.e4m3.f32", "mma32x1", 32, 1, &E5m2, &E4m3}),
    [](const auto& info) {
      std::string name = info.param.name;
      for (char& c : name) c = c == '.' ? '_' : c;
      return name;
    });

TEST(MmaIntegerTest, SumsWrapOrSaturate) {
  const auto run = [](std::string_view satfinite) {
    std::vector<Inputs> inputs(kLanes,
                               {0x0101010101010101, 0x0101010101010101, 0x0101010101010101});
    return RunPtx(
               "mov.b64 {%r1, %r2}, %d10; mov.b64 {%r3, %r4}, %d11; mov.b64 {%r5, %r6}, %d12;"
               "mov.u32 %r7, 0x7fffffff;"
               "mma.sync.aligned.m16n8k32.row.col" +
                   std::string(satfinite) +
                   ".s32.s8.s8.s32 {%r20, %r21, %r22, %r23}, {%r1, %r2, %r3, %r4}, {%r5, %r6}, "
                   "{%r7, %r7, %r7, %r7};",
               "r", inputs, {.threads = kLanes})
        .out[5];
  };
  EXPECT_EQ(run(""), 0x8000001fu);
  EXPECT_EQ(run(".satfinite"), 0x7fffffffu);
}

// Row r of four 8x8 matrices is at the address of lane r; element (r, c) is 8 r + c.
class MatrixRowsTest : public testing::TestWithParam<bool> {  // transposed
 protected:
  const std::string trans_ = GetParam() ? ".trans" : "";
  const std::string row_address_ =
      "mov.u32 %r2, tile; shl.b32 %r3, %r30, 4; add.u32 %r2, %r2, %r3;";
};

TEST_P(MatrixRowsTest, LdmatrixTakesFromWhereCutlassSays) {
  const auto expected = Layout("rows ldmatrix" + trans_);
  ASSERT_EQ(expected.size(), 8u * kLanes);
  const std::string load = row_address_ + R"(
    shl.b32 %r4, %r30, 3;
    mad.lo.u32 %r4, %r4, 0x10001, 0x10000;
    add.u32 %r5, %r4, 0x20002;
    add.u32 %r6, %r4, 0x40004;
    add.u32 %r7, %r4, 0x60006;
    st.shared.v4.u32 [%r2], {%r4, %r5, %r6, %r7};
    bar.warp.sync 0xffffffff;
    ldmatrix.sync.aligned.m8n8.x4)" +
                           trans_ + ".shared.b16 {%r11, %r12, %r13, %r14}, [%r2];";
  for (size_t half = 0; half < 2; ++half) {
    const Result run =
        RunPtx(load + (half == 0 ? "mov.b64 %d20, {%r11, %r12};" : "mov.b64 %d20, {%r13, %r14};"),
               "d", {}, {.threads = kLanes});
    ASSERT_THAT(run.AllFindings(), testing::IsEmpty());
    for (size_t i = 0; i < 4u * kLanes; ++i) {
      const size_t lane = i / 4, value = i % 4;
      EXPECT_EQ(static_cast<int>(run.out[lane] >> 16 * value & 0xffff),
                expected[lane * 8 + 4 * half + value])
          << "lane " << lane << ", value " << 4 * half + value;
    }
  }
}

TEST_P(MatrixRowsTest, StmatrixPutsWhereCutlassSays) {
  // Each value is the number of the element that it belongs into.
  const auto expected = Layout("rows stmatrix" + trans_);
  ASSERT_EQ(expected.size(), 8u * kLanes);
  std::vector<Inputs> inputs(kLanes);
  for (size_t i = 0; i < expected.size(); ++i) {
    inputs[i / 8][i % 8 / 4] |= static_cast<uint64_t>(expected[i]) << 16 * (i % 4);
  }
  const std::string store = row_address_ + R"(
    mov.b64 {%r11, %r12}, %d10;
    mov.b64 {%r13, %r14}, %d11;
    stmatrix.sync.aligned.m8n8.x4)" +
                            trans_ + R"(.shared.b16 [%r2], {%r11, %r12, %r13, %r14};
    bar.warp.sync 0xffffffff;
  )";
  for (size_t half = 0; half < 2; ++half) {
    const Result run =
        RunPtx(store + (half == 0 ? "ld.shared.u64 %d20, [%r2];" : "ld.shared.u64 %d20, [%r2+8];"),
               "d", inputs, {.threads = kLanes});
    ASSERT_THAT(run.AllFindings(), testing::IsEmpty());
    for (size_t i = 0; i < 4u * kLanes; ++i) {
      const size_t row = i / 4, column = 4 * half + i % 4;
      EXPECT_EQ(run.out[row] >> 16 * (i % 4) & 0xffff, 8 * row + column);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(, MatrixRowsTest, testing::Bool(), [](const auto& info) {
  return std::string(info.param ? "Transposed" : "Plain");
});

TEST(MoveMatrixTest, TheMatrixIsTransposed) {
  // Element (row, column) is 8 row + column.
  std::vector<Inputs> inputs;
  for (uint64_t lane = 0; lane < kLanes; ++lane) {
    const uint64_t first = lane / 4 * 8 + lane % 4 * 2;
    inputs.push_back({(first + 1) << 16 | first});
  }
  const Result run =
      RunPtx("movmatrix.sync.aligned.m8n8.trans.b16 %r20, %r10;", "r", inputs, {.threads = kLanes});
  for (uint64_t lane = 0; lane < kLanes; ++lane) {
    const uint64_t row = lane / 4, column = lane % 4 * 2;
    EXPECT_EQ(run.out[lane], (8 * (column + 1) + row) << 16 | (8 * column + row));
  }
}

TEST(ConvertFp8Test, EveryNumberComesBack) {
  for (const std::string type : {"e4m3x2", "e5m2x2"}) {
    const std::string body =
        "cvt.rn.f16x2." + type + " %r1, %h10; cvt.rn.satfinite." + type + ".f16x2 %h20, %r1;";
    for (uint32_t byte = 0; byte < 256; ++byte) {
      const bool e4m3 = type == "e4m3x2";
      const uint32_t magnitude = byte & 0x7f;
      const bool nan = e4m3 ? magnitude == 0x7f : magnitude > 0x7c;
      const bool infinite = !e4m3 && magnitude == 0x7c;
      const uint32_t expected = nan ? 0x7f : infinite ? byte - 1 : byte;
      EXPECT_EQ(One16(body, static_cast<uint16_t>(byte << 8 | 0x38)), expected << 8 | 0x38) << byte;
    }
  }
}

TEST(ConvertFp8Test, FloatsAreRoundedToNearestEvenAndSaturate) {
  const auto e4m3 = [](float high, float low) {
    return One("cvt.rn.satfinite.e4m3x2.f32 %h20, %r10, %r11;", "h",
               {std::bit_cast<uint32_t>(high), std::bit_cast<uint32_t>(low)});
  };
  EXPECT_EQ(e4m3(1, 2), 0x3840u);
  EXPECT_EQ(e4m3(1.0625f, 1.1875f), 0x383au);       // halfway: 1 and 1.25
  EXPECT_EQ(e4m3(1.9375f, 464), 0x407eu);           // up into the next exponent; beyond 448
  EXPECT_EQ(e4m3(-1e30f, 0.0009765625f), 0xfe00u);  // 2^-10 is half of the smallest: to even
  EXPECT_EQ(e4m3(0.001f, -0.0f), 0x0180u);
  const auto relu = One("cvt.rn.satfinite.relu.e5m2x2.f32 %h20, %r10, %r11;", "h",
                        {std::bit_cast<uint32_t>(-3.0f), std::bit_cast<uint32_t>(1e9f)});
  EXPECT_EQ(relu, 0x007bu);
}

// ---- bar.red

TEST(BarrierReductionTest, ThreadsOfAllWarpsAreCounted) {
  std::vector<Inputs> inputs;
  for (uint64_t thread = 0; thread < 96; ++thread) inputs.push_back({thread});
  const auto run = [&](std::string_view body) {
    const Result result = RunPtx(body, "r", inputs, {.threads = 96});
    EXPECT_TRUE(result.status.ok()) << result.status;
    EXPECT_TRUE(result.findings.empty());
    return result.out;
  };
  const auto counts = run(R"(
    setp.lt.u32 %p1, %r10, 40;
    barrier.cta.red.popc.aligned.u32 %r20, 0, %p1;
    bar.red.popc.u32 %r1, 0, !%p1;
    mad.lo.u32 %r20, %r1, 1000, %r20;)");
  EXPECT_THAT(counts, testing::Each(56040u));
  const auto both = run(R"(
    setp.lt.u32 %p1, %r10, 40;
    setp.lt.u32 %p2, %r10, 96;
    bar.red.and.pred %p3, 0, %p1;
    bar.red.and.pred %p4, 0, %p2;
    bar.red.or.pred %p5, 0, %p1;
    bar.red.or.pred %p6, 0, !%p2;
    selp.b32 %r1, 1, 0, %p3; selp.b32 %r2, 2, 0, %p4; selp.b32 %r3, 4, 0, %p5;
    selp.b32 %r4, 8, 0, %p6;
    add.u32 %r20, %r1, %r2; add.u32 %r20, %r20, %r3; add.u32 %r20, %r20, %r4;)");
  EXPECT_THAT(both, testing::Each(6u));
}

}  // namespace
}  // namespace trireme::gpusim
