// What the GPU simulator takes for a warp instruction, checkers on: nanoseconds by class, and
// emulated GFLOP/s of mma.sync fed by ldmatrix, and the ratios to the aims. One CTA, so one thread;
// at the end eight, on one thread and on two.
// `ninja gpusim_bench`.
#include <chrono>
#include <cstdio>
#include <ctime>
#include <iterator>
#include <string>
#include <string_view>

#include "tests/gpusim/semantics/machine.h"

namespace trireme::gpusim {
namespace {

constexpr int kThreads = 128, kRounds = 4000;
// The aims, with all checkers on.
constexpr double kAllowedNanoseconds = 150, kWantedGflops = 1;

struct Loop {
  std::string_view name, setup, body;
};

constexpr Loop kLoops[] = {
    {"fma.f32", "mov.b32 %r1, 0f3f800000; mov.b32 %r2, %r1;",
     "fma.rn.f32 %r2, %r1, %r1, %r2; fma.rn.f32 %r2, %r1, %r2, %r2;"
     "add.f32 %r2, %r1, %r2; mul.f32 %r2, %r1, %r2;"},
    {"integer", "mov.u32 %r1, 3; mov.u32 %r2, 5;",
     "add.s32 %r2, %r1, %r2; xor.b32 %r2, %r1, %r2; shl.b32 %r3, %r2, 2;"
     "mad.lo.s32 %r2, %r2, %r1, %r3;"},
    {"ex2, cvt", "mov.b32 %r1, 0f3f000000;",
     "ex2.approx.ftz.f32 %r2, %r1; cvt.rn.bf16x2.f32 %r3, %r2, %r1;"},
    {"setp, selp, bra", "mov.u32 %r1, 3;", "setp.lt.s32 %p2, %r1, %r9; selp.b32 %r1, 2, 3, %p2;"},
    {"shfl", "mov.u32 %r1, 3;", "shfl.sync.bfly.b32 %r1, %r1, 1, 31, 0xffffffff;"},
    {"st+ld shared v4",
     "shl.b32 %r1, %r30, 4; mov.u32 %r2, tile; add.u32 %r2, %r2, %r1; mov.u32 %r3, 0;",
     "st.shared.v4.b32 [%r2], {%r3, %r3, %r3, %r3};"
     "ld.shared.v4.b32 {%r4, %r5, %r6, %r7}, [%r2];"},
    {"st+ld shared b32",
     "shl.b32 %r1, %r30, 2; mov.u32 %r2, tile; add.u32 %r2, %r2, %r1; mov.u32 %r3, 0;",
     "st.shared.b32 [%r2], %r3; ld.shared.b32 %r4, [%r2];"},
    {"ld global b32", "cvt.u64.u32 %d5, %r30; shl.b64 %d5, %d5, 2; add.u64 %d5, %d4, %d5;",
     "ld.global.b32 %r4, [%d5];"},
    {"st global v4",
     "cvt.u64.u32 %d5, %r30; shl.b64 %d5, %d5, 4; add.u64 %d5, %d4, %d5; mov.u32 %r3, 0;",
     "st.global.v4.b32 [%d5], {%r3, %r3, %r3, %r3};"},
    {"cp.async 16, wait",
     "cvt.u64.u32 %d5, %r30; shl.b64 %d5, %d5, 4; add.u64 %d5, %d4, %d5;"
     "shl.b32 %r1, %r30, 4; mov.u32 %r2, tile; add.u32 %r2, %r2, %r1;",
     "cp.async.cg.shared.global [%r2], [%d5], 16; cp.async.commit_group; cp.async.wait_group 0;"},
    {"ld global v4", "cvt.u64.u32 %d5, %r30; shl.b64 %d5, %d5, 4; add.u64 %d5, %d4, %d5;",
     "ld.global.v4.b32 {%r4, %r5, %r6, %r7}, [%d5];"},
    {"bar.sync", "", "bar.sync 0;"},
    {"4 mma + ldmatrix.x4",
     "mov.u32 %r1, %tid.x; shl.b32 %r1, %r1, 4; mov.u32 %r2, tile; add.u32 %r2, %r2, %r1;"
     "mov.u32 %r3, 0; st.shared.v4.b32 [%r2], {%r3, %r3, %r3, %r3}; bar.sync 0;"
     "mov.b32 %r20, %r3; mov.b32 %r21, %r3; mov.b32 %r22, %r3; mov.b32 %r23, %r3;",
     "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r4, %r5, %r6, %r7}, [%r2];"
     "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%r20, %r21, %r22, %r23},"
     "{%r4, %r5, %r6, %r7}, {%r4, %r5}, {%r20, %r21, %r22, %r23};"
     "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%r20, %r21, %r22, %r23},"
     "{%r4, %r5, %r6, %r7}, {%r6, %r7}, {%r20, %r21, %r22, %r23};"
     "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%r20, %r21, %r22, %r23},"
     "{%r4, %r5, %r6, %r7}, {%r4, %r6}, {%r20, %r21, %r22, %r23};"
     "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%r20, %r21, %r22, %r23},"
     "{%r4, %r5, %r6, %r7}, {%r5, %r7}, {%r20, %r21, %r22, %r23};"},
};

std::string TextOf(const Loop& loop) {
  std::string text(loop.setup);
  text += "mov.u32 %r9, " + std::to_string(kRounds) + ";\nloop:\n";
  // Long enough that the loop's own three instructions do not count.
  for (int i = 0; i < 8; ++i) text += std::string(loop.body) + "\n";
  text += "sub.u32 %r9, %r9, 8; setp.gt.s32 %p1, %r9, 0; @%p1 bra loop; mov.u32 %r20, 0;";
  return text;
}

int Measure(const Loop& loop) {
  const std::string text = TextOf(loop);
  const std::clock_t start = std::clock();  // of this process: others do not count
  const Result run = RunPtx(text, "r", {}, {.threads = kThreads});
  const double seconds = static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
  if (!run.status.ok() || !run.findings.empty()) {
    std::fprintf(
        stderr, "%s: %s\n", std::string(loop.name).c_str(),
        run.findings.empty() ? run.status.ToString().c_str() : run.findings[0].ToString().c_str());
    return 1;
  }
  const double ns = 1e9 * seconds / static_cast<double>(run.counters.total());
  std::printf("%-22s %8.1f ns per warp instruction", std::string(loop.name).c_str(), ns);
  if (run.counters.mma != 0) {
    const double rate = 4096e-9 * static_cast<double>(run.counters.mma) / seconds;
    std::printf(" %8.2f GFLOP/s: %.2f of what is wanted", rate, rate / kWantedGflops);
  } else {
    std::printf(": %.2f of what is allowed", ns / kAllowedNanoseconds);
  }
  std::printf("\n");
  return 0;
}

// The last loop on eight CTAs: how much sooner two threads are done.
int MeasureThreads() {
  double seconds[2];
  for (const int workers : {1, 2}) {
    const auto start = std::chrono::steady_clock::now();
    const Result run = RunPtx(TextOf(*std::rbegin(kLoops)), "r", {},
                              {.threads = kThreads, .ctas = 8, .workers = workers});
    if (!run.status.ok() || !run.findings.empty()) return 1;
    seconds[workers - 1] =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }
  std::printf("8 CTAs                 %8.2f s on one thread, %.2f x the speed on two\n", seconds[0],
              seconds[0] / seconds[1]);
  return 0;
}

}  // namespace
}  // namespace trireme::gpusim

int main() {
  int failed = 0;
  for (const auto& loop : trireme::gpusim::kLoops) failed += trireme::gpusim::Measure(loop);
  failed += trireme::gpusim::MeasureThreads();
  return failed;
}
