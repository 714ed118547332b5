#include <gtest/gtest.h>

#include "tests/gpusim/semantics/machine.h"

namespace trireme::gpusim {
namespace {

TEST(IntegerTest, AdditionWrapsAndSaturatesWhereAsked) {
  EXPECT_EQ(One32("add.u32 %r20, %r10, %r11;", 0xffffffff, 2), 1u);
  EXPECT_EQ(One32("add.sat.s32 %r20, %r10, %r11;", 0x7fffffff, 1), 0x7fffffffu);
  EXPECT_EQ(One32("sub.sat.s32 %r20, %r10, %r11;", 0x80000000, 1), 0x80000000u);
  EXPECT_EQ(One("sub.s64 %d20, %d10, %d11;", "d", {0, 1, 0}), ~uint64_t{0});
  EXPECT_EQ(One16("add.u16 %h20, %h10, %h11;", 0xffff, 3), 2);
}

TEST(IntegerTest, ProductsHaveLowHighAndWideForms) {
  EXPECT_EQ(One32("mul.lo.s32 %r20, %r10, %r11;", 0xffffffff, 5), 0xfffffffbu);
  EXPECT_EQ(One32("mul.hi.u32 %r20, %r10, %r11;", 0xffffffff, 0xffffffff), 0xfffffffeu);
  EXPECT_EQ(One32("mul.hi.s32 %r20, %r10, %r11;", 0xffffffff, 5), 0xffffffffu);
  EXPECT_EQ(One("mul.hi.u64 %d20, %d10, %d11;", "d", {~uint64_t{0}, 3, 0}), 2u);
  EXPECT_EQ(One("mul.wide.s32 %d20, %r10, %r11;", "d", {0xffffffff, 7, 0}),
            static_cast<uint64_t>(-7));
  EXPECT_EQ(One32("mul.wide.u16 %r20, %h10, %h11;", 0xffff, 0xffff), 0xfffe0001u);
  EXPECT_EQ(One("mad.wide.u32 %d20, %r10, %r11, %d12;", "d", {0xffffffff, 2, 5}), 0x200000003u);
  EXPECT_EQ(One32("mad.lo.s32 %r20, %r10, %r11, %r12;", 3, 4, 0xffffffff), 11u);
}

TEST(IntegerTest, CarriesPassFromWordToWord) {
  constexpr char kAdd[] = "add.cc.u32 %r1, %r10, %r11; addc.u32 %r20, %r12, 0;";
  EXPECT_EQ(One32(kAdd, 0xffffffff, 1, 7), 8u);
  EXPECT_EQ(One32(kAdd, 0xfffffffe, 1, 7), 7u);
  EXPECT_EQ(One32("sub.cc.u32 %r1, %r10, %r11; subc.u32 %r20, %r12, 0;", 0, 1, 7), 6u);
  EXPECT_EQ(One32("mad.lo.cc.u32 %r1, %r10, %r11, 1; madc.hi.u32 %r20, %r10, %r11, %r12;",
                  0xffffffff, 0x00000001, 5),
            6u);
  EXPECT_TRUE(
      RunPtx("addc.u32 %r20, %r10, 0;", "r", {}).Found(FindingKind::kUninitializedRegister));
}

TEST(IntegerTest, DivisionRoundsTowardZero) {
  EXPECT_EQ(One32("div.s32 %r20, %r10, %r11;", static_cast<uint32_t>(-7), 2),
            static_cast<uint32_t>(-3));
  EXPECT_EQ(One32("rem.s32 %r20, %r10, %r11;", static_cast<uint32_t>(-7), 2),
            static_cast<uint32_t>(-1));
  EXPECT_EQ(One32("div.u32 %r20, %r10, %r11;", 0xfffffff9, 2), 0x7ffffffcu);
  EXPECT_EQ(One32("div.s32 %r20, %r10, %r11;", 0x80000000, 0xffffffff), 0x80000000u);
}

TEST(IntegerTest, ShiftsAreClampedAtTheWidth) {
  EXPECT_EQ(One32("shl.b32 %r20, %r10, %r11;", 1, 31), 0x80000000u);
  EXPECT_EQ(One32("shl.b32 %r20, %r10, %r11;", 1, 32), 0u);
  EXPECT_EQ(One32("shr.u32 %r20, %r10, %r11;", 0x80000000, 100), 0u);
  EXPECT_EQ(One32("shr.s32 %r20, %r10, %r11;", 0x80000000, 100), 0xffffffffu);
  EXPECT_EQ(One32("shr.s32 %r20, %r10, %r11;", 0x80000000, 4), 0xf8000000u);
  EXPECT_EQ(One("shl.b64 %d20, %d10, %r11;", "d", {1, 64, 0}), 0u);
  EXPECT_EQ(One16("shr.s16 %h20, %h10, 15;", 0x8000), 0xffff);
}

TEST(IntegerTest, FunnelShiftsWrapOrClampTheirAmount) {
  // {b, a}: a is the lower half.
  EXPECT_EQ(One32("shf.l.wrap.b32 %r20, %r10, %r11, %r12;", 0x80000000, 0x1, 1), 3u);
  EXPECT_EQ(One32("shf.l.wrap.b32 %r20, %r10, %r11, %r12;", 0x80000000, 0x1, 33), 3u);
  EXPECT_EQ(One32("shf.l.clamp.b32 %r20, %r10, %r11, %r12;", 0x12345678, 0x1, 40), 0x12345678u);
  EXPECT_EQ(One32("shf.r.wrap.b32 %r20, %r10, %r11, %r12;", 0x2, 0x1, 1), 0x80000001u);
  EXPECT_EQ(One32("shf.r.clamp.b32 %r20, %r10, %r11, %r12;", 0x2, 0xabcd, 32), 0xabcdu);
}

TEST(IntegerTest, FieldsAreExtractedWithTheirSign) {
  EXPECT_EQ(One32("bfe.u32 %r20, %r10, %r11, %r12;", 0x12345678, 8, 8), 0x56u);
  EXPECT_EQ(One32("bfe.s32 %r20, %r10, %r11, %r12;", 0x00008000, 8, 8), 0xffffff80u);
  EXPECT_EQ(One32("bfe.s32 %r20, %r10, %r11, %r12;", 0x80000000, 28, 16), 0xfffffff8u);
  EXPECT_EQ(One32("bfe.u32 %r20, %r10, %r11, %r12;", 0xffffffff, 4, 0), 0u);
  EXPECT_EQ(One32("bfe.s32 %r20, %r10, %r11, %r12;", 0x80000000, 40, 4), 0xffffffffu);
  EXPECT_EQ(One32("bfi.b32 %r20, %r10, %r11, 8, 4;", 0xff, 0x1000), 0x1f00u);
  EXPECT_EQ(One32("bfi.b32 %r20, %r10, %r11, 0, 32;", 0xabcdef01, 0x1000), 0xabcdef01u);
}

TEST(IntegerTest, BytesArePermutedAndSignsReplicated) {
  EXPECT_EQ(One32("prmt.b32 %r20, %r10, %r11, 0x5410;", 0x33221100, 0x77665544), 0x55441100u);
  EXPECT_EQ(One32("prmt.b32 %r20, %r10, %r11, 0x0123;", 0x33221100, 0), 0x00112233u);
  EXPECT_EQ(One32("prmt.b32 %r20, %r10, %r11, 0x000b;", 0x80000000, 0), 0xffu);
}

TEST(IntegerTest, AnyFunctionOfThreeBitsIsATable) {
  const uint32_t a = 0xf0f0f0f0, b = 0xcccccccc, c = 0xaaaaaaaa;
  EXPECT_EQ(One32("lop3.b32 %r20, %r10, %r11, %r12, 0x80;", a, b, c), a & b & c);
  EXPECT_EQ(One32("lop3.b32 %r20, %r10, %r11, %r12, 0x96;", a, b, c), a ^ b ^ c);
  EXPECT_EQ(One32("lop3.b32 %r20, %r10, %r11, %r12, 0xea;", a, b, c), (a & b) | c);
  EXPECT_EQ(One32("lop3.b32 %r20, %r10, %r11, %r12, 0x3c;", a, b, c), a ^ b);
}

TEST(IntegerTest, BitsAreCountedAndFound) {
  EXPECT_EQ(One32("popc.b32 %r20, %r10;", 0xf0f0f0f1), 17u);
  EXPECT_EQ(One("popc.b64 %r20, %d10;", "r", {~uint64_t{0}, 0, 0}), 64u);
  EXPECT_EQ(One32("clz.b32 %r20, %r10;", 0), 32u);
  EXPECT_EQ(One32("bfind.u32 %r20, %r10;", 0), 0xffffffffu);
  EXPECT_EQ(One32("bfind.s32 %r20, %r10;", 0xffffff00), 7u);
  EXPECT_EQ(One32("bfind.shiftamt.u32 %r20, %r10;", 0x10), 27u);
  EXPECT_EQ(One32("brev.b32 %r20, %r10;", 0x00000003), 0xc0000000u);
}

TEST(IntegerTest, SignDecidesOrder) {
  EXPECT_EQ(One32("min.s32 %r20, %r10, %r11;", 0xffffffff, 1), 0xffffffffu);
  EXPECT_EQ(One32("min.u32 %r20, %r10, %r11;", 0xffffffff, 1), 1u);
  EXPECT_EQ(One32("abs.s32 %r20, %r10;", 0x80000000), 0x80000000u);
  EXPECT_EQ(One32("neg.s32 %r20, %r10;", 5), 0xfffffffbu);
}

TEST(IntegerTest, ComparisonsCombineWithAPredicate) {
  constexpr char kBoth[] =
      "setp.ne.u32 %p1, %r12, 0; setp.lt.and.s32 %p2, %r10, %r11, %p1; selp.b32 %r20, 1, 0, %p2;";
  EXPECT_EQ(One32(kBoth, 0xffffffff, 0, 1), 1u);
  EXPECT_EQ(One32(kBoth, 0xffffffff, 0, 0), 0u);
  EXPECT_EQ(One32("setp.lo.u32 %p1, %r10, %r11; selp.b32 %r20, 1, 0, %p1;", 0xffffffff, 0), 0u);
  EXPECT_EQ(One32("setp.eq.s32 %p1|%p2, %r10, %r11; selp.b32 %r20, 1, 0, %p2;", 4, 4), 0u);
}

TEST(IntegerTest, RegistersArePackedLowHalfFirst) {
  EXPECT_EQ(One32("mov.b32 %r20, {%h10, %h11};", 0x1111, 0x2222), 0x22221111u);
  EXPECT_EQ(One16("mov.b32 {%h19, %h20}, %r10; ", 0, 0), 0u);
  EXPECT_EQ(One("mov.b64 %d20, {%r11, %r10};", "d", {1, 2, 0}), 0x100000002u);
}

}  // namespace
}  // namespace trireme::gpusim
