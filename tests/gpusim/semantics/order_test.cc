// What the checkers find, and what they must not.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/gpusim/semantics/machine.h"

namespace trireme::gpusim {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;

TEST(DefinednessTest, ARegisterThatWasNeverWrittenIsFoundOnlyWhereItIsUsed) {
  EXPECT_TRUE(RunPtx("add.u32 %r20, %r15, 1;", "r", {}).Found(FindingKind::kUninitializedRegister));
  EXPECT_THAT(RunPtx("mov.u32 %r16, %r15; mov.u32 %r20, 0;", "r", {}).findings, IsEmpty());
  EXPECT_TRUE(RunPtx("mov.u32 %r16, %r15; add.u32 %r20, %r16, 1;", "r", {})
                  .Found(FindingKind::kUninitializedRegister));
}

TEST(DefinednessTest, OneLaneWithoutAValueIsEnough) {
  const Result run =
      RunPtx("setp.ne.u32 %p1, %r30, 5; @%p1 mov.u32 %r15, 1; add.u32 %r20, %r15, 1;", "r", {},
             {.threads = 32});
  ASSERT_TRUE(run.Found(FindingKind::kUninitializedRegister));
  EXPECT_EQ(run.findings[0].lane, 5);
}

TEST(DefinednessTest, MemoryIsTrackedByTheByte) {
  EXPECT_TRUE(
      RunPtx("ld.shared.u32 %r20, [tile];", "r", {}).Found(FindingKind::kUninitializedShared));
  EXPECT_TRUE(RunPtx("st.shared.u8 [tile+1], %r10; ld.shared.u16 %h20, [tile];", "h", {})
                  .Found(FindingKind::kUninitializedShared));
  EXPECT_THAT(RunPtx("st.shared.u8 [tile], %r10; st.shared.u8 [tile+1], %r10;"
                     "ld.shared.u16 %h20, [tile];",
                     "h", {})
                  .findings,
              IsEmpty());
  EXPECT_TRUE(RunPtx("ld.global.u32 %r20, [%d4+8];", "r", {}, {.scratch_defined = false})
                  .Found(FindingKind::kUninitializedGlobal));
}

TEST(BoundsTest, AccessesStayWithinTheirAllocation) {
  Result run = RunPtx("st.shared.u32 [tile+4096], %r10; mov.u32 %r20, 0;", "r", {});
  EXPECT_TRUE(run.Found(FindingKind::kOutOfBounds));
  EXPECT_FALSE(run.status.ok());
  run = RunPtx("ld.global.u32 %r20, [%d4+4096];", "r", {});
  EXPECT_TRUE(run.Found(FindingKind::kOutOfBounds));
  EXPECT_THAT(run.AllFindings(), HasSubstr("allocation of 4096 bytes"));
  EXPECT_TRUE(RunPtx("ld.global.u32 %r20, [%d4+2];", "r", {}).Found(FindingKind::kMisaligned));
  EXPECT_TRUE(RunPtx("mov.u64 %d5, 64; ld.global.u32 %r20, [%d5];", "r", {})
                  .Found(FindingKind::kOutOfBounds));
}

TEST(UnknownTest, AnInstructionThatIsNotKnownIsNamed) {
  const Result run = RunPtx("frobnicate.u32 %r20, %r10;", "r", {});
  EXPECT_EQ(run.status.code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(std::string(run.status.message()), HasSubstr("frobnicate.u32"));
  EXPECT_THAT(std::string(run.status.message()), HasSubstr("kernel test"));
}

// Thread i writes word i, then reads word (i + shift) % threads.
std::string Exchange(std::string_view barrier, int shift, int threads) {
  return "shl.b32 %r1, %r30, 2; mov.u32 %r2, tile; add.u32 %r3, %r2, %r1; st.shared.u32 [%r3], "
         "%r30;" +
         std::string(barrier) + "add.u32 %r4, %r30, " + std::to_string(shift) +
         "; rem.u32 %r4, %r4, " + std::to_string(threads) +
         "; shl.b32 %r4, %r4, 2; add.u32 %r5, %r2, %r4; ld.shared.u32 %r20, [%r5];";
}

TEST(SharedOrderTest, LanesOfAWarpNeedAWarpBarrier) {
  for (uint64_t seed = 0; seed < 5; ++seed) {
    EXPECT_TRUE(RunPtx(Exchange("", 1, 32), "r", {}, {.threads = 32, .seed = seed})
                    .Found(FindingKind::kRaceShared));
    const Result right = RunPtx(Exchange("bar.warp.sync 0xffffffff;", 1, 32), "r", {},
                                {.threads = 32, .seed = seed});
    EXPECT_THAT(right.findings, IsEmpty());
    EXPECT_EQ(right.out[3], 4u);
  }
}

TEST(SharedOrderTest, WarpsNeedABarrierWhateverTheSchedule) {
  for (uint64_t seed = 0; seed < 10; ++seed) {
    EXPECT_TRUE(RunPtx(Exchange("bar.warp.sync 0xffffffff;", 32, 128), "r", {},
                       {.threads = 128, .seed = seed})
                    .Found(FindingKind::kRaceShared));
    EXPECT_THAT(
        RunPtx(Exchange("bar.sync 0;", 32, 128), "r", {}, {.threads = 128, .seed = seed}).findings,
        IsEmpty());
  }
}

TEST(SharedOrderTest, AtomicsOrderWithEachOther) {
  const Result run = RunPtx(R"(
    setp.eq.u32 %p1, %r30, 0;
    @%p1 st.shared.u32 [tile], %r10;
    bar.sync 0;
    atom.shared.add.u32 %r20, [tile], 1;
    bar.sync 0;
    ld.shared.u32 %r20, [tile];
  )",
                            "r", {}, {.threads = 96});
  EXPECT_THAT(run.findings, IsEmpty());
  EXPECT_EQ(run.out[50], 96u);
}

TEST(BarrierTest, AProducerArrivesAndAConsumerWaits) {
  // Warp 0 fills, warp 1 reads, warps 2 and 3 are not concerned.
  const Result run = RunPtx(R"(
    mov.u32 %r20, 0;
    shr.u32 %r1, %r30, 5;
    and.b32 %r2, %r30, 31;
    shl.b32 %r2, %r2, 2;
    mov.u32 %r3, tile;
    add.u32 %r3, %r3, %r2;
    setp.eq.u32 %p1, %r1, 0;
    setp.eq.u32 %p2, %r1, 1;
    @%p1 bra produce;
    @%p2 bra consume;
    bra done;
  produce:
    st.shared.u32 [%r3], %r30;
    bar.arrive 5, 64;
    bra done;
  consume:
    bar.sync 5, 64;
    ld.shared.u32 %r20, [%r3];
  done:
  )",
                            "r", {}, {.threads = 128});
  EXPECT_TRUE(run.status.ok());
  EXPECT_THAT(run.findings, IsEmpty());
  EXPECT_EQ(run.out[40], 8u);
}

TEST(BarrierTest, CountsThatDifferAreFound) {
  const Result run = RunPtx(R"(
    mov.u32 %r20, 0;
    setp.lt.u32 %p1, %r30, 32;
    @%p1 bra few;
    bar.sync 1, 96;
    bra done;
  few:
    bar.sync 1, 64;
  done:
  )",
                            "r", {}, {.threads = 96});
  EXPECT_TRUE(run.Found(FindingKind::kBarrierMisuse));
}

TEST(BarrierTest, ADeadlockTellsWhoWaitsForWhat) {
  const Result run = RunPtx(R"(
    mov.u32 %r20, 0;
    setp.lt.u32 %p1, %r30, 32;
    @%p1 bra second;
    bar.sync 1, 64;
    bra done;
  second:
    bar.sync 2, 64;
  done:
  )",
                            "r", {}, {.threads = 64});
  ASSERT_TRUE(run.Found(FindingKind::kDeadlock));
  EXPECT_THAT(run.AllFindings(), HasSubstr("barrier 1 (32 of 64 threads are there)"));
  EXPECT_THAT(run.AllFindings(), HasSubstr("barrier 2 (32 of 64 threads are there)"));
}

TEST(CopyTest, DataInFlightMustNotBeTouched) {
  constexpr char kCopy[] = "cp.async.ca.shared.global [tile], [%d4], 16; cp.async.commit_group;";
  EXPECT_TRUE(RunPtx(std::string(kCopy) + "ld.shared.u32 %r20, [tile];", "r", {})
                  .Found(FindingKind::kInFlight));
  EXPECT_THAT(
      RunPtx(std::string(kCopy) + "cp.async.wait_group 0; ld.shared.u32 %r20, [tile];", "r", {})
          .findings,
      IsEmpty());
  EXPECT_TRUE(
      RunPtx(std::string(kCopy) + "cp.async.wait_group 1; ld.shared.u32 %r20, [tile];", "r", {})
          .Found(FindingKind::kInFlight));
}

TEST(CopyTest, BytesThatAreNotReadAreZero) {
  const Result run = RunPtx(R"(
    st.global.u32 [%d4], 0x11223344;
    mov.u32 %r1, 2;
    cp.async.ca.shared.global [tile], [%d4], 4, %r1;
    cp.async.wait_all;
    ld.shared.u32 %r20, [tile];
  )",
                            "r", {});
  EXPECT_THAT(run.findings, IsEmpty());
  EXPECT_EQ(run.out[0], 0x3344u);
}

// ---- Global memory.

TEST(GlobalOrderTest, WarpsOfACtaNeedABarrier) {
  constexpr char kBefore[] =
      "mul.wide.u32 %d5, %r30, 4; add.u64 %d5, %d4, %d5; st.global.u32 [%d5], %r30;";
  constexpr char kAfter[] =
      "xor.b32 %r1, %r30, 32; mul.wide.u32 %d6, %r1, 4; add.u64 %d6, %d4, %d6;"
      "ld.global.u32 %r20, [%d6];";
  for (uint64_t seed = 0; seed < 5; ++seed) {
    EXPECT_TRUE(RunPtx(std::string(kBefore) + kAfter, "r", {}, {.threads = 64, .seed = seed})
                    .Found(FindingKind::kRaceGlobal));
    EXPECT_THAT(RunPtx(std::string(kBefore) + "bar.sync 0;" + kAfter, "r", {},
                       {.threads = 64, .seed = seed})
                    .findings,
                IsEmpty());
  }
}

// Each CTA stores, thread 0 counts it in; the last one reads what all have stored.
std::string LastCta(std::string_view release, std::string_view acquire) {
  return R"(
    mov.u32 %r20, 0;
    mov.u32 %r1, %ctaid.x;
    mov.u32 %r2, %tid.x;
    setp.ne.u32 %p1, %r2, 0;
    @%p1 bra done;
    mul.wide.u32 %d5, %r1, 4;
    add.u64 %d5, %d4, %d5;
    st.global.u32 [%d5+64], 5;
  )" + std::string(release) +
         R"(
    atom.global.add.u32 %r3, [%d4], 1;
    setp.ne.u32 %p2, %r3, 2;
    @%p2 bra done;
  )" + std::string(acquire) +
         R"(
    ld.global.u32 %r4, [%d4+64];
    ld.global.u32 %r5, [%d4+68];
    ld.global.u32 %r6, [%d4+72];
    add.u32 %r20, %r4, %r5;
    add.u32 %r20, %r20, %r6;
  done:
  )";
}

TEST(GlobalOrderTest, ACounterBehindAFenceOrdersCtas) {
  for (uint64_t seed = 0; seed < 5; ++seed) {
    const PtxLaunch setup{.threads = 32, .ctas = 3, .seed = seed};
    const Result right =
        RunPtx(LastCta("fence.acq_rel.gpu;", "fence.acq_rel.gpu;"), "r", {}, setup);
    EXPECT_THAT(right.AllFindings(), IsEmpty());
    EXPECT_EQ(right.out[0] + right.out[32] + right.out[64], 15u);
    EXPECT_TRUE(
        RunPtx(LastCta("", "fence.acq_rel.gpu;"), "r", {}, setup).Found(FindingKind::kRaceGlobal));
    EXPECT_TRUE(RunPtx(LastCta("membar.gl;", ""), "r", {}, setup).Found(FindingKind::kRaceGlobal));
  }
}

TEST(GlobalOrderTest, NeighbouringBytesAreNotShared) {
  const Result run = RunPtx(R"(
    cvt.u64.u32 %d5, %r30;
    add.u64 %d5, %d4, %d5;
    st.global.u8 [%d5], %r30;
    mov.u32 %r20, 0;
  )",
                            "r", {}, {.threads = 32, .ctas = 2});
  EXPECT_THAT(run.AllFindings(), IsEmpty());
}

}  // namespace
}  // namespace trireme::gpusim
