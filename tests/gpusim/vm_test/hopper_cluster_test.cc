// Clusters: barriers, other CTAs' shared memory, multicast.
#include "runtime/base/strings.h"
#include "tests/gpusim/vm_test/hopper_fixture.h"

namespace trireme::gpusim {
namespace {

using HopperCluster = Hopper;

constexpr std::string_view kClusterSync =
    "barrier.cluster.arrive.aligned;\nbarrier.cluster.wait.aligned;\n";
// Address of `smem` in the other of two CTAs: %r21; of its mbarrier: %r22.
constexpr std::string_view kMapOther =
    "xor.b32 %r20, %r2, 1;\nmapa.shared::cluster.u32 %r21, %r3, %r20;\n"
    "mapa.shared::cluster.u32 %r22, %r4, %r20;\n";
constexpr std::string_view kWriteRemote =
    "mul.lo.u32 %r10, %r1, 4;\nadd.s32 %r12, %r10, %r21;\nadd.s32 %r10, %r10, %r3;\n"
    "mad.lo.u32 %r13, %r2, 100, %r1;\nst.shared::cluster.u32 [%r12], %r13;\n";

TEST_F(HopperCluster, ReachesOtherCtasMemory) {
  ExpectClean(StrCat(kMapOther, kClusterSync, kWriteRemote, kClusterSync,
                     "ld.shared.u32 %r11, [%r10];\ngetctarank.shared::cluster.u32 %r14, %r21;\n"
                     "mad.lo.u32 %r11, %r14, 1000, %r11;\nsetp.ne.u32 %p3, %r2, 0;\n@%p3 bra E;\n",
                     Out("%r11"), "E:\n"),
              64, 2);
  EXPECT_EQ(Words(64)[3], 1103u);  // rank 1 wrote 100 + 3
}

TEST_F(HopperCluster, ARelaxedArrivalOrdersNothing) {
  ExpectFound(FindingKind::kRaceShared, "is read, not ordered",
              StrCat(kMapOther, kClusterSync, kWriteRemote,
                     "barrier.cluster.arrive.relaxed.aligned;\nbarrier.cluster.wait.aligned;\n",
                     "ld.shared.u32 %r11, [%r10];\n"),
              64, 2);
}

TEST_F(HopperCluster, ACtaMustNotEndWhileOthersUseItsMemory) {
  ExpectFound(FindingKind::kRaceShared, "", StrCat(kMapOther, kClusterSync, kWriteRemote), 64, 2);
}

TEST_F(HopperCluster, ArrivesOnAnotherCtasMbarrier) {
  ExpectClean(StrCat(InitFor(64), kMapOther, kClusterSync, kWriteRemote,
                     "mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%r22];\n",
                     WaitParity(0), "ld.shared.u32 %r11, [%r10];\n", kClusterSync),
              64, 2);
}

TEST_F(HopperCluster, MulticastReachesEveryCtaAndItsMbarrier) {
  ExpectClean(
      StrCat(InitFor(1), "@%p1 mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r4], 256;\n",
             kClusterSync, "setp.eq.u32 %p3, %r2, 0;\nand.pred %p3, %p3, %p1;\nmov.u16 %h1, 3;\n",
             "@%p3 cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes"
             ".multicast::cluster [%r3], [%rd2], 256, [%r4], %h1;\n",
             WaitParity(0), kReadBack, "setp.eq.u32 %p3, %r2, 0;\n@%p3 bra E;\n", Out("%r11"),
             "E:\n", kClusterSync),
      64, 2);
  EXPECT_EQ(Words(64)[50], 50u);
}

TEST_F(HopperCluster, CopiesIntoAnotherCtaCompleteOnItsMbarrier) {
  const std::string fill = StrCat(InitFor(1), kMapOther, kFillShared,
                                  "add.s32 %r23, %r21, 1024;\nfence.proxy.async.shared::cta;\n"
                                  "@%p1 mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r4], 256;\n",
                                  kClusterSync);
  const std::string copy =
      "@%p1 cp.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes [%r23], [%r3], "
      "256, "
      "[%r22];\n";
  ExpectClean(StrCat(fill, copy, WaitParity(0), "ld.shared.u32 %r11, [%r10+1024];\n", kClusterSync,
                     "setp.eq.u32 %p3, %r2, 0;\n@%p3 bra E;\n", Out("%r11"), "E:\n"),
              64, 2);
  EXPECT_EQ(Words(64)[30], 37u);
  // The source is busy until the other CTA's phase is complete.
  ExpectFound(FindingKind::kInFlight, "is written while a copy out of it",
              StrCat(fill, copy, kFillShared, WaitParity(0), kClusterSync), 64, 2);
}

TEST_F(HopperCluster, ReducesIntoAnotherCtasMemory) {
  const std::string reduce = StrCat(
      InitFor(1), kMapOther, kFillShared, "st.shared.u32 [%r10+1024], 1000;\n",
      "add.s32 %r23, %r21, 1024;\nfence.proxy.async.shared::cta;\n"
      "@%p1 mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r4], 256;\n",
      kClusterSync,
      "@%p1 cp.reduce.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes.add.u32 "
      "[%r23], [%r3], 256, [%r22];\n",
      WaitParity(0), "ld.shared.u32 %r11, [%r10+1024];\n", kClusterSync);
  ExpectClean(StrCat(reduce, "setp.eq.u32 %p3, %r2, 0;\n@%p3 bra E;\n", Out("%r11"), "E:\n"), 64,
              2);
  EXPECT_EQ(Words(64)[30], 1037u);
}

TEST_F(HopperCluster, AtomicsReachOtherCtasMemory) {
  ExpectClean(StrCat(kMapOther, "@%p1 st.shared.u32 [%r3], 0;\n", kClusterSync,
                     "red.shared::cluster.add.u32 [%r21], 1;\n",
                     "atom.shared::cluster.add.u32 %r11, [%r21], 1;\n", kClusterSync,
                     "ld.shared.u32 %r11, [%r3];\nsetp.eq.u32 %p3, %r2, 0;\n@%p3 bra E;\n",
                     Out("%r11"), "E:\n"),
              64, 2);
  EXPECT_EQ(Words(1)[0], 128u);
}

TEST_F(HopperCluster, BarrierMisuseIsFound) {
  ExpectFound(FindingKind::kBarrierMisuse, "without having arrived",
              "barrier.cluster.wait.aligned;", 64, 2);
  ExpectFound(FindingKind::kBarrierMisuse, "twice",
              "barrier.cluster.arrive.aligned;\nbarrier.cluster.arrive.aligned;\n", 64, 2);
  ExpectFound(FindingKind::kDeadlock, "the cluster barrier (64 threads are missing)",
              StrCat(InitFor(1), "setp.eq.u32 %p3, %r2, 0;\n@%p3 bra A;\n", WaitParity(0), "A:\n",
                     kClusterSync),
              64, 2);
}

}  // namespace
}  // namespace trireme::gpusim
