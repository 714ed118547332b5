// cp.async by lanes that share out a row (vm/row.h), and chunks of rows that ldmatrix reads: with
// rows and without the same is seen.
#include <gtest/gtest.h>

#include "runtime/base/strings.h"
#include "tests/gpusim/semantics/row_programs.h"

namespace trireme::gpusim {
namespace {

const Memory& kShared = kMemories[0];

// cp.async by the warp `warp` (negative: by all) of 16 bytes a lane, from global memory that is
// defined, into the row of each eighth lane.
std::string CopyText(int warp, int offset, int swizzle, int lanes, int bytes_read) {
  std::string text =
      StrCat("xor.b32 %r5, %r1, ", swizzle, "; shl.b32 %r5, %r5, 4; add.u32 %r5, %r5, ", offset,
             "; cvt.u64.u32 %d6, %r5; add.u64 %d6, %d5, %d6; cvt.u32.u64 %r5, %d6;"
             "shl.b32 %r6, %r1, 4; cvt.u64.u32 %d7, %r6; add.u64 %d7, %d4, %d7; mov.u32 %r7, ",
             bytes_read, "; setp.lt.u32 %p2, %r1, ", lanes, ";");
  if (warp >= 0) StrAppend(&text, "setp.eq.and.u32 %p2, %r2, ", warp, ", %p2;");
  StrAppend(&text, "@%p2 cp.async.cg.shared.global [%r5], [%d7], 16, %r7;\n");
  return text;
}

// ldmatrix by the whole warp, `stride` bytes from one row of a matrix to the next.
std::string MatrixText(int warp, int offset, int stride) {
  return StrCat("setp.ne.u32 %p3, %r2, ", warp < 0 ? 99 : warp, "; mul.lo.u32 %r5, %r1, ", stride,
                "; add.u32 %r5, %r5, ", offset,
                "; cvt.u64.u32 %d6, %r5; add.u64 %d6, %d5, %d6; cvt.u32.u64 %r5, %d6; ",
                warp < 0 ? "" : "@%p3 bra ", warp < 0 ? "" : "$next; ",
                "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r10, %r11, %r12, %r13}, [%r5];"
                "xor.b32 %r20, %r20, %r12; $next:\n");
}

// Labels of a program are its own.
std::string Labelled(std::string text, int step) {
  for (size_t at = 0; (at = text.find("$next", at)) != std::string::npos; at += 5) {
    text.replace(at, 5, StrCat("n", step, "xx"));
  }
  return text;
}

TEST(RowCopyTest, ACopyOfARowThatNobodyHasWaitedForIsInFlight) {
  for (const std::string_view use : {"ld", "st", "ldmatrix"}) {
    const std::string touch = use == "ldmatrix" ? Labelled(MatrixText(-1, 0, 16), 0)
                                                : TextOf(kShared, {use == "st", 4, 0, 0, 16, 32});
    const auto found = [&](std::string_view wait) {
      return BothSeeTheSame(
                 kShared, StrCat(CopyText(0, 0, 1, 32, 16), "cp.async.commit_group;", wait, touch),
                 1, true)
          .Found(FindingKind::kInFlight);
    };
    EXPECT_TRUE(found("")) << use;
    EXPECT_TRUE(found("cp.async.wait_group 1;")) << use;
    EXPECT_FALSE(found("cp.async.wait_group 0; bar.sync 0;")) << use;
    // Half of a row's lanes wait for it.
    const std::string half = "setp.lt.u32 %p4, %r1, 4; @%p4 cp.async.wait_all;";
    EXPECT_TRUE(found(half)) << use;
    EXPECT_FALSE(found(half + "cp.async.wait_all; bar.sync 0;")) << use;
  }
}

void AppendCopies(Chance& chance, std::string* body) {
  const auto pick = [&](auto... choices) { return chance.Pick(choices...); };
  for (int step = 0; step < 6; ++step) {
    const int warp = pick(0, 0, 1, 2), offset = pick(0, 0, 128, 512, 16);
    switch (pick(0, 1, 2, 2)) {
      case 0:
        StrAppend(body, CopyText(warp, offset, pick(0, 0, 1, 5), pick(32, 32, 32, 12, 1),
                                 pick(16, 16, 16, 8, 0)));
        break;
      case 1:
        StrAppend(body, Labelled(MatrixText(pick(0, 1, 2, -1), offset, pick(16, 16, 32)), step));
        break;
      default:
        StrAppend(body, TextOf(kShared, {chance.OneIn(2), pick(1, 4, 4), warp, offset,
                                         pick(16, 16, 4), pick(32, 32, 16)}));
    }
    const int wait = pick(0, 1, 1, 2, 3);
    if (wait == 1) StrAppend(body, "cp.async.wait_all;\n");
    if (wait == 2) StrAppend(body, "cp.async.commit_group; cp.async.wait_group 1;\n");
    if (wait == 3) {
      StrAppend(body, "setp.lt.u32 %p4, %r1, ", pick(4, 8, 20), "; @%p4 cp.async.wait_all;\n");
    }
    const int between = pick(0, 1, 2, 2);
    if (between == 1) StrAppend(body, "bar.warp.sync 0xffffffff;\n");
    if (between == 2) StrAppend(body, kShared.barrier, "\n");
  }
  StrAppend(body, "cp.async.wait_all;\n");
}

TEST(RowCopyTest, RandomCopiesAreSeenAlike) {
  ExpectRandomProgramsSeenAlike(kShared, 11, true, AppendCopies);
}

}  // namespace
}  // namespace trireme::gpusim
