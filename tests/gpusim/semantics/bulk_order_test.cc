// Order between bulk copies and what else touches global memory: what is found, and what is not.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runtime/base/strings.h"
#include "tests/gpusim/semantics/machine.h"

namespace trireme::gpusim {
namespace {

using testing::IsEmpty;

constexpr int kCtas = 3;
constexpr char kWait[] = "cp.async.bulk.wait_group 0;",
               kWaitRead[] = "cp.async.bulk.wait_group.read 0;";
constexpr char kProxy[] = "fence.proxy.async;", kFence[] = "fence.acq_rel.gpu;";

// Thread 0 goes on alone, with an mbarrier in `tile`; %d5: 16 bytes of the CTA's own.
std::string Thread0(std::string_view body) {
  return StrCat(R"(
    mov.u32 %r20, 0;
    mov.u32 %r1, %ctaid.x;
    mov.u32 %r2, %tid.x;
    mul.wide.u32 %d5, %r1, 16;
    add.u64 %d5, %d4, %d5;
    add.u64 %d5, %d5, 64;
    setp.ne.u32 %p1, %r2, 0;
    @%p1 bra done;
    mbarrier.init.shared.b64 [tile], 1;
    fence.mbarrier_init.release.cluster;
  )",
                body, "\ndone:\n");
}

// Fills 16 bytes of shared memory with `value`, for a copy.
std::string Fill(int value) {
  return StrCat("mov.u32 %r3, ", value, R"(;
    st.shared.v4.u32 [tile+256], {%r3, %r3, %r3, %r3};
    fence.proxy.async.shared::cta;
  )");
}
constexpr char kStore[] =
    "cp.async.bulk.global.shared::cta.bulk_group [%d5], [tile+256], 16;"
    "cp.async.bulk.commit_group;";
// All CTAs add to the same 16 bytes.
constexpr char kReduce[] =
    "cp.reduce.async.bulk.global.shared::cta.bulk_group.add.u32 [%d4+64], [tile+256], 16;"
    "cp.async.bulk.commit_group;";
constexpr char kReduceOwn[] =
    "cp.reduce.async.bulk.global.shared::cta.bulk_group.add.u32 [%d5], [tile+256], 16;"
    "cp.async.bulk.commit_group;";
constexpr char kPlainStore[] = "mov.u32 %r3, 5; st.global.v4.u32 [%d5], {%r3, %r3, %r3, %r3};";

// 48 bytes from %d4 + 64 to tile + 64.
constexpr char kStartLoad[] = R"(
    mbarrier.arrive.expect_tx.shared.b64 _, [tile], 48;
    cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [tile+64], [%d4+64], 48, [tile];
)";
constexpr char kEndLoad[] = R"(
  wait:
    mbarrier.try_wait.parity.shared.b64 %p3, [tile], 0;
    @!%p3 bra wait;
)";
std::string LoadAndSum() {
  return StrCat(kStartLoad, kEndLoad, R"(
    ld.shared.u32 %r4, [tile+64];
    ld.shared.u32 %r5, [tile+80];
    ld.shared.u32 %r6, [tile+96];
    add.u32 %r20, %r4, %r5;
    add.u32 %r20, %r20, %r6;
  )");
}
constexpr char kReadAndSum[] = R"(
    ld.global.u32 %r4, [%d4+64];
    ld.global.u32 %r5, [%d4+80];
    ld.global.u32 %r6, [%d4+96];
    add.u32 %r20, %r4, %r5;
    add.u32 %r20, %r20, %r6;
)";

// Each CTA produces and counts itself in; the last one consumes what all have produced.
std::string LastCta(std::string_view produce, std::string_view release, std::string_view acquire,
                    std::string_view consume) {
  return Thread0(StrCat(produce, release, R"(
    atom.global.add.u32 %r3, [%d4], 1;
    setp.ne.u32 %p2, %r3, 2;
    @%p2 bra done;
  )",
                        acquire, consume));
}

void ExpectClean(const std::string& body, PtxLaunch setup, uint32_t sum) {
  for (setup.seed = 0; setup.seed < 8; ++setup.seed) {
    const Result run = RunPtx(body, "r", {}, setup);
    ASSERT_TRUE(run.status.ok()) << run.status;
    ASSERT_THAT(run.AllFindings(), IsEmpty());
    uint64_t total = 0;
    for (const uint64_t out : run.out) total += out;
    EXPECT_EQ(total, sum);
  }
}
// Whatever the schedule.
void ExpectFound(const std::string& body, PtxLaunch setup, FindingKind kind) {
  for (setup.seed = 0; setup.seed < 8; ++setup.seed) {
    const Result run = RunPtx(body, "r", {}, setup);
    EXPECT_TRUE(run.Found(kind)) << run.status << run.AllFindings();
  }
}
const PtxLaunch kThreeCtas{.threads = 32, .ctas = kCtas}, kTwoWarps{.threads = 64};

TEST(BulkLoadOrderTest, WhatOtherCtasWroteNeedsReleaseAcquireAndAProxyFenceOnEitherSide) {
  const std::string load = LoadAndSum(), both = StrCat(kProxy, kFence),
                    reversed = StrCat(kFence, kProxy);
  ExpectClean(LastCta(kPlainStore, both, kFence, load), kThreeCtas, 15);
  ExpectClean(LastCta(kPlainStore, kFence, reversed, load), kThreeCtas, 15);
  ExpectClean(LastCta(kPlainStore, "fence.proxy.async.global; fence.acq_rel.gpu;", kFence, load),
              kThreeCtas, 15);
  ExpectFound(LastCta(kPlainStore, kFence, kFence, load), kThreeCtas,
              FindingKind::kMissingProxyFence);
  ExpectFound(LastCta(kPlainStore, kProxy, kFence, load), kThreeCtas, FindingKind::kRaceGlobal);
  ExpectFound(LastCta(kPlainStore, both, "", load), kThreeCtas, FindingKind::kRaceGlobal);
}

TEST(BulkLoadOrderTest, AFenceForSharedMemoryIsNotOneForGlobalMemory) {
  ExpectFound(LastCta(kPlainStore, kFence, "fence.acq_rel.gpu; fence.proxy.async.shared::cta;",
                      LoadAndSum()),
              kThreeCtas, FindingKind::kMissingProxyFence);
}

TEST(BulkLoadOrderTest, TheFenceMustStandBehindTheWriteItIsFor) {
  ExpectFound(LastCta(StrCat(kProxy, kPlainStore), kFence, kFence, LoadAndSum()), kThreeCtas,
              FindingKind::kMissingProxyFence);
}

TEST(BulkLoadOrderTest, ItsSourceIsFreeOnceItsPhaseWasWaitedFor) {
  constexpr char kOverwrite[] = "st.global.u32 [%d4+64], 7;";
  ExpectClean(Thread0(StrCat(kStartLoad, kEndLoad, kOverwrite)), {.threads = 32}, 0);
  ExpectFound(Thread0(StrCat(kStartLoad, kOverwrite, kEndLoad)), {.threads = 32},
              FindingKind::kRaceGlobal);
  // The same by another warp.
  constexpr char kOther[] = R"(
    setp.ne.u32 %p4, %r2, 32;
    @%p4 bra end;
    st.global.u32 [%d4+64], 7;
  end:
  )";
  const std::string load = Thread0(StrCat(kStartLoad, kEndLoad));
  ExpectClean(StrCat(load, "bar.sync 0;", kOther), kTwoWarps, 0);
  ExpectFound(StrCat(load, kOther), kTwoWarps, FindingKind::kRaceGlobal);
}

TEST(BulkStoreOrderTest, OthersSeeItBehindWaitGroupWithoutRead) {
  const std::string fill = Fill(5);
  for (const std::string& consume : {std::string(kReadAndSum), LoadAndSum()}) {
    ExpectClean(LastCta(StrCat(fill, kStore, kWait), kFence, kFence, consume), kThreeCtas, 15);
    ExpectFound(LastCta(StrCat(fill, kStore, kWaitRead), kFence, kFence, consume), kThreeCtas,
                FindingKind::kRaceGlobal);
    ExpectFound(LastCta(StrCat(fill, kStore, kWait), "", kFence, consume), kThreeCtas,
                FindingKind::kRaceGlobal);
  }
  // Waiting too late is no better.
  ExpectFound(LastCta(StrCat(fill, kStore, kWaitRead), kFence, StrCat(kWait, kFence), kReadAndSum),
              kThreeCtas, FindingKind::kRaceGlobal);
}

TEST(BulkStoreOrderTest, TheLaneThatStartedItHasToWaitToo) {
  const auto then = [](std::string_view wait, std::string_view next) {
    return Thread0(StrCat(Fill(5), kStore, wait, next, kWait));
  };
  constexpr char kRead[] = "ld.global.u32 %r20, [%d5];";
  ExpectClean(then(kWait, kRead), {.threads = 32}, 5);
  ExpectFound(then(kWaitRead, kRead), {.threads = 32}, FindingKind::kRaceGlobal);
  ExpectClean(then(kWait, kStore), {.threads = 32}, 0);
  ExpectFound(then(kWaitRead, kStore), {.threads = 32}, FindingKind::kRaceGlobal);
  // The newest group may still be under way.
  ExpectFound(then("cp.async.bulk.wait_group 1;", StrCat(kRead, kWait)), {.threads = 32},
              FindingKind::kRaceGlobal);
}

TEST(BulkStoreOrderTest, TwoCtasThatStoreToOnePlaceRace) {
  const std::string same = StrCat(Fill(5), "add.u64 %d5, %d4, 64;", kStore, kWait);
  ExpectFound(Thread0(same), kThreeCtas, FindingKind::kRaceGlobal);
}

TEST(BulkReduceOrderTest, ReductionsOfAllCtasOrderWithEachOtherAndWithAtomics) {
  const std::string add = StrCat(Fill(5), kReduce);
  constexpr char kReadSum[] = "ld.global.u32 %r20, [%d4+68];";
  ExpectClean(LastCta(StrCat(add, kWait), kFence, kFence, kReadSum), kThreeCtas, 15);
  ExpectClean(
      LastCta(StrCat(add, "red.global.add.u32 [%d4+68], 2;", kWait), kFence, kFence, kReadSum),
      kThreeCtas, 21);
  ExpectFound(LastCta(StrCat(add, kWaitRead), kFence, kFence, kReadSum), kThreeCtas,
              FindingKind::kRaceGlobal);
  // Each to its own place: of several writers of one, the last is remembered.
  const std::string own = StrCat(Fill(5), kReduceOwn, kWait);
  ExpectClean(LastCta(own, kFence, kFence, kReadAndSum), kThreeCtas, 15);
  ExpectFound(LastCta(own, kFence, "", kReadAndSum), kThreeCtas, FindingKind::kRaceGlobal);
}

TEST(BulkReduceOrderTest, WhatItAddsToIsFencedIfItWasStored) {
  constexpr char kClear[] = "mov.u32 %r3, 1; st.global.v4.u32 [%d4+64], {%r3, %r3, %r3, %r3};";
  const std::string add = StrCat(Fill(5), kReduce, kWait, "ld.global.u32 %r20, [%d4+64];");
  ExpectClean(Thread0(StrCat(kClear, kProxy, add)), {.threads = 32}, 6);
  ExpectFound(Thread0(StrCat(kClear, add)), {.threads = 32}, FindingKind::kMissingProxyFence);
}

// ---- Within a cluster, clocks decide.

constexpr char kClusterBarrier[] = "barrier.cluster.arrive; barrier.cluster.wait;";
const PtxLaunch kPair{.threads = 1, .ctas = 2, .cluster = 2};

TEST(BulkClusterOrderTest, TheClusterBarrierIsEnoughWithTheProxyFence) {
  const auto body = [](std::string_view fence, std::string_view barrier) {
    return Thread0(StrCat(kPlainStore, fence, barrier, R"(
      setp.eq.u32 %p2, %r1, 0;
      @%p2 bra done;
    )",
                          LoadAndSum()));
  };
  ExpectClean(body(kProxy, kClusterBarrier), kPair, 10);
  ExpectClean(body("", StrCat(kClusterBarrier, kProxy)), kPair, 10);
  ExpectFound(body("", kClusterBarrier), kPair, FindingKind::kMissingProxyFence);
  ExpectFound(body(kProxy, ""), kPair, FindingKind::kRaceGlobal);
}

TEST(BulkClusterOrderTest, AMulticastReadsUntilEveryCtaHasItsBytes) {
  const auto body = [](std::string_view barrier) {
    return Thread0(StrCat("mbarrier.arrive.expect_tx.shared.b64 _, [tile], 48;", kClusterBarrier,
                          R"(
      mov.u16 %h1, 3;
      setp.ne.u32 %p2, %r1, 0;
      @%p2 bra wait;
      cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster
          [tile+64], [%d4+64], 48, [tile], %h1;
    )",
                          kEndLoad, barrier, R"(
      @%p2 bra rest;
      st.global.u32 [%d4+64], 7;
    rest:
    )",
                          kClusterBarrier));
  };
  ExpectClean(body(kClusterBarrier), kPair, 0);
  // Of two readers the last one is remembered.
  bool found = false;
  for (uint64_t seed = 0; seed < 32; ++seed) {
    PtxLaunch setup = kPair;
    setup.seed = seed;
    found |= RunPtx(body(""), "r", {}, setup).Found(FindingKind::kRaceGlobal);
  }
  EXPECT_TRUE(found);
}

}  // namespace
}  // namespace trireme::gpusim
