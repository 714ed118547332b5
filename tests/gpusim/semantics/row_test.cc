// What lanes do side by side is checked by rows of 128 bytes (vm/row.h), everything else by blocks
// and words. Both have to see the same: each program here runs at addresses that rows begin at, and
// 16 bytes behind them, where there are no rows.
#include <gtest/gtest.h>

#include <vector>

#include "runtime/base/strings.h"
#include "tests/gpusim/semantics/row_programs.h"

namespace trireme::gpusim {
namespace {

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
  ExpectRandomProgramsSeenAlike(memory(), 7, false, [this](Chance& chance, std::string* body) {
    const auto pick = [&](auto... choices) { return chance.Pick(choices...); };
    for (int step = 0; step < 5; ++step) {
      const int words = pick(1, 2, 4);
      const Access access = {chance.OneIn(2),
                             words,
                             pick(0, 0, 1, 2),
                             pick(0, 0, 128, 512, 16, 640),
                             chance.OneIn(8) ? 0 : 4 * words,
                             pick(32, 32, 32, 16, 1),
                             pick(0, 0, 0, 1, 5),
                             pick(0, 0, 0, 128)};
      StrAppend(body, TextOf(memory(), access));
      const int between = pick(0, 1, 2, 2);
      if (between == 1) StrAppend(body, "bar.warp.sync 0xffffffff;\n");
      if (between == 2) StrAppend(body, memory().barrier, "\n");
    }
  });
}

}  // namespace
}  // namespace trireme::gpusim
