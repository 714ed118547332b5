// What the tests of Hopper's copies and barriers share: a kernel around a few lines of PTX.
#pragma once

#include <gtest/gtest.h>

#include <numeric>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/base/strings.h"
#include "tests/gpusim/vm/tensor_map.h"
#include "tests/gpusim/vm_test/hopper_harness.h"

namespace trireme::gpusim {

// A kernel (out, in, map): %rd1 = out, %rd2 = in, %rd3 = map, %r1 = tid, %r2 = rank in the cluster;
// `smem` of 4096 bytes, an mbarrier at smem + 4096.
inline std::string Kernel(std::string_view body) {
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
inline std::string InitFor(int count) {
  return StrCat("@%p1 mbarrier.init.shared::cta.b64 [%r4], ", count,
                ";\n@%p1 fence.mbarrier_init.release.cluster;\nbar.sync 0;\n");
}
inline std::string WaitParity(int parity) {
  static int label = 0;
  ++label;
  return StrCat("W", label, ":\nmbarrier.try_wait.parity.shared::cta.b64 %p2, [%r4], ", parity,
                ";\n@!%p2 bra W", label, ";\n");
}
// out[tid] = register
inline std::string Out(std::string_view reg) {
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

inline constexpr std::string_view kReadBack =
    "mul.lo.u32 %r10, %r1, 4;\nadd.s32 %r10, %r10, %r3;\nld.shared.u32 %r11, [%r10];\n";
inline constexpr std::string_view kFillShared =
    "mul.lo.u32 %r10, %r1, 4;\nadd.s32 %r10, %r10, %r3;\nadd.u32 %r12, %r1, 7;\n"
    "st.shared.u32 [%r10], %r12;\n";
}  // namespace trireme::gpusim
