// The Hopper GEMM as a program runs it: an object of nvcc, tensor maps by the driver's entry point,
// cudaLaunchKernelExC.
#include "tests/gpusim/kernels/hopper_gemm.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <vector>

#include "tests/gpusim/gemm_error.h"
#include "tests/gpusim/gpusim.h"

namespace trireme::gpusim {
namespace {

using Bf16 = __nv_bfloat16;

// [rows][columns] on the device; its values here.
class Matrix {
 public:
  Matrix(int rows, int columns, uint64_t seed) : columns_(columns) {
    std::mt19937_64 random(seed);
    std::normal_distribution<float> normal;
    values_.resize(static_cast<size_t>(rows) * static_cast<size_t>(columns));
    for (Bf16& value : values_) value = __float2bfloat16(normal(random));
    EXPECT_EQ(cudaMalloc(&data_, bytes()), cudaSuccess);
  }
  Matrix(const Matrix&) = delete;
  Matrix& operator=(const Matrix&) = delete;
  ~Matrix() { cudaFree(data_); }

  Matrix& Upload() {
    EXPECT_EQ(cudaMemcpy(data_, values_.data(), bytes(), cudaMemcpyHostToDevice), cudaSuccess);
    return *this;
  }
  void Download() {
    EXPECT_EQ(cudaMemcpy(values_.data(), data_, bytes(), cudaMemcpyDeviceToHost), cudaSuccess);
  }
  float operator()(int row, int column) const {
    return __bfloat162float(values_[static_cast<size_t>(row) * static_cast<size_t>(columns_) +
                                    static_cast<size_t>(column)]);
  }
  Bf16* data() { return data_; }

 private:
  size_t bytes() const { return values_.size() * sizeof(Bf16); }

  const int columns_;
  std::vector<Bf16> values_;
  Bf16* data_ = nullptr;
};

struct Shape {
  int m, n, k;
};

void ExpectRight(const Shape& shape, uint64_t seed) {
  SetSeed(seed);
  Matrix a(shape.m, shape.k, 1), b(shape.n, shape.k, 2), c(shape.m, shape.n, 3);
  a.Upload();
  b.Upload();
  ASSERT_EQ(hopper::LaunchGemm(a.data(), b.data(), c.data(), shape.m, shape.n, shape.k, nullptr),
            cudaSuccess);
  ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  c.Download();
  EXPECT_LE(WorstGemmError(shape.m, shape.n, shape.k, a, b, c), 1);
  EXPECT_THAT(TakeFindings(), testing::IsEmpty());
}

TEST(HopperGemmTest, IsRightAndWithoutFindings) {
  for (uint64_t seed = 1; seed <= 3; ++seed) ExpectRight({256, 256, 320}, seed);
}

TEST(HopperGemmTest, ClipsWhatLiesOutsideTheTensors) { ExpectRight({200, 136, 200}, 1); }

TEST(HopperGemmTest, CountsItsMultiplicationsAndBytes) {
  ExpectRight({128, 256, 256}, 1);
  const Counters counters = CountersOfLastLaunch();
  EXPECT_EQ(counters.wgmma, 2u * 2u * 4u * 4u);  // CTAs, warpgroups, steps, k of 16
  EXPECT_EQ(counters.tma_bytes, 2u * (4u * 2u * 128u * 64u * 2u + 128u * 128u * 2u));
}

TEST(HopperGemmTest, AShapeThatATensorMapCannotHaveIsRefused) {
  Matrix a(128, 100, 1), b(128, 100, 2), c(128, 128, 3);
  EXPECT_EQ(hopper::LaunchGemm(a.data(), b.data(), c.data(), 128, 128, 100, nullptr),
            cudaErrorInvalidValue);
}

TEST(HopperGemmTest, OperandsThatNobodyHasWrittenAreFound) {
  Matrix a(128, 64, 1), b(128, 64, 2), c(128, 128, 3);
  a.Upload();
  ASSERT_EQ(hopper::LaunchGemm(a.data(), b.data(), c.data(), 128, 128, 64, nullptr), cudaSuccess);
  ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  const std::vector<Finding> findings = TakeFindings();
  ASSERT_FALSE(findings.empty());
  EXPECT_EQ(findings[0].kind, FindingKind::kUninitializedGlobal);
}

TEST(DriverEntryPointTest, AFunctionThatIsNotThereIsNotFound) {
  void* function = &function;
  cudaDriverEntryPointQueryResult result = cudaDriverEntryPointSuccess;
  EXPECT_EQ(cudaGetDriverEntryPointByVersion("cuFrobnicate", &function, 12000, cudaEnableDefault,
                                             &result),
            cudaSuccess);
  EXPECT_EQ(function, nullptr);
  EXPECT_EQ(result, cudaDriverEntryPointSymbolNotFound);
}

}  // namespace
}  // namespace trireme::gpusim
