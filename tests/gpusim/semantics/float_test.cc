#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/gpusim/semantics/machine.h"

namespace trireme::gpusim {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
const float kNan = std::numeric_limits<float>::quiet_NaN();
const float kUlp = std::ldexp(1.0f, -23);
constexpr uint32_t kCanonicalNan = 0x7fffffff;

uint32_t Bits(float value) { return std::bit_cast<uint32_t>(value); }

TEST(FloatTest, EveryRoundingModeIsDirected) {
  const float tiny = std::ldexp(1.0f, -30);
  EXPECT_EQ(OneFloat("add.rn.f32 %r20, %r10, %r11;", 1, tiny), 1);
  EXPECT_EQ(OneFloat("add.rp.f32 %r20, %r10, %r11;", 1, tiny), 1 + kUlp);
  EXPECT_EQ(OneFloat("add.rm.f32 %r20, %r10, %r11;", 1, -tiny), 1 - kUlp / 2);
  EXPECT_EQ(OneFloat("add.rz.f32 %r20, %r10, %r11;", -1, -tiny), -1);
  EXPECT_EQ(OneFloat("mul.rz.f32 %r20, %r10, %r11;", 1 + kUlp, 1 + kUlp), 1 + 2 * kUlp);
  EXPECT_EQ(OneFloat("mul.rp.f32 %r20, %r10, %r11;", 1 + kUlp, 1 + kUlp), 1 + 3 * kUlp);
}

TEST(FloatTest, FmaRoundsOnce) {
  const float a = 1 + kUlp;
  EXPECT_EQ(OneFloat("fma.rn.f32 %r20, %r10, %r11, %r12;", a, a, -(1 + 2 * kUlp)), kUlp * kUlp);
}

TEST(FloatTest, SubnormalsAreFlushedOnlyWhereAsked) {
  const float tiny = std::ldexp(1.0f, -140);
  EXPECT_EQ(OneFloat("add.f32 %r20, %r10, %r11;", tiny, 0), tiny);
  EXPECT_EQ(OneFloat("add.ftz.f32 %r20, %r10, %r11;", tiny, 0), 0);
  EXPECT_EQ(Bits(OneFloat("mul.ftz.f32 %r20, %r10, %r11;", -tiny, 1)), 0x80000000u);
}

TEST(FloatTest, SaturationTurnsNanIntoZero) {
  EXPECT_EQ(OneFloat("add.sat.f32 %r20, %r10, %r11;", 3, 0), 1);
  EXPECT_EQ(OneFloat("add.sat.f32 %r20, %r10, %r11;", -3, 0), 0);
  EXPECT_EQ(OneFloat("add.sat.f32 %r20, %r10, %r11;", kNan, 0), 0);
}

TEST(FloatTest, NanResultsAreCanonical) {
  EXPECT_EQ(Bits(OneFloat("add.f32 %r20, %r10, %r11;", kInf, -kInf)), kCanonicalNan);
  EXPECT_EQ(One32("neg.f32 %r20, %r10;", 0x7f812345), 0xff812345u);
  EXPECT_EQ(One32("abs.f32 %r20, %r10;", 0xff812345), 0x7f812345u);
}

TEST(FloatTest, MinimumPrefersANumberUnlessAskedForNan) {
  EXPECT_EQ(OneFloat("min.f32 %r20, %r10, %r11;", kNan, 2), 2);
  EXPECT_EQ(Bits(OneFloat("min.NaN.f32 %r20, %r10, %r11;", kNan, 2)), kCanonicalNan);
  EXPECT_EQ(Bits(OneFloat("min.f32 %r20, %r10, %r11;", 0.0f, -0.0f)), 0x80000000u);
  EXPECT_EQ(Bits(OneFloat("max.f32 %r20, %r10, %r11;", -0.0f, 0.0f)), 0u);
}

TEST(FloatTest, SpecialFunctionsHaveTheirLimits) {
  EXPECT_EQ(OneFloat("ex2.approx.ftz.f32 %r20, %r10;", -kInf), 0);
  EXPECT_EQ(OneFloat("ex2.approx.ftz.f32 %r20, %r10;", 10), 1024);
  EXPECT_EQ(OneFloat("lg2.approx.f32 %r20, %r10;", 8), 3);
  EXPECT_EQ(OneFloat("lg2.approx.f32 %r20, %r10;", 0), -kInf);
  EXPECT_EQ(OneFloat("rcp.approx.ftz.f32 %r20, %r10;", -0.0f), -kInf);
  EXPECT_EQ(OneFloat("rsqrt.approx.f32 %r20, %r10;", 0.25f), 2);
  EXPECT_EQ(OneFloat("sqrt.rn.f32 %r20, %r10;", 2), std::sqrt(2.0f));
  EXPECT_EQ(OneFloat("div.rn.f32 %r20, %r10, %r11;", 1, 3), 1.0f / 3.0f);
}

TEST(FloatTest, UnorderedComparisonsHoldForNan) {
  const auto holds = [](std::string_view compare, float a, float b) {
    const std::string text =
        "setp." + std::string(compare) + ".f32 %p1, %r10, %r11; selp.b32 %r20, 1, 0, %p1;";
    return One32(text, Bits(a), Bits(b)) == 1;
  };
  EXPECT_FALSE(holds("eq", kNan, kNan));
  EXPECT_FALSE(holds("ne", kNan, 1));
  EXPECT_TRUE(holds("neu", kNan, 1));
  EXPECT_TRUE(holds("ltu", kNan, 1));
  EXPECT_FALSE(holds("lt", kNan, 1));
  EXPECT_TRUE(holds("num", 2, 1));
  EXPECT_TRUE(holds("nan", kNan, 1));
  EXPECT_TRUE(holds("eq", 0.0f, -0.0f));
}

TEST(FloatTest, DoublesAreDoubles) {
  const double a = 1 + std::ldexp(1.0, -52);
  EXPECT_EQ(std::bit_cast<double>(One("fma.rn.f64 %d20, %d10, %d10, %d11;", "d",
                                      {std::bit_cast<uint64_t>(a), std::bit_cast<uint64_t>(-1.0)})),
            std::fma(a, a, -1.0));
}

// 0x3c00: 1 in f16; 0x3f80: 1 in bf16.
TEST(HalfTest, ArithmeticRoundsToTheFormat) {
  EXPECT_EQ(One16("add.f16 %h20, %h10, %h11;", 0x3c00, 0x1000), 0x3c00);  // 1 + 2^-11: a tie
  EXPECT_EQ(One16("add.f16 %h20, %h10, %h11;", 0x3c01, 0x1000), 0x3c02);  // to even
  EXPECT_EQ(One16("fma.rn.bf16 %h20, %h10, %h11, %h12;", 0x3f80, 0x4000, 0x3f80), 0x4040);
  EXPECT_EQ(One16("fma.rn.relu.f16 %h20, %h10, %h11, %h12;", 0x3c00, 0xbc00, 0), 0);
  EXPECT_EQ(One32("add.f16x2 %r20, %r10, %r11;", 0x3c003c00, 0x3c000000), 0x40003c00u);
  EXPECT_EQ(One32("fma.rn.bf16x2 %r20, %r10, %r11, %r12;", 0x3f803f80, 0x40003f80, 0x00003f80),
            0x40004000u);
  EXPECT_EQ(One16("add.f16 %h20, %h10, %h11;", 0x7bff, 0x7bff), 0x7c00);  // overflow: infinity
}

TEST(ConvertTest, FloatsBecomeHalvesByRoundingToEven) {
  const auto to_f16 = [](float value) {
    return One("cvt.rn.f16.f32 %h20, %r10;", "h", {Bits(value), 0, 0});
  };
  EXPECT_EQ(to_f16(1 + std::ldexp(1.0f, -11)), 0x3c00u);
  EXPECT_EQ(to_f16(1 + 3 * std::ldexp(1.0f, -11)), 0x3c02u);
  EXPECT_EQ(to_f16(65520), 0x7c00u);
  EXPECT_EQ(to_f16(kNan), 0x7fffu);
  EXPECT_EQ(to_f16(std::ldexp(1.0f, -24)), 1u);
  // The first source is the upper half.
  EXPECT_EQ(One32("cvt.rn.bf16x2.f32 %r20, %r10, %r11;", Bits(1), Bits(2)), 0x3f804000u);
  EXPECT_EQ(One32("cvt.rn.relu.bf16x2.f32 %r20, %r10, %r11;", Bits(-1), Bits(2)), 0x00004000u);
  EXPECT_EQ(One("cvt.rz.bf16.f32 %h20, %r10;", "h", {0x3f80ffff, 0, 0}), 0x3f80u);
}

TEST(ConvertTest, IntegersOutOfRangeAreTheNearest) {
  EXPECT_EQ(One32("cvt.rzi.s32.f32 %r20, %r10;", Bits(-2.9f)), static_cast<uint32_t>(-2));
  EXPECT_EQ(One32("cvt.rni.s32.f32 %r20, %r10;", Bits(2.5f)), 2u);
  EXPECT_EQ(One32("cvt.rpi.s32.f32 %r20, %r10;", Bits(2.1f)), 3u);
  EXPECT_EQ(One32("cvt.rmi.s32.f32 %r20, %r10;", Bits(-2.1f)), static_cast<uint32_t>(-3));
  EXPECT_EQ(One32("cvt.rzi.s32.f32 %r20, %r10;", Bits(3e9f)), 0x7fffffffu);
  EXPECT_EQ(One32("cvt.rzi.u32.f32 %r20, %r10;", Bits(-1)), 0u);
  EXPECT_EQ(One32("cvt.rzi.s32.f32 %r20, %r10;", Bits(kNan)), 0u);
}

TEST(ConvertTest, IntegersAreExtendedSaturatedAndRoundedOnce) {
  EXPECT_EQ(One32("cvt.s32.s8 %r20, %r10;", 0x80), 0xffffff80u);
  EXPECT_EQ(One32("cvt.u32.u8 %r20, %r10;", 0x1ff), 0xffu);
  EXPECT_EQ(One32("cvt.sat.s8.s32 %r20, %r10;", 300), 127u);
  EXPECT_EQ(One32("cvt.sat.u8.s32 %r20, %r10;", static_cast<uint32_t>(-5)), 0u);
  EXPECT_EQ(One("cvt.s64.s32 %d20, %r10;", "d", {0xffffffff, 0, 0}), ~uint64_t{0});
  EXPECT_EQ(One32("cvt.rn.f32.s32 %r20, %r10;", 16777217), Bits(16777216));
  EXPECT_EQ(One32("cvt.rp.f32.u32 %r20, %r10;", 16777217), Bits(16777218));
  EXPECT_EQ(One32("cvt.rni.f32.f32 %r20, %r10;", Bits(3.5f)), Bits(4));
}

}  // namespace
}  // namespace trireme::gpusim
