// What lanes do side by side is checked by rows of 128 bytes (vm/row.h), everything else by blocks
// and words. Both have to see the same: each program here runs at addresses that rows begin at, and
// 16 bytes behind them, where there are no rows.
#include <gtest/gtest.h>

#include <random>

#include "runtime/base/strings.h"
#include "tests/gpusim/semantics/machine.h"

namespace trireme::gpusim {
namespace {

constexpr int kWarps = 4;

// Four warps, or as many CTAs of one. %r1: the lane, %r2: the warp's or CTA's number.
struct Memory {
  std::string_view space, setup, barrier;
  PtxLaunch launch;
};
const Memory kMemories[] = {
    {"shared",
     "mov.u32 %r4, tile; cvt.u64.u32 %d5, %r4; mov.u32 %r2, %tid.x; shr.b32 %r2, %r2, 5;",
     "bar.sync 0;",
     {.threads = 32 * kWarps, .workers = 1}},
    {"global",
     "mov.u64 %d5, %d4; mov.u32 %r2, %tid.x; shr.b32 %r2, %r2, 5;",
     "bar.sync 0;",
     {.threads = 32 * kWarps, .workers = 1, .scratch_defined = false}},
    // Nothing orders these.
    {"global",
     "mov.u64 %d5, %d4; mov.u32 %r2, %ctaid.x;",
     "",
     {.threads = 32, .ctas = kWarps, .workers = 1}},
};

std::string Head(const Memory& memory, int displacement) {
  return StrCat("mov.u32 %r1, %tid.x; and.b32 %r1, %r1, 31; mov.u32 %r20, 0; mov.u32 %r9, 7;",
                memory.setup, "add.u64 %d5, %d5, ", displacement, ";");
}

// An access by warp `warp` (negative: by all), lane i's `stride` * i behind `offset`, by lanes
// below `lanes`.
struct Access {
  bool store;
  int words, warp, offset, stride, lanes;
  int swizzle = 0;  // exclusive or of the lane before it is multiplied
  int beyond = 0;   // from each eighth lane to the next, beside
};

std::string TextOf(const Memory& memory, const Access& a) {
  std::string text =
      StrCat("xor.b32 %r5, %r1, ", a.swizzle, "; mul.lo.u32 %r5, %r5, ", a.stride,
             "; shr.b32 %r6, %r1, 3; mad.lo.u32 %r5, %r6, ", a.beyond, ", %r5; add.u32 %r5, %r5, ",
             a.offset, "; cvt.u64.u32 %d6, %r5; add.u64 %d6, %d5, %d6;", "setp.lt.u32 %p2, %r1, ",
             a.lanes, ";");
  if (a.warp >= 0) StrAppend(&text, "setp.eq.and.u32 %p2, %r2, ", a.warp, ", %p2;");
  // Shared addresses are 32-bit numbers here.
  const std::string_view address = memory.space == "shared" ? "%r5" : "%d6";
  if (memory.space == "shared") StrAppend(&text, "cvt.u32.u64 %r5, %d6;");
  static constexpr std::string_view kTypes[] = {"", "b32", "v2.b32", "", "v4.b32"};
  static constexpr std::string_view kStored[] = {"", "%r9", "{%r9, %r9}", "",
                                                 "{%r9, %r9, %r9, %r9}"};
  static constexpr std::string_view kLoaded[] = {"", "%r10", "{%r10, %r11}", "",
                                                 "{%r10, %r11, %r12, %r13}"};
  const auto words = static_cast<size_t>(a.words);
  if (a.store) {
    StrAppend(&text, "add.u32 %r9, %r9, 3; @%p2 st.", memory.space, ".", kTypes[words], " [",
              address, "], ", kStored[words], ";\n");
  } else {
    StrAppend(&text, "@%p2 ld.", memory.space, ".", kTypes[words], " ", kLoaded[words], ", [",
              address, "]; @%p2 xor.b32 %r20, %r20, %r10;\n");
  }
  return text;
}

std::string Kinds(const Result& result) {
  std::string kinds;
  for (const Finding& finding : result.findings) {
    StrAppend(&kinds, static_cast<int>(finding.kind), " in line ", finding.line, ", ");
  }
  return kinds;
}

// Runs it with rows and without; the findings with rows.
Result BothSeeTheSame(const Memory& memory, const std::string& body, uint64_t seed) {
  PtxLaunch launch = memory.launch;
  launch.seed = seed;
  const Result rows = RunPtx(Head(memory, 0) + body, "r", {}, launch);
  const Result words = RunPtx(Head(memory, 16) + body, "r", {}, launch);
  EXPECT_EQ(Kinds(rows), Kinds(words)) << body << rows.AllFindings() << "\nwithout rows:\n"
                                       << words.AllFindings();
  EXPECT_EQ(rows.out, words.out) << body;
  return rows;
}

class RowTest : public testing::TestWithParam<int> {
 protected:
  const Memory& memory() const { return kMemories[GetParam()]; }
  // The accesses one after the other, with `between` in between.
  Result Run(const std::vector<Access>& accesses, std::string_view between) {
    std::string body;
    for (const Access& access : accesses) StrAppend(&body, TextOf(memory(), access), between, "\n");
    return BothSeeTheSame(memory(), body, 1);
  }
  bool Races(const Result& result) {
    return result.Found(memory().space == "shared" ? FindingKind::kRaceShared
                                                   : FindingKind::kRaceGlobal);
  }
};
INSTANTIATE_TEST_SUITE_P(Memories, RowTest, testing::Range(0, 3));

TEST_P(RowTest, ARowThatAnotherWarpWritesAndReadsIsARace) {
  EXPECT_TRUE(Races(Run({{true, 1, 0, 128, 4, 32}, {true, 1, 1, 128, 4, 32}}, "")));
  // Or what is read was not written yet.
  EXPECT_FALSE(Run({{true, 4, 0, 0, 16, 32}, {false, 4, 1, 0, 16, 32}}, "").findings.empty());
  EXPECT_FALSE(Run({{true, 1, 0, 128, 4, 32}, {false, 1, 2, 128, 4, 1}}, "").findings.empty());
}

TEST_P(RowTest, LanesOfAWarpRaceWhereTheirSharesDiffer) {
  const std::vector<Access> other_lanes = {{true, 4, 0, 0, 16, 32}, {false, 1, 0, 0, 4, 32}};
  EXPECT_TRUE(Races(Run(other_lanes, "")));
  EXPECT_FALSE(Races(Run(other_lanes, "bar.warp.sync 0xffffffff;")));
  const std::vector<Access> same_lanes = {{true, 4, 0, 0, 16, 32}, {false, 4, 0, 0, 16, 32}};
  EXPECT_TRUE(Run(same_lanes, "").findings.empty());
}

TEST_P(RowTest, OneWordOfARowThatWasNotWrittenIsSeen) {
  PtxLaunch launch = memory().launch;
  launch.scratch_defined = false;
  const std::string body =
      TextOf(memory(), {true, 1, 0, 0, 4, 31}) + TextOf(memory(), {false, 1, 0, 0, 4, 32});
  const Result result = RunPtx(Head(memory(), 0) + body, "r", {}, launch);
  EXPECT_TRUE(result.Found(memory().space == "shared" ? FindingKind::kUninitializedShared
                                                      : FindingKind::kUninitializedGlobal));
}

TEST_P(RowTest, ARowAcrossTheEndIsOutOfBounds) {
  PtxLaunch launch = memory().launch;
  const std::string body = TextOf(memory(), {true, 4, 0, 4096 - 256, 16, 32});
  const Result result = RunPtx(Head(memory(), 0) + body, "r", {}, launch);
  EXPECT_TRUE(result.Found(FindingKind::kOutOfBounds)) << result.AllFindings();
}

TEST_P(RowTest, ReadersOfARowMayBeMany) {
  std::vector<Access> accesses = {{true, 4, 0, 0, 16, 32}};
  const std::string_view barrier = memory().barrier;
  if (barrier.empty()) accesses.clear();  // then nobody may write
  PtxLaunch launch = memory().launch;
  launch.scratch_defined = true;
  std::string body;
  for (const Access& access : accesses) StrAppend(&body, TextOf(memory(), access), barrier);
  for (int i = 0; i < 3; ++i) StrAppend(&body, TextOf(memory(), {false, 4, -1, 0, 16, 32}));
  const Result result = RunPtx(Head(memory(), 0) + body, "r", {}, launch);
  EXPECT_TRUE(result.findings.empty()) << result.AllFindings();
}

// Programs of rows, parts of rows, rows that begin elsewhere, other widths, one word for all lanes,
// with and without barriers: what is found, where, and what is read.
TEST_P(RowTest, RandomProgramsAreSeenAlike) {
  std::mt19937_64 random(7);
  const auto pick = [&](auto... choices) {
    const int all[] = {choices...};
    return all[random() % sizeof...(choices)];
  };
  int with_findings = 0;
  constexpr int kPrograms = 400;
  for (int program = 0; program < kPrograms; ++program) {
    std::string body;
    if (random() % 2 == 0) {  // all there is, once
      for (const int offset : {0, 512, 1024}) {
        StrAppend(&body, TextOf(memory(), {true, 4, 0, offset, 16, 32}));
      }
      StrAppend(&body, memory().barrier, "\n");
    }
    for (int step = 0; step < 5; ++step) {
      const int words = pick(1, 2, 4);
      const Access access = {random() % 2 == 0,
                             words,
                             pick(0, 0, 1, 2),
                             pick(0, 0, 128, 512, 16, 640),
                             random() % 8 == 0 ? 0 : 4 * words,
                             pick(32, 32, 32, 16, 1),
                             pick(0, 0, 0, 1, 5),
                             pick(0, 0, 0, 128)};
      StrAppend(&body, TextOf(memory(), access));
      const int between = pick(0, 1, 2, 2);
      if (between == 1) StrAppend(&body, "bar.warp.sync 0xffffffff;\n");
      if (between == 2) StrAppend(&body, memory().barrier, "\n");
    }
    SCOPED_TRACE(program);
    with_findings += BothSeeTheSame(memory(), body, random()).findings.empty() ? 0 : 1;
    if (HasFailure()) return;
  }
  // Neither all of them nor none.
  EXPECT_GT(with_findings, kPrograms / 10);
  EXPECT_LT(with_findings, kPrograms);
}

}  // namespace
}  // namespace trireme::gpusim
