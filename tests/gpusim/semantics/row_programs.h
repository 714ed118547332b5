// Programs that run at addresses that rows begin at (vm/row.h), and 16 bytes behind them, where
// there are no rows: both have to see the same.
#pragma once

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <random>
#include <string>
#include <string_view>

#include "runtime/base/strings.h"
#include "tests/gpusim/semantics/machine.h"

namespace trireme::gpusim {

inline constexpr int kWarps = 4;

// Four warps, or as many CTAs of one. %r1: the lane, %r2: the warp's or CTA's number.
struct Memory {
  std::string_view space, setup, barrier;
  PtxLaunch launch;
};
inline const Memory kMemories[] = {
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

inline std::string Head(const Memory& memory, int displacement) {
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

inline std::string TextOf(const Memory& memory, const Access& a) {
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

inline std::string Kinds(const Result& result) {
  std::string kinds;
  for (const Finding& finding : result.findings) {
    StrAppend(&kinds, static_cast<int>(finding.kind), " in line ", finding.line, ", ");
  }
  return kinds;
}

// Runs it with rows and without; the findings with rows. What a wrong program reads may differ if
// it copies: its bytes land at random.
inline Result BothSeeTheSame(const Memory& memory, const std::string& body, uint64_t seed,
                             bool copies = false) {
  PtxLaunch launch = memory.launch;
  launch.seed = seed;
  const Result rows = RunPtx(Head(memory, 0) + body, "r", {}, launch);
  const Result words = RunPtx(Head(memory, 16) + body, "r", {}, launch);
  EXPECT_EQ(Kinds(rows), Kinds(words)) << body << rows.AllFindings() << "\nwithout rows:\n"
                                       << words.AllFindings();
  if (!copies || rows.findings.empty()) {
    EXPECT_EQ(rows.out, words.out) << body;
  }
  return rows;
}

class Chance {
 public:
  explicit Chance(uint64_t seed) : random_(seed) {}
  uint64_t Number() { return random_(); }
  bool OneIn(uint64_t n) { return random_() % n == 0; }
  template <typename... Choices>
  int Pick(Choices... choices) {
    const int all[] = {choices...};
    return all[random_() % sizeof...(choices)];
  }

 private:
  std::mt19937_64 random_;
};

// Random programs as `append` goes on with them, half of them after all memory was written; some
// are wrong, some are not.
inline void ExpectRandomProgramsSeenAlike(
    const Memory& memory, uint64_t seed, bool copies,
    const std::function<void(Chance&, std::string*)>& append) {
  Chance chance(seed);
  constexpr int kPrograms = 400;
  int with_findings = 0;
  for (int program = 0; program < kPrograms; ++program) {
    std::string body;
    if (chance.OneIn(2)) {
      for (const int offset : {0, 512, 1024}) {
        StrAppend(&body, TextOf(memory, {true, 4, 0, offset, 16, 32}));
      }
      StrAppend(&body, memory.barrier, "\n");
    }
    append(chance, &body);
    SCOPED_TRACE(program);
    const Result result = BothSeeTheSame(memory, body, chance.Number(), copies);
    with_findings += result.findings.empty() ? 0 : 1;
    if (testing::Test::HasFailure()) return;
  }
  EXPECT_GT(with_findings, kPrograms / 10);
  EXPECT_LT(with_findings, kPrograms);
}

}  // namespace trireme::gpusim
