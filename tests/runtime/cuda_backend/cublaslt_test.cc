// Products by cuBLASLt beside those of our own kernels, through the backend. Whole numbers, so that
// no order of additions rounds: both must be exact.
#include <cuda_runtime_api.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <vector>

#include "runtime/backend/cuda_backend.h"
#include "runtime/backend/cuda_cublaslt.h"
#include "runtime/base/quant_formats.h"
#if TRIREME_GPUSIM
#include "tests/gpusim/gpusim.h"
#endif

namespace trireme {
namespace {

constexpr int64_t kCols = 64;

// Of -1, 0 and 1.
std::vector<float> Whole(int64_t n, std::mt19937* random) {
  std::vector<float> values(static_cast<size_t>(n));
  for (float& value : values) value = static_cast<float>((*random)() % 3) - 1;
  return values;
}

std::vector<uint8_t> Narrow(DType type, const std::vector<float>& values) {
  std::vector<uint8_t> bytes;
  for (const float value : values) {
    const uint16_t narrow = type == DType::kBF16 ? FloatToBF16(value) : FloatToF16(value);
    bytes.insert(bytes.end(), {static_cast<uint8_t>(narrow), static_cast<uint8_t>(narrow >> 8)});
  }
  return bytes;
}

// Blocks of 32: a scale of 1, then codes of value + 8, those 16 apart in one byte.
std::vector<uint8_t> PackQ4_0(const std::vector<float>& values) {
  std::vector<uint8_t> bytes;
  for (size_t block = 0; block < values.size(); block += 32) {
    bytes.insert(bytes.end(), {0x00, 0x3c});
    for (size_t i = block; i < block + 16; ++i) {
      const int low = static_cast<int>(values[i]) + 8, high = static_cast<int>(values[i + 16]) + 8;
      bytes.push_back(static_cast<uint8_t>(low | high << 4));
    }
  }
  return bytes;
}

// A matrix of stacked parts with a bias, in the file's types.
struct Stacked {
  struct Part {
    DType dtype;
    int64_t rows;
  };
  Stacked(std::vector<Part> of, bool with_bias, std::mt19937* random) {
    for (const Part& part : of) {
      const std::vector<float> w = Whole(part.rows * kCols, random);
      values.insert(values.end(), w.begin(), w.end());
      bytes.push_back(part.dtype == DType::kQ4_0 ? PackQ4_0(w) : Narrow(part.dtype, w));
      parts.push_back(
          {.data = bytes.back().data(), .dtype = part.dtype, .shape = {part.rows, kCols}});
      if (with_bias) biases.push_back(Whole(part.rows, random));
      rows += part.rows;
    }
    for (const std::vector<float>& b : biases) {
      bias.push_back(
          {.data = b.data(), .dtype = DType::kF32, .shape = {static_cast<int64_t>(b.size())}});
      added.insert(added.end(), b.begin(), b.end());
    }
    added.resize(static_cast<size_t>(rows));
  }
  std::vector<float> Times(const std::vector<float>& x) const {
    std::vector<float> y;
    for (size_t t = 0; t < x.size(); t += kCols) {
      for (size_t r = 0; r < static_cast<size_t>(rows); ++r) {
        y.push_back(added[r]);
        for (size_t c = 0; c < kCols; ++c) y.back() += values[r * kCols + c] * x[t + c];
      }
    }
    return y;
  }
  int64_t rows = 0;
  std::vector<float> values, added;
  std::vector<std::vector<uint8_t>> bytes;
  std::vector<std::vector<float>> biases;
  std::vector<TensorView> parts, bias;
};

class CublasLtTest : public testing::TestWithParam<DType> {
 protected:
  void SetUp() override {
    if (!CountCudaDevices().ok()) GTEST_SKIP() << "skipped: no GPU";
    if (!HasCublasLt()) GTEST_SKIP() << "skipped: a build without cuBLASLt";
    backend_ = Make(Gemm::kCublasLt);
  }
  std::unique_ptr<Backend> Make(Gemm gemm) {
    auto backend = MakeCudaBackend({.dtype = GetParam(), .gemm = gemm});
    EXPECT_TRUE(backend.ok()) << backend.status();
    return *std::move(backend);
  }
  // Device memory that holds `bytes`.
  std::unique_ptr<Buffer> Upload(const std::vector<uint8_t>& bytes) {
    auto buffer = *backend_->Allocate(bytes.size());
    EXPECT_TRUE(backend_->Synchronize().ok());
    EXPECT_EQ(cudaMemcpy(buffer->data(), bytes.data(), bytes.size(), cudaMemcpyDefault),
              cudaSuccess);
    return buffer;
  }
  // y [tokens, y_cols] of what the backend computes; its first w.rows() columns.
  absl::StatusOr<std::vector<float>> Multiply(const Weight& w, const std::vector<float>& x,
                                              DType out, int64_t y_cols) {
    const int64_t tokens = static_cast<int64_t>(x.size()) / kCols;
    const auto on_device = Upload(Narrow(GetParam(), x));
    std::vector<uint8_t> raw(static_cast<size_t>(tokens * RowBytes(out, y_cols)));
    const auto y = Upload(raw);
    backend_->MatMul(w, {on_device->data(), GetParam(), tokens, kCols},
                     {y->data(), out, tokens, y_cols});
    if (absl::Status status = backend_->Synchronize(); !status.ok()) return status;
    EXPECT_EQ(cudaMemcpy(raw.data(), y->data(), raw.size(), cudaMemcpyDefault), cudaSuccess);
    std::vector<float> row(static_cast<size_t>(y_cols)), values;
    for (int64_t t = 0; t < tokens; ++t) {
      DequantizeRow(out, raw.data() + t * RowBytes(out, y_cols), y_cols, row.data());
      values.insert(values.end(), row.begin(), row.begin() + w.rows());
    }
    return values;
  }
  std::mt19937 random_{1};
  std::unique_ptr<Backend> backend_;
};
INSTANTIATE_TEST_SUITE_P(Types, CublasLtTest, testing::Values(DType::kBF16, DType::kF16),
                         [](const auto& info) { return std::string(DTypeName(info.param)); });

TEST_P(CublasLtTest, ProductsAreThoseOfTheirDefinitionForAnyNumberOfTokens) {
  for (const bool bias : {false, true}) {
    const Stacked w({{GetParam(), 48}, {DType::kQ4_0, 32}, {GetParam(), 24}}, bias, &random_);
    const auto prepared = backend_->PrepareMatrix(w.parts, w.bias);
    ASSERT_TRUE(prepared.ok()) << prepared.status();
    for (const int64_t tokens : {1, 7, 128, 200}) {
      const std::vector<float> x = Whole(tokens * kCols, &random_);
      for (const DType out : {GetParam(), DType::kF32}) {
        for (const int64_t y_cols : {w.rows, w.rows + 4}) {
          const auto y = Multiply(**prepared, x, out, y_cols);
          ASSERT_TRUE(y.ok()) << y.status();
          EXPECT_EQ(*y, w.Times(x)) << tokens << " tokens, columns of y: " << y_cols;
        }
      }
    }
  }
}

// More shapes than plans are kept, twice.
TEST_P(CublasLtTest, AShapeMayComeBackAfterManyOthers) {
  const Stacked w({{GetParam(), 8}}, false, &random_);
  const auto prepared = backend_->PrepareMatrix(w.parts, {});
  ASSERT_TRUE(prepared.ok()) << prepared.status();
  const std::vector<float> x = Whole(700 * kCols, &random_);
  const std::vector<float> want = w.Times(x);
  for (int round = 0; round < 2; ++round) {
    for (int64_t tokens = 1; tokens <= 700; tokens += 1) {
      const auto y = Multiply(**prepared, {x.begin(), x.begin() + tokens * kCols}, DType::kF32, 8);
      ASSERT_TRUE(y.ok()) << y.status();
      ASSERT_TRUE(std::equal(y->begin(), y->end(), want.begin())) << tokens;
    }
  }
}

TEST(CublasLtChoiceTest, TakesPlainWeightsInRowsFromManyTokensOn) {
  cuda::PackedMatrix rows{.layout = cuda::MatrixLayout::kRows}, fragments;
  EXPECT_FALSE(UsesCublasLt(rows, /*own_kernels_take_rows=*/true, kMinCublasLtTokens - 1));
  EXPECT_TRUE(UsesCublasLt(rows, true, kMinCublasLtTokens));
  EXPECT_FALSE(UsesCublasLt(fragments, true, 4096));
}

TEST(CublasLtChoiceTest, TakesAnyNumberOfTokensWhereOwnKernelsDoNotReadRows) {
  cuda::PackedMatrix rows{.layout = cuda::MatrixLayout::kRows}, fragments;
  EXPECT_TRUE(UsesCublasLt(rows, /*own_kernels_take_rows=*/false, 1));
  EXPECT_FALSE(UsesCublasLt(fragments, false, 4096));
}

#if TRIREME_GPUSIM
// A call that fails on demand tells who was called.
TEST_P(CublasLtTest, IsCalledForPlainWeightsAloneAndOnlyWhereItWasAskedFor) {
  const Stacked plain({{GetParam(), 16}}, false, &random_),
      quantized({{DType::kQ4_0, 16}}, false, &random_);
  const std::vector<float> x = Whole(kMinCublasLtTokens * kCols, &random_);
  const auto calls_it = [&](Gemm gemm, const Stacked& w) {
    backend_ = Make(gemm);
    const auto prepared = backend_->PrepareMatrix(w.parts, {});
    EXPECT_TRUE(prepared.ok()) << prepared.status();
    gpusim::InjectFault({.kind = gpusim::FaultKind::kCublasLtCall, .call = 1});
    const auto y = Multiply(**prepared, x, DType::kF32, w.rows);
    gpusim::ClearFaults();
    if (!y.ok()) EXPECT_THAT(std::string(y.status().message()), testing::HasSubstr("cuBLASLt"));
    return !y.ok();
  };
  EXPECT_TRUE(calls_it(Gemm::kCublasLt, plain));
  EXPECT_FALSE(calls_it(Gemm::kCublasLt, quantized));
  EXPECT_FALSE(calls_it(Gemm::kOwn, plain));
}

TEST_P(CublasLtTest, ACallThatFailsIsAnErrorOfTheDevice) {
  const Stacked w({{GetParam(), 16}}, true, &random_);
  const std::vector<float> x = Whole(kMinCublasLtTokens * kCols, &random_);
  uint64_t nth = 1;
  for (;; ++nth) {
    ASSERT_LT(nth, 50u);
    backend_ = Make(Gemm::kCublasLt);
    const auto prepared = backend_->PrepareMatrix(w.parts, w.bias);
    ASSERT_TRUE(prepared.ok()) << prepared.status();
    gpusim::InjectFault({.kind = gpusim::FaultKind::kCublasLtCall, .call = nth});
    const auto y = Multiply(**prepared, x, GetParam(), w.rows);
    gpusim::ClearFaults();
    if (y.ok()) break;
    EXPECT_TRUE(absl::IsInternal(y.status())) << y.status();
  }
  EXPECT_GT(nth, 10u) << "descriptors, preferences, the choice and the product";
}
#endif

}  // namespace
}  // namespace trireme
