#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/gpusim/semantics/machine.h"

namespace trireme::gpusim {
namespace {

using testing::IsEmpty;

std::vector<Inputs> Lanes(uint64_t (*value)(int lane)) {
  std::vector<Inputs> inputs(32);
  for (int lane = 0; lane < 32; ++lane) inputs[static_cast<size_t>(lane)][0] = value(lane);
  return inputs;
}
std::vector<uint64_t> Warp32(std::string_view body, uint64_t (*value)(int lane)) {
  const Result run = RunPtx(body, "r", Lanes(value), {.threads = 32});
  EXPECT_TRUE(run.status.ok()) << run.status.ToString();
  EXPECT_THAT(run.findings, IsEmpty());
  return run.out;
}
uint64_t Tens(int lane) { return static_cast<uint64_t>(10 * lane); }

TEST(ShuffleTest, EachModeTakesFromItsLane) {
  auto out = Warp32("shfl.sync.up.b32 %r20, %r10, 1, 0, 0xffffffff;", &Tens);
  EXPECT_EQ(out[0], 0u);
  EXPECT_EQ(out[5], 40u);
  out = Warp32("shfl.sync.down.b32 %r20, %r10, 2, 31, 0xffffffff;", &Tens);
  EXPECT_EQ(out[5], 70u);
  EXPECT_EQ(out[31], 310u);
  out = Warp32("shfl.sync.bfly.b32 %r20, %r10, 16, 31, 0xffffffff;", &Tens);
  EXPECT_EQ(out[3], 190u);
  out = Warp32("shfl.sync.idx.b32 %r20, %r10, 7, 31, 0xffffffff;", &Tens);
  EXPECT_EQ(out[20], 70u);
}

TEST(ShuffleTest, SegmentsAreKeptApart) {
  // Segments of 8: mask 0x18 in bits 8-12, clamp 31.
  auto out = Warp32(
      "shfl.sync.down.b32 %r20|%p1, %r10, 1, 0x181f, 0xffffffff;"
      "selp.b32 %r21, 1000, 0, %p1; add.u32 %r20, %r20, %r21;",
      &Tens);
  EXPECT_EQ(out[6], 1070u);
  EXPECT_EQ(out[7], 70u);  // out of its segment: its own value
  out = Warp32("shfl.sync.idx.b32 %r20, %r10, 1, 0x181f, 0xffffffff;", &Tens);
  EXPECT_EQ(out[12], 90u);
}

TEST(VoteTest, BallotsAndPredicatesCountTheMembers) {
  constexpr char kBallot[] =
      "setp.ge.u32 %p1, %r10, 100; vote.sync.ballot.b32 %r20, %p1, 0xffffffff;";
  EXPECT_EQ(Warp32(kBallot, &Tens)[0], 0xfffffc00u);
  constexpr char kAll[] =
      "setp.ge.u32 %p1, %r10, 100; vote.sync.all.pred %p2, %p1, 0xffffffff;"
      "vote.sync.any.pred %p3, %p1, 0xffffffff; vote.sync.any.pred %p4, !%p1, 0xffffffff;"
      "selp.b32 %r20, 1, 0, %p2; selp.b32 %r21, 2, 0, %p3; selp.b32 %r22, 4, 0, %p4;"
      "or.b32 %r20, %r20, %r21; or.b32 %r20, %r20, %r22;";
  EXPECT_EQ(Warp32(kAll, &Tens)[4], 6u);
}

TEST(MatchTest, EqualValuesFindEachOther) {
  const auto third = [](int lane) { return static_cast<uint64_t>(lane % 3); };
  const auto out = Warp32("match.any.sync.b32 %r20, %r10, 0xffffffff;", third);
  EXPECT_EQ(out[0], 0x49249249u);
  EXPECT_EQ(out[1], 0x92492492u);
  EXPECT_EQ(Warp32("match.all.sync.b32 %r20|%p1, %r10, 0xffffffff;", third)[0], 0u);
}

TEST(ReduceTest, AllMembersGetTheResult) {
  EXPECT_EQ(Warp32("redux.sync.add.u32 %r20, %r10, 0xffffffff;", &Tens)[9], 4960u);
  EXPECT_EQ(Warp32("redux.sync.max.u32 %r20, %r10, 0xffffffff;", &Tens)[9], 310u);
  EXPECT_EQ(Warp32("redux.sync.min.s32 %r20, %r10, 0xffffffff;",
                   [](int lane) { return static_cast<uint64_t>(-lane); })[0] &
                0xffffffff,
            0xffffffe1u);
}

TEST(DivergenceTest, LanesComeTogetherAgain) {
  // Each lane loops as often as its number, then all shuffle.
  const auto out = Warp32(R"(
    mov.u32 %r1, 0;
    mov.u32 %r2, 0;
  loop:
    setp.ge.u32 %p1, %r1, %r30;
    @%p1 bra done;
    add.u32 %r2, %r2, 3;
    add.u32 %r1, %r1, 1;
    bra loop;
  done:
    shfl.sync.bfly.b32 %r20, %r2, 1, 31, 0xffffffff;
  )",
                          &Tens);
  EXPECT_EQ(out[0], 3u);
  EXPECT_EQ(out[31], 90u);
}

// A warp that may run one operation, and tries a split that waits, has others that can go on.
TEST(DivergenceTest, ALaneThatWaitsForTheOthersIsNoDeadlock) {
  const char* body =
      "setp.lt.u32 %p1, %r30, 7; @%p1 bra WAIT;"
      "mov.u32 %r15, 0;"
      "LOOP: add.u32 %r15, %r15, 1; setp.lt.u32 %p2, %r15, 40; @%p2 bra LOOP;"
      "WAIT: bar.sync 0; mov.u32 %r20, %r30;";
  for (uint64_t seed = 1; seed <= 2000; ++seed) {
    const Result run = RunPtx(body, "r", {}, {.threads = 32, .seed = seed});
    ASSERT_TRUE(run.status.ok() && run.findings.empty()) << seed;
  }
}

TEST(DivergenceTest, ASpinningLaneDoesNotStarveTheOneItWaitsFor) {
  const Result run = RunPtx(R"(
    setp.ne.u32 %p1, %r30, 0;
    @%p1 bra signal;
  wait:
    atom.global.or.b32 %r1, [%d4], 0;
    setp.eq.u32 %p2, %r1, 0;
    @%p2 bra wait;
    bra done;
  signal:
    atom.global.or.b32 %r1, [%d4], 1;
  done:
    mov.u32 %r20, 7;
  )",
                            "r", {}, {.threads = 32});
  EXPECT_TRUE(run.status.ok());
  EXPECT_EQ(run.out[0], 7u);
}

TEST(DivergenceTest, AMaskThatNamesAnAbsentLaneIsFound) {
  const Result left_out =
      RunPtx("shfl.sync.bfly.b32 %r20, %r10, 1, 31, 0x7fffffff;", "r", {}, {.threads = 32});
  EXPECT_TRUE(left_out.Found(FindingKind::kDivergence));
  const Result never_comes = RunPtx(R"(
    setp.eq.u32 %p1, %r30, 3;
    @%p1 bra never;
    shfl.sync.bfly.b32 %r20, %r10, 1, 31, 0xffffffff;
    bra done;
  never:
    bar.warp.sync 0xffffffff;
    mov.u32 %r20, 0;
  done:
  )",
                                    "r", {}, {.threads = 32});
  EXPECT_TRUE(never_comes.Found(FindingKind::kDeadlock));
}

// Rows of 8 16-bit elements: element (row, column) of matrix m holds 64 m + 8 row + column.
constexpr char kFillTile[] = R"(
    shl.b32 %r1, %r30, 4;
    mov.u32 %r2, tile;
    add.u32 %r3, %r2, %r1;
    shl.b32 %r4, %r30, 3;
    add.u32 %r5, %r4, 1; shl.b32 %r5, %r5, 16; or.b32 %r5, %r5, %r4;
    add.u32 %r6, %r5, 0x20002; add.u32 %r7, %r5, 0x40004; add.u32 %r8, %r5, 0x60006;
    st.shared.v4.b32 [%r3], {%r5, %r6, %r7, %r8};
    bar.warp.sync 0xffffffff;
)";

TEST(MatrixTest, LdmatrixGivesEachLaneItsPairOfElements) {
  const std::string load =
      std::string(kFillTile) +
      "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r11, %r12, %r13, %r14}, [%r3];"
      "mov.b32 %r20, %r13;";
  const auto out = Warp32(load, &Tens);
  // Matrix 2; lane 6: row 1, columns 4 and 5.
  EXPECT_EQ(out[6], (128u + 8 + 5) << 16 | (128 + 8 + 4));
  const std::string transposed =
      std::string(kFillTile) +
      "ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%r11, %r12}, [%r3]; mov.b32 %r20, %r12;";
  // Matrix 1; lane 6: element (1, 4) of the transposed one is (4, 1).
  EXPECT_EQ(Warp32(transposed, &Tens)[6], (64u + 8 * 5 + 1) << 16 | (64 + 8 * 4 + 1));
}

TEST(MatrixTest, MmaMultipliesItsFragments) {
  // A: 16x16 with ones in column 3 only, B: row 3 holds the column's number, C = 100.
  // bf16: 1 = 0x3f80. Lane l holds A(l / 4, 2 (l % 4) ...): column 3 is the upper half of lane % 4
  // == 1.
  const auto out = Warp32(R"(
    and.b32 %r1, %r30, 3;
    shr.u32 %r2, %r30, 2;
    setp.eq.u32 %p1, %r1, 1;
    selp.b32 %r3, 0x3f800000, 0, %p1;
    mov.u32 %r4, 0;
    cvt.rn.f32.u32 %r5, %r2;
    and.b32 %r6, %r5, 0xffff0000;
    selp.b32 %r6, %r6, 0, %p1;
    mov.u32 %r7, 0x42c80000;
    mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%r21, %r22, %r23, %r24},
      {%r3, %r3, %r4, %r4}, {%r6, %r4}, {%r7, %r7, %r7, %r7};
    cvt.rzi.u32.f32 %r20, %r24;
  )",
                          &Tens);
  for (int lane = 0; lane < 32; ++lane) {
    EXPECT_EQ(out[static_cast<size_t>(lane)], 100u + static_cast<uint64_t>(lane % 4 * 2 + 1));
  }
}

}  // namespace
}  // namespace trireme::gpusim
