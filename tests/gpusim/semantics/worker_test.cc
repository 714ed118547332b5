// A launch's CTAs run on two threads: results, findings and counters do not show it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "tests/gpusim/semantics/machine.h"

namespace trireme::gpusim {
namespace {

using testing::IsEmpty;
using testing::Not;

// Through shared memory, a barrier and global memory: each thread reads what its CTA's neighbour
// has written.
constexpr char kExchange[] = R"(
  mov.u32 %r1, %tid.x;
  shl.b32 %r2, %r1, 2;
  mov.u32 %r3, tile;
  add.u32 %r4, %r3, %r2;
  st.shared.u32 [%r4], %r30;
  bar.sync 0;
  xor.b32 %r5, %r2, 128;
  add.u32 %r5, %r3, %r5;
  ld.shared.u32 %r6, [%r5];
  mul.wide.u32 %d5, %r1, 4;
  add.u64 %d5, %d4, %d5;
  ld.global.u32 %r7, [%d5];
  add.u32 %r20, %r6, %r7;
)";

TEST(WorkerTest, WhatAClusterDoesDoesNotDependOnTheNumberOfThreads) {
  for (uint64_t seed = 0; seed < 8; ++seed) {
    PtxLaunch setup{.threads = 64, .ctas = 9, .seed = seed, .workers = 1};
    const Result one = RunPtx(kExchange, "r", {}, setup);
    setup.workers = 2;
    const Result two = RunPtx(kExchange, "r", {}, setup);
    EXPECT_THAT(one.findings, IsEmpty());
    EXPECT_THAT(two.findings, IsEmpty());
    EXPECT_EQ(one.out, two.out);
    EXPECT_EQ(one.out[65], 97u);
    EXPECT_EQ(one.counters.instructions, two.counters.instructions);
    EXPECT_EQ(one.counters.global_sectors, two.counters.global_sectors);
    EXPECT_EQ(one.counters.shared_waves, two.counters.shared_waves);
  }
}

TEST(WorkerTest, TheSameFindingsOnOneThreadAndOnTwo) {
  std::string no_barrier(kExchange);
  no_barrier.erase(no_barrier.find("bar.sync 0;"), 11);
  const auto found = [&](int workers) {
    std::set<std::pair<FindingKind, uint32_t>> places;
    const Result run = RunPtx(no_barrier, "r", {}, {.threads = 64, .ctas = 9, .workers = workers});
    for (const Finding& finding : run.findings) places.emplace(finding.kind, finding.ptx_line);
    return places;
  };
  EXPECT_THAT(found(1), Not(IsEmpty()));
  EXPECT_EQ(found(1), found(2));
}

// Which number a CTA draws depends on who comes first.
constexpr char kTicket[] = "atom.global.add.u32 %r20, [%d4], 1;";

TEST(WorkerTest, OneThreadRepeatsARunExactly) {
  bool differs = false;
  const PtxLaunch first{.threads = 32, .ctas = 12, .seed = 1, .workers = 1};
  const Result expected = RunPtx(kTicket, "r", {}, first);
  for (uint64_t seed = 1; seed < 6; ++seed) {
    PtxLaunch setup = first;
    setup.seed = seed;
    const Result run = RunPtx(kTicket, "r", {}, setup);
    EXPECT_EQ(run.out, RunPtx(kTicket, "r", {}, setup).out) << seed;
    differs |= run.out != expected.out;
  }
  EXPECT_TRUE(differs);
}

TEST(WorkerTest, AtomicsOfBothThreadsAddUp) {
  constexpr int kThreads = 64, kCtas = 64;
  std::string many;
  for (int i = 0; i < 16; ++i) many += kTicket;
  const Result run = RunPtx(many, "r", {}, {.threads = kThreads, .ctas = kCtas});
  EXPECT_THAT(run.findings, IsEmpty());
  // The last number that was drawn: nobody lost one.
  EXPECT_EQ(*std::max_element(run.out.begin(), run.out.end()), 16u * kThreads * kCtas - 1);
}

TEST(WorkerTest, ARaceBetweenCtasIsFoundWhoeverRunsThem) {
  // Every CTA writes the same word, or reads it; ordered by nothing.
  constexpr char kRace[] = R"(
    mov.u32 %r1, %ctaid.x;
    and.b32 %r1, %r1, 1;
    setp.eq.u32 %p1, %r1, 0;
    mov.u32 %r20, 0;
    @%p1 st.global.v4.u32 [%d4], {%r1, %r1, %r1, %r1};
    @!%p1 ld.global.v4.u32 {%r20, %r2, %r3, %r4}, [%d4];
  )";
  for (uint64_t seed = 0; seed < 8; ++seed) {
    for (const int workers : {1, 2}) {
      EXPECT_TRUE(RunPtx(kRace, "r", {}, {.ctas = 4, .seed = seed, .workers = workers})
                      .Found(FindingKind::kRaceGlobal));
    }
  }
}

TEST(WorkerTest, CtasOfACooperativeLaunchWaitForEachOther) {
  // A barrier of the grid: all count in, then read until all have.
  constexpr char kGridBarrier[] = R"(
    mov.u32 %r1, %ctaid.x;
    mov.u32 %r9, %nctaid.x;
    mul.wide.u32 %d5, %r1, 4;
    add.u64 %d5, %d4, %d5;
    st.global.u32 [%d5+64], %r1;
    fence.acq_rel.gpu;
    red.global.add.u32 [%d4], 1;
  wait:
    ld.relaxed.gpu.global.u32 %r2, [%d4];
    setp.lt.u32 %p1, %r2, %r9;
    @%p1 bra wait;
    fence.acq_rel.gpu;
    sub.u32 %r3, %r9, %r1;
    sub.u32 %r3, %r3, 1;
    mul.wide.u32 %d6, %r3, 4;
    add.u64 %d6, %d4, %d6;
    ld.global.u32 %r20, [%d6+64];
  )";
  for (uint64_t seed = 0; seed < 4; ++seed) {
    for (const int workers : {1, 2}) {
      const Result run =
          RunPtx(kGridBarrier, "r", {},
                 {.ctas = 7, .seed = seed, .workers = workers, .all_resident = true});
      EXPECT_THAT(run.findings, IsEmpty());
      EXPECT_EQ(run.out, (std::vector<uint64_t>{6, 5, 4, 3, 2, 1, 0}));
    }
  }
}

TEST(WorkerTest, ADeadlockOfOneClusterEndsTheLaunch) {
  // The two warps of one CTA wait at different barriers.
  constexpr char kStuck[] = R"(
    mov.u32 %r20, 0;
    mov.u32 %r1, %ctaid.x;
    mov.u32 %r2, %tid.x;
    setp.ne.u32 %p1, %r1, 3;
    @%p1 bra done;
    setp.lt.u32 %p2, %r2, 32;
    @%p2 bra second;
    bar.sync 1, 64;
    bra done;
  second:
    bar.sync 2, 64;
  done:
  )";
  for (const int workers : {1, 2}) {
    const Result run = RunPtx(kStuck, "r", {}, {.threads = 64, .ctas = 8, .workers = workers});
    EXPECT_TRUE(run.Found(FindingKind::kDeadlock));
    EXPECT_FALSE(run.status.ok());
  }
}

}  // namespace
}  // namespace trireme::gpusim
