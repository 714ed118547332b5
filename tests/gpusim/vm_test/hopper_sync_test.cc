// mbarriers, copies, setmaxnreg: small PTX texts against what the PTX ISA says.
#include <functional>
#include <numeric>

#include "runtime/base/strings.h"
#include "tests/gpusim/vm/tensor_map.h"
#include "tests/gpusim/vm_test/hopper_fixture.h"

namespace trireme::gpusim {
namespace {

// ---- mbarrier

using HopperMbarrier = Hopper;

TEST_F(HopperMbarrier, APhaseIsCompleteWhenAllHaveArrivedAndOrdersWhatWasBefore) {
  ExpectClean(InitFor(64) +
              "mul.lo.u32 %r10, %r1, 4;\nadd.s32 %r10, %r10, %r3;\nst.shared.u32 [%r10], %r1;\n"
              "mbarrier.arrive.shared::cta.b64 _, [%r4];\n" +
              WaitParity(0) + "xor.b32 %r10, %r10, 128;\nld.shared.u32 %r11, [%r10];\n" +
              Out("%r11"));
  EXPECT_EQ(Words(64)[5], 37u);
}

TEST_F(HopperMbarrier, ARelaxedArrivalOrdersNothing) {
  ExpectFound(FindingKind::kRaceShared, "not ordered after its write",
              InitFor(64) +
                  "mul.lo.u32 %r10, %r1, 4;\nadd.s32 %r10, %r10, %r3;\nst.shared.u32 [%r10], %r1;\n"
                  "mbarrier.arrive.relaxed.cta.shared::cta.b64 _, [%r4];\n" +
                  WaitParity(0) + "xor.b32 %r10, %r10, 128;\nld.shared.u32 %r11, [%r10];\n");
}

TEST_F(HopperMbarrier, TheStateOfAnArrivalTellsItsPhaseAndWhatWasPending) {
  ExpectClean(InitFor(3) +
              "@!%p1 bra E;\n"
              "mbarrier.arrive.shared::cta.b64 %rd20, [%r4];\n"
              "mbarrier.test_wait.shared::cta.b64 %p3, [%r4], %rd20;\n"
              "mbarrier.arrive.noComplete.shared::cta.b64 %rd21, [%r4], 1;\n"
              "mbarrier.arrive.shared::cta.b64 %rd22, [%r4];\n"
              "mbarrier.test_wait.shared::cta.b64 %p4, [%r4], %rd20;\n"
              "mbarrier.pending_count.b64 %r10, %rd21;\n"
              "selp.u32 %r11, 100, 0, %p3;\nselp.u32 %r12, 10, 0, %p4;\n"
              "add.u32 %r10, %r10, %r11;\nadd.u32 %r10, %r10, %r12;\n" +
              Out("%r10") + "E:\n");
  EXPECT_EQ(Words(1)[0],
            12u);  // not complete, then complete; two pending before the second arrival
}

TEST_F(HopperMbarrier, ADropLowersTheNextPhasesCount) {
  ExpectClean(InitFor(2) +
              "@!%p1 bra E;\n"
              "mbarrier.arrive_drop.shared::cta.b64 _, [%r4];\n"
              "mbarrier.arrive.shared::cta.b64 _, [%r4];\n" +
              WaitParity(0) + "mbarrier.arrive.shared::cta.b64 _, [%r4];\n" + WaitParity(1) +
              "E:\n");
}

TEST_F(HopperMbarrier, BytesHoldAPhaseBack) {
  ExpectClean(
      InitFor(1) +
      "@!%p1 bra W;\n"
      "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r4], 48;\n"
      "mbarrier.test_wait.parity.shared::cta.b64 %p3, [%r4], 0;\nselp.u32 %r11, 1, 0, %p3;\n" +
      Out("%r11") + "mbarrier.complete_tx.relaxed.cta.shared::cta.b64 [%r4], 48;\nW:\n" +
      WaitParity(0));
  EXPECT_EQ(Words(1)[0], 0u);
}

TEST_F(HopperMbarrier, MisuseIsFound) {
  ExpectFound(FindingKind::kBarrierMisuse, "there is no mbarrier at shared byte 4096",
              "mbarrier.arrive.shared::cta.b64 _, [%r4];");
  ExpectFound(FindingKind::kBarrierMisuse, "was not invalidated",
              InitFor(1) + "@%p1 mbarrier.init.shared::cta.b64 [%r4], 1;");
  ExpectFound(FindingKind::kBarrierMisuse, "2 arrivals where 1 of 1",
              InitFor(1) + "@%p1 mbarrier.arrive.shared::cta.b64 _, [%r4], 2;");
  ExpectFound(FindingKind::kBarrierMisuse, "2^20",
              InitFor(2) + "@%p1 mbarrier.expect_tx.relaxed.cta.shared::cta.b64 [%r4], 1048576;");
  ExpectFound(FindingKind::kBarrierMisuse, "bytes that were announced and never came",
              InitFor(2) + "@%p1 mbarrier.expect_tx.relaxed.cta.shared::cta.b64 [%r4], 16;");
  ExpectFound(FindingKind::kBarrierMisuse, ".noComplete",
              InitFor(1) + "@%p1 mbarrier.arrive.noComplete.shared::cta.b64 %rd20, [%r4], 1;");
  ExpectFound(FindingKind::kBarrierMisuse, "belongs to an mbarrier",
              InitFor(1) + "@%p1 st.shared.u32 [%r4], 0;");
  ExpectFound(
      FindingKind::kRaceShared, "not ordered after its initialisation",
      "@%p1 mbarrier.init.shared::cta.b64 [%r4], 64;\n"
      "@%p1 st.relaxed.gpu.global.u32 [%rd1], 7;\n"
      "setp.lt.u32 %p5, %r1, 32;\n@%p5 bra E;\n"
      "W:\nld.relaxed.gpu.global.u32 %r10, [%rd1];\nsetp.ne.u32 %p5, %r10, 7;\n@%p5 bra W;\n"
      "mbarrier.arrive.shared::cta.b64 _, [%r4];\nst.relaxed.gpu.global.u32 [%rd1], 0;\nE:\n");
}

TEST_F(HopperMbarrier, InvalidatedItsMemoryIsOrdinaryAgain) {
  const std::string gone =
      StrCat(InitFor(1), "@%p1 mbarrier.inval.shared::cta.b64 [%r4];\nbar.sync 0;\n");
  ExpectClean(
      StrCat(gone, "@%p1 st.shared.u32 [%r4], 77;\nbar.sync 0;\nld.shared.u32 %r11, [%r4];\n",
             "bar.sync 0;\n", InitFor(1), "@%p1 mbarrier.arrive.shared::cta.b64 _, [%r4];\n",
             WaitParity(0), Out("%r11")));
  EXPECT_EQ(Words(64)[40], 77u);
  ExpectFound(FindingKind::kBarrierMisuse, "there is no mbarrier",
              StrCat(gone, "@%p1 mbarrier.arrive.shared::cta.b64 _, [%r4];\n"));
  ExpectFound(FindingKind::kUninitializedShared, "was never written",
              StrCat(gone, "ld.shared.u32 %r11, [%r4];\n", Out("%r11")));
}

TEST_F(HopperMbarrier, AWaitThatNothingCanEndIsADeadlockThatNamesPhaseAndMissingArrivals) {
  ExpectFound(
      FindingKind::kDeadlock,
      "warp 1 waits for phase of parity 0 of the mbarrier at shared byte 4096 of CTA rank 0 "
      "(it is in phase 0: 1 of 1 arrivals and 0 bytes are missing)",
      InitFor(1) + WaitParity(0));
  // Polling is no progress.
  ExpectFound(
      FindingKind::kDeadlock, "phase of parity 0",
      InitFor(1) + "T:\nmbarrier.test_wait.parity.shared::cta.b64 %p2, [%r4], 0;\n@!%p2 bra T;\n");
}

TEST_F(HopperMbarrier, CopiesOfSm80CanArriveOnIt) {
  const std::string copy =
      "mul.wide.u32 %rd11, %r1, 16;\nadd.s64 %rd11, %rd11, %rd2;\n"
      "mul.lo.u32 %r10, %r1, 16;\nadd.s32 %r10, %r10, %r3;\n"
      "cp.async.cg.shared.global [%r10], [%rd11], 16;\n"
      "cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%r4];\n";
  const std::string read = "xor.b32 %r10, %r10, 512;\nld.shared.u32 %r11, [%r10];\n" + Out("%r11");
  ExpectClean(InitFor(64) + copy + WaitParity(0) + read);
  EXPECT_EQ(Words(64)[1], 33u * 4);
  ExpectFound(FindingKind::kInFlight, "is read while a copy",
              InitFor(64) + copy + "bar.sync 0;\n" + read);
}

// ---- Bulk copies

using HopperBulkCopy = Hopper;

constexpr std::string_view kLoad =
    "@%p1 mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r4], 256;\n"
    "@%p1 cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r3], [%rd2+64], 256, "
    "[%r4];\n";
constexpr std::string_view kStore =
    "@%p1 cp.async.bulk.global.shared::cta.bulk_group [%rd1], [%r3], 256;\n"
    "@%p1 cp.async.bulk.commit_group;\n";

TEST_F(HopperBulkCopy, LandsBeforeThePhaseOfItsMbarrierIsComplete) {
  ExpectClean(StrCat(InitFor(1), kLoad, WaitParity(0), kReadBack, Out("%r11")));
  EXPECT_EQ(Words(64)[3], 19u);
}

TEST_F(HopperBulkCopy, IsInFlightUntilThen) {
  // Or, when it has landed by chance, not ordered after it.
  ExpectFoundAtTimes(FindingKind::kInFlight, "is read while a copy into it is in flight",
                     StrCat(InitFor(1), kLoad, "bar.sync 0;\n", kReadBack, WaitParity(0)));
  ExpectFound(FindingKind::kInFlight, "ends without having waited for the copies",
              StrCat(InitFor(1), kLoad));
}

TEST_F(HopperBulkCopy, NeedsTheMbarriersInitialisationFenced) {
  ExpectFound(
      FindingKind::kMissingProxyFence, "was initialised without",
      StrCat("@%p1 mbarrier.init.shared::cta.b64 [%r4], 1;\nbar.sync 0;\n", kLoad, WaitParity(0)));
}

TEST_F(HopperBulkCopy, StoresWhatTheProxyFenceMadeVisible) {
  const std::string end = "@%p1 cp.async.bulk.wait_group 0;\n";
  ExpectClean(StrCat(kFillShared, "fence.proxy.async.shared::cta;\nbar.sync 0;\n", kStore, end));
  EXPECT_EQ(Words(64)[9], 16u);
  // The fence may stand behind the barrier, too.
  ExpectClean(StrCat(kFillShared, "bar.sync 0;\nfence.proxy.async;\n", kStore, end));
  ExpectFound(FindingKind::kMissingProxyFence, "without fence.proxy.async",
              StrCat(kFillShared, "bar.sync 0;\n", kStore, end));
  ExpectFound(FindingKind::kRaceShared, "not ordered",
              StrCat(kFillShared, "fence.proxy.async.shared::cta;\n", kStore, end));
}

TEST_F(HopperBulkCopy, ItsSourceIsBusyUntilWaitGroupRead) {
  const std::string start =
      StrCat(kFillShared, "fence.proxy.async.shared::cta;\nbar.sync 0;\n", kStore);
  ExpectClean(StrCat(start, "@%p1 cp.async.bulk.wait_group.read 0;\nbar.sync 0;\n", kFillShared));
  ExpectFound(
      FindingKind::kInFlight, "is written while a copy out of it",
      StrCat(start, "bar.sync 0;\n", kFillShared, "@%p1 cp.async.bulk.wait_group.read 0;\n"));
  ExpectFound(FindingKind::kInFlight, "ends without wait_group", start);
}

TEST_F(HopperBulkCopy, ReducesIntoGlobalMemory) {
  ASSERT_TRUE(Run(Out("%r1")).ok());
  ASSERT_TRUE(
      Run(StrCat(kFillShared, "fence.proxy.async.shared::cta;\nbar.sync 0;\n",
                 "@%p1 cp.reduce.async.bulk.global.shared::cta.bulk_group.add.u32 [%rd1], [%r3], "
                 "256;\n@%p1 cp.async.bulk.commit_group;\n@%p1 cp.async.bulk.wait_group 0;\n"))
          .ok());
  EXPECT_TRUE(bench_.findings.empty()) << bench_.AllFindings();
  EXPECT_EQ(Words(64)[10], 27u);
}

TEST_F(HopperBulkCopy, SizesAndAddressesAreMultiplesOf16) {
  ExpectFound(
      FindingKind::kMisaligned, "multiples of 16",
      StrCat(InitFor(1),
             "@%p1 cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r3], "
             "[%rd2+8], 256, [%r4];\n"));
}

// ---- setmaxnreg

TEST_F(Hopper, RegistersThatTheCtaDoesNotHaveCannotBeTaken) {
  // 255 / 8 * 8 = 248 for each of 64 threads.
  ExpectClean("setmaxnreg.dec.sync.aligned.u32 40;\nsetmaxnreg.inc.sync.aligned.u32 248;\n");
  ExpectFound(FindingKind::kDeadlock, "256 registers; the CTA has 0 free",
              "setmaxnreg.inc.sync.aligned.u32 256;\n");
  ExpectFound(FindingKind::kBadOperand, "multiple of 8", "setmaxnreg.dec.sync.aligned.u32 41;\n");
}

}  // namespace
}  // namespace trireme::gpusim
