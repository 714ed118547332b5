// mbarriers, copies, clusters: small PTX texts against what the PTX ISA says.
#include <functional>
#include <numeric>

#include "runtime/base/strings.h"
#include "tests/gpusim/vm/tensor_map.h"
#include "tests/gpusim/vm_test/hopper_harness.h"

namespace trireme::gpusim {
namespace {

// A kernel (out, in, map): %rd1 = out, %rd2 = in, %rd3 = map, %r1 = tid, %r2 = rank in the cluster;
// `smem` of 4096 bytes, an mbarrier at smem + 4096.
std::string Kernel(std::string_view body) {
  return StrCat(R"(.version 9.0
.target sm_90a
.address_size 64
.visible .entry k(.param .u64 out, .param .u64 in, .param .align 64 .b8 map[128])
{
.reg .pred %p<8>;
.reg .b32 %r<40>;
.reg .b16 %h<4>;
.reg .f32 %f<8>;
.reg .b64 %rd<40>;
.shared .align 1024 .b8 smem[4224];
ld.param.u64 %rd1, [out];
ld.param.u64 %rd2, [in];
mov.b64 %rd3, map;
cvta.param.u64 %rd3, %rd3;
mov.u32 %r1, %tid.x;
mov.u32 %r2, %cluster_ctarank;
mov.u32 %r3, smem;
add.s32 %r4, %r3, 4096;
setp.eq.u32 %p1, %r1, 0;
)",
                body, "\nret;\n}\n");
}

// Thread 0 initialises the mbarrier for `count`, all see it.
std::string InitFor(int count) {
  return StrCat("@%p1 mbarrier.init.shared::cta.b64 [%r4], ", count,
                ";\n@%p1 fence.mbarrier_init.release.cluster;\nbar.sync 0;\n");
}
std::string WaitParity(int parity) {
  static int label = 0;
  ++label;
  return StrCat("W", label, ":\nmbarrier.try_wait.parity.shared::cta.b64 %p2, [%r4], ", parity,
                ";\n@!%p2 bra W", label, ";\n");
}
// out[tid] = register
std::string Out(std::string_view reg) {
  return StrCat("mul.wide.u32 %rd10, %r1, 4;\nadd.s64 %rd10, %rd10, %rd1;\nst.global.u32 [%rd10], ",
                reg, ";\n");
}

class Hopper : public testing::Test {
 protected:
  absl::Status Run(std::string_view body, int threads = 64, int ctas = 1,
                   const TensorMap* map = nullptr) {
    LaunchConfig config;
    config.grid = config.cluster = {ctas, 1, 1};
    config.block = {threads, 1, 1};
    config.seed = ++seed_;
    std::vector<char> params;
    Put(&params, 0, out_);
    Put(&params, 8, in_);
    if (map != nullptr) Put(&params, 64, *map);
    return bench_.Run(Kernel(body), config, params);
  }
  // Runs it under several schedules; every one must be right.
  void ExpectClean(std::string_view body, int threads = 64, int ctas = 1,
                   const TensorMap* map = nullptr) {
    for (int i = 0; i < 8; ++i) {
      const absl::Status status = Run(body, threads, ctas, map);
      ASSERT_TRUE(status.ok()) << status.ToString() << "\n" << bench_.AllFindings();
      ASSERT_TRUE(bench_.findings.empty()) << bench_.AllFindings();
    }
  }
  // Whatever the schedule, the finding comes.
  void ExpectFound(FindingKind kind, std::string_view what, std::string_view body, int threads = 64,
                   int ctas = 1, const TensorMap* map = nullptr) {
    for (int i = 0; i < 4; ++i) {
      (void)Run(body, threads, ctas, map);
      EXPECT_TRUE(bench_.Found(kind)) << NameOf(kind) << " is missing:\n" << bench_.AllFindings();
      EXPECT_NE(bench_.AllFindings().find(what), std::string::npos) << bench_.AllFindings();
    }
  }
  // Under every schedule something is found, and under some of them this.
  void ExpectFoundAtTimes(FindingKind kind, std::string_view what, std::string_view body) {
    bool found = false;
    for (int i = 0; i < 16; ++i) {
      (void)Run(body);
      EXPECT_FALSE(bench_.findings.empty());
      found |= bench_.Found(kind) && bench_.AllFindings().find(what) != std::string::npos;
    }
    EXPECT_TRUE(found) << NameOf(kind);
  }
  std::vector<uint32_t> Words(size_t n) { return bench_.Download<uint32_t>(out_, n); }

  Bench bench_;
  uint64_t seed_ = 0;
  uint64_t out_ = bench_.Upload(std::vector<uint32_t>(4096, 0xdead));
  uint64_t in_ = bench_.Upload([] {
    std::vector<uint32_t> values(4096);
    std::iota(values.begin(), values.end(), 0);
    return values;
  }());
};

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
constexpr std::string_view kReadBack =
    "mul.lo.u32 %r10, %r1, 4;\nadd.s32 %r10, %r10, %r3;\nld.shared.u32 %r11, [%r10];\n";
constexpr std::string_view kFillShared =
    "mul.lo.u32 %r10, %r1, 4;\nadd.s32 %r10, %r10, %r3;\nadd.u32 %r12, %r1, 7;\n"
    "st.shared.u32 [%r10], %r12;\n";
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

// ---- Tensor copies

using HopperTensorCopy = Hopper;

// in: a tensor [2][6][8] of u32.
TensorMap Tensor(uint64_t address, TensorType type, bool fill_nan, std::vector<uint32_t> box,
                 uint32_t step = 1) {
  static const uint64_t kSize[] = {8, 6, 2}, kStride[] = {32, 192};
  const uint32_t steps[] = {1, step, 1};
  TiledTensor tensor;
  tensor.data_type = static_cast<int>(type);
  tensor.rank = 3;
  tensor.oob_fill = fill_nan ? 1 : 0;
  tensor.global_address = address;
  tensor.global_dim = kSize;
  tensor.global_strides = kStride;
  tensor.box_dim = box.data();
  tensor.element_strides = steps;
  return EncodeTiled(tensor).value();
}

std::string LoadBox(int x, int y, int z, int bytes) {
  return StrCat(
      InitFor(1), "@%p1 mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r4], ", bytes,
      ";\n@%p1 cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
      "[%r3], [%rd3, {",
      x, ", ", y, ", ", z, "}], [%r4];\n", WaitParity(0), kReadBack, Out("%r11"));
}

TEST_F(HopperTensorCopy, LoadsABoxAndFillsWhatLiesOutside) {
  const TensorMap map = Tensor(in_, TensorType::kU32, false, {4, 4, 2});
  ExpectClean(LoadBox(-1, 4, 0, 128), 32, 1, &map);
  const std::vector<uint32_t> words = Words(32);
  // Lines y = 4, 5 are inside, 6, 7 are not; x = -1 is not.
  EXPECT_EQ(std::vector<uint32_t>(words.begin(), words.begin() + 8),
            (std::vector<uint32_t>{0, 32, 33, 34, 0, 40, 41, 42}));
  EXPECT_EQ(words[9], 0u);
  EXPECT_EQ(words[16 + 5], 48u + 40u);
  const TensorMap nan = Tensor(in_, TensorType::kF32, true, {4, 4, 2});
  ExpectClean(LoadBox(6, 0, 1, 128), 32, 1, &nan);
  EXPECT_EQ(Words(4)[1], 48u + 7u);
  EXPECT_EQ(Words(4)[2], 0x7fffffffu);
}

TEST_F(HopperTensorCopy, StepsOverElements) {
  const TensorMap map = Tensor(in_, TensorType::kU32, false, {4, 6, 1}, 2);
  ExpectClean(LoadBox(0, 1, 0, 48), 12, 1, &map);
  EXPECT_EQ(Words(12)[4], 24u);
  EXPECT_EQ(Words(12)[8], 40u);
}

TEST_F(HopperTensorCopy, StoresAndReducesOnlyWhatLiesInside) {
  const TensorMap map = Tensor(out_, TensorType::kU32, false, {4, 2, 1});
  ASSERT_TRUE(Run(Out("1000")).ok());
  const std::string fill = StrCat(kFillShared, "fence.proxy.async.shared::cta;\nbar.sync 0;\n");
  const std::string end = "@%p1 cp.async.bulk.commit_group;\n@%p1 cp.async.bulk.wait_group 0;\n";
  ExpectClean(
      StrCat(fill,
             "@%p1 cp.async.bulk.tensor.3d.global.shared::cta.tile.bulk_group [%rd3, {6, -1, 0}], "
             "[%r3];\n",
             end),
      32, 1, &map);
  EXPECT_EQ(Words(9)[5], 1000u);
  EXPECT_EQ(Words(9)[6], 11u);
  EXPECT_EQ(Words(9)[7], 12u);
  EXPECT_EQ(Words(9)[8], 1000u);
  ASSERT_TRUE(
      Run(StrCat(fill,
                 "@%p1 cp.reduce.async.bulk.tensor.3d.global.shared::cta.max.tile.bulk_group "
                 "[%rd3, {4, 0, 0}], [%r3];\n",
                 end),
          32, 1, &map)
          .ok());
  EXPECT_EQ(Words(8)[5], 1000u);
  EXPECT_EQ(Words(8)[6], 11u);  // 9 is less
}

TEST_F(HopperTensorCopy, WhatIsNoTensorMapIsFound) {
  const TensorMap none;
  ExpectFound(FindingKind::kBadOperand, "no tensor map", LoadBox(0, 0, 0, 16), 32, 1, &none);
}

TEST(TensorMapEncode, RefusesWhatTheDriverRefuses) {
  const uint64_t size[] = {64, 64}, stride[] = {128};
  const uint32_t box[] = {64, 8}, step[] = {1, 1};
  TiledTensor good;
  good.data_type = 9;
  good.rank = 2;
  good.swizzle = 3;
  good.global_address = 4096;
  good.global_dim = size;
  good.global_strides = stride;
  good.box_dim = box;
  good.element_strides = step;
  EXPECT_TRUE(EncodeTiled(good).ok());
  const uint64_t no_size[] = {0, 64}, odd_stride[] = {136}, huge_stride[] = {uint64_t{1} << 40};
  const uint32_t big_box[] = {64, 257}, odd_box[] = {7, 8}, no_step[] = {1, 0}, big_step[] = {1, 9};
  const std::pair<std::string_view, std::function<void(TiledTensor*)>> kWrong[] = {
      {"data type", [](auto* t) { t->data_type = 99; }},
      {"rank", [](auto* t) { t->rank = 6; }},
      {"rank", [](auto* t) { t->rank = 0; }},
      {"globalAddress", [](auto* t) { t->global_address = 4104; }},
      {"globalDim[0]", [&](auto* t) { t->global_dim = no_size; }},
      {"globalStrides[0]", [&](auto* t) { t->global_strides = odd_stride; }},
      {"globalStrides[0]", [&](auto* t) { t->global_strides = huge_stride; }},
      {"boxDim[1]", [&](auto* t) { t->box_dim = big_box; }},
      {"no multiple of 16", [&](auto* t) { t->box_dim = odd_box; }},
      {"elementStrides[1]", [&](auto* t) { t->element_strides = no_step; }},
      {"elementStrides[1]", [&](auto* t) { t->element_strides = big_step; }},
      {"the swizzle spans 64", [](auto* t) { t->swizzle = 2; }},
      {"NaN fill", [](auto* t) { t->data_type = 1, t->oob_fill = 1; }},
  };
  for (const auto& [what, spoil] : kWrong) {
    TiledTensor bad = good;
    spoil(&bad);
    const absl::Status status = EncodeTiled(bad).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << what;
    EXPECT_NE(status.message().find(std::string(what)), std::string::npos) << status.ToString();
  }
}

// ---- Clusters

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
