// The Blackwell GEMM as a program runs it: an object of nvcc, tensor maps by the driver's entry
// point, cudaLaunchKernelExC. Mutants of its PTX are vm_test's.
#include "tests/gpusim/kernels/blackwell_gemm.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <vector>

#include "tests/gpusim/blackwell_matrix.h"
#include "tests/gpusim/gates/shared_bytes.h"
#include "tests/gpusim/gemm_error.h"
#include "tests/gpusim/gpusim.h"

namespace trireme::gpusim {
namespace {

// Bytes on the device; none: a null pointer.
class DeviceBytes {
 public:
  explicit DeviceBytes(size_t size) {
    if (size == 0) return;
    EXPECT_EQ(cudaMalloc(&data_, size), cudaSuccess);
  }
  explicit DeviceBytes(const std::vector<uint8_t>& bytes) : DeviceBytes(bytes.size()) {
    EXPECT_EQ(cudaMemcpy(data_, bytes.data(), bytes.size(), cudaMemcpyHostToDevice), cudaSuccess);
  }
  DeviceBytes(const DeviceBytes&) = delete;
  DeviceBytes& operator=(const DeviceBytes&) = delete;
  ~DeviceBytes() { cudaFree(data_); }
  void* get() const { return data_; }

 private:
  void* data_ = nullptr;
};

struct Problem {
  const GemmKind* kind = &kBf16;
  int m = 128, n = 128, k = 256, ctas = 1;
};

cudaError_t Launch(const Problem& p, const blackwell::Gemm& gemm) {
  if (p.kind == &kE4m3) return blackwell::LaunchGemmE4m3(gemm, p.ctas, nullptr);
  if (p.kind == &kNvf4) return blackwell::LaunchGemmNvf4(gemm, p.ctas, nullptr);
  return blackwell::LaunchGemmBf16(gemm, p.ctas, nullptr);
}

void ExpectRight(const Problem& p, uint64_t seed) {
  SetSeed(seed);
  std::mt19937 random(7);
  const GemmMatrix a = RandomMatrix(*p.kind, p.m, p.k, &random);
  const GemmMatrix b = RandomMatrix(*p.kind, p.n, p.k, &random);
  const DeviceBytes on_a(a.bytes), on_b(b.bytes), scales_a(a.scales), scales_b(b.scales);
  std::vector<uint16_t> c(static_cast<size_t>(p.m * p.n));
  const DeviceBytes on_c(c.size() * 2);
  ASSERT_EQ(Launch(p, {on_a.get(), on_b.get(), scales_a.get(), scales_b.get(),
                       static_cast<__nv_bfloat16*>(on_c.get()), p.m, p.n, p.k}),
            cudaSuccess);
  ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  ASSERT_EQ(cudaMemcpy(c.data(), on_c.get(), c.size() * 2, cudaMemcpyDeviceToHost), cudaSuccess);
  const auto operand = [&p](const GemmMatrix& of) {
    return [&](int i, int q) { return of.values[static_cast<size_t>(i * p.k + q)]; };
  };
  EXPECT_LE(
      WorstGemmError(p.m, p.n, p.k, operand(a), operand(b),
                     [&](int i, int j) { return FromBf16(c[static_cast<size_t>(i * p.n + j)]); }),
      1);
  EXPECT_THAT(TakeFindings(), testing::IsEmpty());
}

TEST(BlackwellGemmTest, IsRightAndWithoutFindingsForEachTypeOfElement) {
  for (const GemmKind* kind : {&kBf16, &kE4m3, &kNvf4}) {
    const int k = 5 * kLine * 8 / kind->bits;  // more lines than stages
    for (uint64_t seed = 1; seed <= 2; ++seed) {
      SCOPED_TRACE(testing::Message() << kind->kernel << ", seed " << seed);
      ExpectRight({.kind = kind, .n = 256, .k = k}, seed);
    }
  }
}

TEST(BlackwellGemmTest, ClipsWhatLiesOutsideTheTensorsOnSeveralCtas) {
  ExpectRight({.m = 200, .n = 136, .k = 200, .ctas = 3}, 1);
}

TEST(BlackwellGemmTest, CountsItsMultiplicationsAndBytes) {
  ExpectRight({.n = 256, .k = 128}, 1);
  const Counters counters = CountersOfLastLaunch();
  EXPECT_EQ(counters.tcgen05, 2u * 2u * 4u);                  // tiles, lines, operations of a line
  EXPECT_EQ(counters.tma_bytes, 2u * 2u * 2u * 128u * 128u);  // tiles, lines, operands
}

TEST(BlackwellGemmTest, ARowThatATensorMapCannotHaveIsRefused) {
  const DeviceBytes a(128 * 200), b(128 * 200), c(128 * 128 * 2);
  EXPECT_EQ(blackwell::LaunchGemmBf16({a.get(), b.get(), nullptr, nullptr,
                                       static_cast<__nv_bfloat16*>(c.get()), 128, 128, 100},
                                      1, nullptr),
            cudaErrorInvalidValue);
}

TEST(BlackwellGemmTest, OperandsThatNobodyHasWrittenAreFound) {
  const DeviceBytes a(128 * 128), b(128 * 128), c(128 * 128 * 2);
  ASSERT_EQ(blackwell::LaunchGemmE4m3({a.get(), b.get(), nullptr, nullptr,
                                       static_cast<__nv_bfloat16*>(c.get()), 128, 128, 128},
                                      1, nullptr),
            cudaSuccess);
  ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  const std::vector<Finding> findings = TakeFindings();
  ASSERT_FALSE(findings.empty());
  EXPECT_EQ(findings[0].kind, FindingKind::kUninitializedGlobal);
}

TEST(BlackwellGemmTest, TheGatesKnowTheSharedMemoryItTakes) {
  EXPECT_EQ(GatedSharedBytes("blackwell_gemm.cu"), blackwell::kGemmSharedBytes);
}

}  // namespace
}  // namespace trireme::gpusim
