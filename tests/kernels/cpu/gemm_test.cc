// Matrix products of every instruction set and element type against double precision on the
// dequantised weights.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/isa.h"
#include "runtime/base/quant_formats.h"
#include "tests/kernels/cpu/quantized_matrix.h"

namespace trireme::cpu {

// gemm_avx512.cc compiled against SIMDe (gemm_avx512_emulated.cc): "avx512-emulated" runs
// everywhere and shows that the AVX-512 code is right; "avx512" is the shipped object and runs
// where the CPU has the instructions.
void FillGemmAvx512Emulated(Kernels* table);

namespace {

struct Isa {
  std::string name;
  void (*fill)(Kernels*);
  bool supported;
};

std::vector<Isa> Isas() {
  const bool avx2 = FindKernels("avx2") != nullptr;
  return {{"portable", FillGemmPortable, true},
          {"avx2", FillGemmAvx2, avx2},
          {"avx512", FillGemmAvx512, FindKernels("avx512") != nullptr},
          {"avx512_emulated", FillGemmAvx512Emulated, avx2}};
}

constexpr DType kAllTypes[] = {DType::kF32,  DType::kF16,  DType::kBF16, DType::kQ4_0,
                               DType::kQ4_1, DType::kQ5_0, DType::kQ5_1, DType::kQ8_0,
                               DType::kQ4_K, DType::kQ5_K, DType::kQ6_K};

// A packed matrix and the activations of some tokens in the form that it reads.
class Product {
 public:
  Product(const Kernels& kernels, const QuantizedMatrix& w) : kernels_(kernels) {
    m_ = PlanMatrix(w.type, w.rows, w.cols);
    storage_.resize(m_.size_bytes() + 64);
    m_.data = storage_.data() + (-reinterpret_cast<uintptr_t>(storage_.data()) & 63);
    std::memset(m_.data, 0xee, m_.size_bytes());  // packing must write everything, the padding too
    PackPanels(w.bytes.data(), w.row_bytes(), 0, m_.num_panels, m_);
  }

  void SetActivations(const std::vector<float>& x) {
    num_tokens_ = static_cast<int64_t>(x.size()) / m_.cols;
    floats_ = x;
    if (!IsQuantized(m_.source)) return;
    const int64_t per_row = m_.cols / kBlock;
    blocks_.resize(num_tokens_ * per_row);
    for (int64_t i = 0; i < num_tokens_; ++i) {
      kernels_.quantize_activation(x.data() + i * m_.cols, m_.cols, &blocks_[i * per_row]);
    }
  }

  // Tokens [first, first + count) by panels [panel_begin, panel_end).
  void Run(int64_t first, int64_t count, const float* bias, int64_t panel_begin, int64_t panel_end,
           float* y, int64_t y_stride) const {
    const bool quantized = IsQuantized(m_.source);
    const int64_t stride =
        quantized ? m_.cols / kBlock * sizeof(ActivationBlock) : m_.cols * sizeof(float);
    const auto* x = quantized ? reinterpret_cast<const uint8_t*>(blocks_.data())
                              : reinterpret_cast<const uint8_t*>(floats_.data());
    kernels_.matmul(m_, x + first * stride, stride, count, bias, panel_begin, panel_end,
                    y + first * y_stride, y_stride);
  }
  std::vector<float> RunAll(const float* bias = nullptr) const {
    std::vector<float> y(num_tokens_ * m_.rows, -1e30f);
    Run(0, num_tokens_, bias, 0, m_.num_panels, y.data(), m_.rows);
    return y;
  }

  // Activation k of token i as the kernel sees it.
  double Activation(int64_t i, int64_t k) const {
    if (!IsQuantized(m_.source)) return floats_[i * m_.cols + k];
    const ActivationBlock& block = blocks_[(i * m_.cols + k) / kBlock];
    return static_cast<double>(block.scale) * block.q[k % kBlock];
  }
  const PackedMatrix& matrix() const { return m_; }
  int64_t num_tokens() const { return num_tokens_; }

 private:
  const Kernels& kernels_;
  PackedMatrix m_;
  std::vector<uint8_t> storage_;
  std::vector<float> floats_;
  std::vector<ActivationBlock> blocks_;
  int64_t num_tokens_ = 0;
};

class GemmTest : public testing::TestWithParam<std::tuple<int, DType>> {
 protected:
  void SetUp() override {
    const Isa isa = Isas()[std::get<0>(GetParam())];
    if (!isa.supported) GTEST_SKIP() << "this CPU has no " << isa.name;
    isa.fill(&kernels_);
  }
  DType type() const { return std::get<1>(GetParam()); }
  std::vector<float> RandomFloats(int64_t n) {
    std::normal_distribution<float> normal(0.0f, 1.0f);
    std::vector<float> x(n);
    for (float& v : x) v = normal(random_);
    return x;
  }
  std::vector<int64_t> Depths() const {  // K
    if (BlockSize(type()) == 256) return {256, 1536};
    if (IsQuantized(type())) return {32, 64, 576, 1536};
    return {1, 2, 33, 576, 1536};
  }

  Kernels kernels_ = {};
  std::mt19937 random_{7};
};

// Every rounding of the F32 accumulation is at most 2^-24 of the largest partial sum, which is at
// most max|w| sum|x| per output; there are at most two additions and one product per block (one
// fused step per element for plain types), and one more for the bias.
double Tolerance(const Product& product, const QuantizedMatrix& w, int64_t token) {
  double magnitude = 0;
  for (int64_t k = 0; k < w.cols; ++k) magnitude += std::abs(product.Activation(token, k));
  const int64_t steps = IsQuantized(w.type) ? 4 * (w.cols / kBlock) : w.cols;
  return (static_cast<double>(steps) + 2) * 0x1p-24 * (w.magnitude * magnitude + 1.0);
}

TEST_P(GemmTest, MatchesDoublePrecisionOnDequantizedWeights) {
  for (int64_t cols : Depths()) {
    for (int64_t rows : {1, 31, 45, 64}) {
      const QuantizedMatrix w = RandomMatrix(type(), rows, cols, &random_);
      Product product(kernels_, w);
      const std::vector<float> bias = RandomFloats(rows);
      product.SetActivations(RandomFloats(7 * cols));
      const std::vector<float> y = product.RunAll(bias.data());
      for (int64_t i = 0; i < 7; ++i) {
        const double tolerance = Tolerance(product, w, i);
        for (int64_t j = 0; j < rows; ++j) {
          double expected = bias[j];
          for (int64_t k = 0; k < cols; ++k) {
            expected += product.Activation(i, k) * w.values[j * cols + k];
          }
          ASSERT_NEAR(y[i * rows + j], expected, tolerance)
              << "N=" << rows << " K=" << cols << " token " << i << " column " << j;
        }
      }
    }
  }
}

TEST_P(GemmTest, OneTokenHasTheSameBitsInEveryBatch) {
  for (int64_t cols : Depths()) {
    const int64_t rows = 45;
    Product product(kernels_, RandomMatrix(type(), rows, cols, &random_));
    product.SetActivations(RandomFloats(64 * cols));
    const std::vector<float> bias = RandomFloats(rows);
    std::vector<float> alone(64 * rows);
    for (int64_t i = 0; i < 64; ++i) product.Run(i, 1, bias.data(), 0, 2, alone.data(), rows);
    for (int64_t batch : {2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 32, 64}) {
      std::vector<float> y(64 * rows);
      product.Run(0, batch, bias.data(), 0, 2, y.data(), rows);
      ASSERT_EQ(std::memcmp(y.data(), alone.data(), batch * rows * sizeof(float)), 0)
          << "K=" << cols << " M=" << batch;
    }
  }
}

TEST_P(GemmTest, PanelsAreIndependentAndNothingElseIsWritten) {
  const int64_t rows = 109, cols = BlockSize(type()) == 256 ? 256 : 64, stride = rows + 3;
  Product product(kernels_, RandomMatrix(type(), rows, cols, &random_));
  product.SetActivations(RandomFloats(9 * cols));
  const std::vector<float> bias = RandomFloats(rows);
  std::vector<float> whole(9 * stride, -5.0f), split(9 * stride, -5.0f);
  product.Run(0, 9, bias.data(), 0, 4, whole.data(), stride);
  for (int64_t p : {2, 0, 3, 1}) product.Run(0, 9, bias.data(), p, p + 1, split.data(), stride);
  EXPECT_EQ(std::memcmp(whole.data(), split.data(), whole.size() * sizeof(float)), 0);
  for (int64_t i = 0; i < 9; ++i) {
    for (int64_t j = rows; j < stride; ++j) EXPECT_EQ(whole[i * stride + j], -5.0f);
  }
}

TEST_P(GemmTest, NoTokensAreNoWork) {
  const int64_t rows = 109, cols = BlockSize(type()) == 256 ? 256 : 64;
  Product product(kernels_, RandomMatrix(type(), rows, cols, &random_));
  product.SetActivations(RandomFloats(cols));
  std::vector<float> y(rows, -5.0f);
  product.Run(0, 0, nullptr, 0, 4, y.data(), rows);
  EXPECT_THAT(y, testing::Each(-5.0f));
}

// Whole numbers everywhere: the result is exact, so the integer arithmetic is checked to the last
// bit, with the codes and activations at their extremes (where 16-bit sums would saturate).
TEST_P(GemmTest, ExtremeCodesAndActivationsAreExact) {
  if (!IsQuantized(type())) GTEST_SKIP() << "no codes";
  const int64_t cols = BlockSize(type()) == 256 ? 512 : 576, rows = 40;
  for (int pattern = 0; pattern < 4; ++pattern) {
    const QuantizedMatrix w = ExtremeMatrix(type(), rows, cols, pattern, &random_);
    Product product(kernels_, w);
    std::vector<float> x(4 * cols);
    for (int64_t k = 0; k < cols; ++k) {
      x[k] = 127.0f;
      x[cols + k] = -127.0f;
      x[2 * cols + k] = k % 2 == 0 ? 127.0f : -127.0f;
      x[3 * cols + k] = w.values[k] < 0 ? -127.0f : 127.0f;  // all products of row 0 positive
    }
    product.SetActivations(x);
    const std::vector<float> y = product.RunAll();
    for (int64_t i = 0; i < 4; ++i) {
      for (int64_t j = 0; j < rows; ++j) {
        int64_t expected = 0;
        for (int64_t k = 0; k < cols; ++k) {
          expected +=
              static_cast<int64_t>(x[i * cols + k]) * static_cast<int64_t>(w.values[j * cols + k]);
        }
        ASSERT_LT(std::abs(expected), 1 << 24) << "the test's own range";
        ASSERT_EQ(y[i * rows + j], static_cast<float>(expected))
            << "pattern " << pattern << " token " << i << " column " << j;
      }
    }
  }
}

TEST_P(GemmTest, RandomBytesAsWeightsDoNotCrash) {
  const int64_t rows = 33, cols = 512;
  QuantizedMatrix w = RandomMatrix(type(), rows, cols, &random_);
  for (uint8_t& byte : w.bytes) byte = static_cast<uint8_t>(random_());
  Product product(kernels_, w);
  product.SetActivations(RandomFloats(3 * cols));
  const std::vector<float> y = product.RunAll();  // may be anything, but the same in every batch
  std::vector<float> alone(3 * rows);
  for (int64_t i = 0; i < 3; ++i) product.Run(i, 1, nullptr, 0, 2, alone.data(), rows);
  for (size_t i = 0; i < y.size(); ++i) {
    if (!std::isnan(y[i])) {
      EXPECT_EQ(y[i], alone[i]);
    }
    EXPECT_EQ(std::isnan(y[i]), std::isnan(alone[i]));
  }
}

TEST_P(GemmTest, NanAndInfinityPoisonTheirTokenOnly) {
  const int64_t rows = 33, cols = BlockSize(type()) == 256 ? 256 : 64;
  Product product(kernels_, RandomMatrix(type(), rows, cols, &random_));
  std::vector<float> x = RandomFloats(4 * cols);
  x[1 * cols + 5] = std::numeric_limits<float>::quiet_NaN();
  x[2 * cols + cols - 1] = -std::numeric_limits<float>::infinity();
  product.SetActivations(x);
  const std::vector<float> y = product.RunAll();
  for (int64_t j = 0; j < rows; ++j) {
    EXPECT_TRUE(std::isfinite(y[j]));
    EXPECT_TRUE(std::isnan(y[rows + j]));
    EXPECT_FALSE(std::isfinite(y[2 * rows + j]));
    EXPECT_TRUE(std::isfinite(y[3 * rows + j]));
  }
}

std::string ParamName(const testing::TestParamInfo<std::tuple<int, DType>>& info) {
  return Isas()[std::get<0>(info.param)].name + "_" +
         std::string(DTypeName(std::get<1>(info.param)));
}
INSTANTIATE_TEST_SUITE_P(AllIsas, GemmTest,
                         testing::Combine(testing::Range(0, 4), testing::ValuesIn(kAllTypes)),
                         ParamName);

class PackTest : public testing::TestWithParam<DType> {};

TEST_P(PackTest, UnpackRowGivesTheBitsOfTheFile) {
  std::mt19937 random(3);
  Kernels kernels = {};
  FillGemmPortable(&kernels);
  const int64_t rows = 70, cols = IsQuantized(GetParam()) ? 512 : 37;
  QuantizedMatrix w = RandomMatrix(GetParam(), rows, cols, &random);
  Product product(kernels, w);
  std::vector<float> row(cols);
  for (int64_t r = 0; r < rows; ++r) {
    UnpackRow(product.matrix(), r, row.data());
    for (int64_t k = 0; k < cols; ++k) ASSERT_EQ(row[k], w.values[r * cols + k]) << r << " " << k;
  }
}
INSTANTIATE_TEST_SUITE_P(AllTypes, PackTest, testing::ValuesIn(kAllTypes),
                         [](const auto& info) { return std::string(DTypeName(info.param)); });

class QuantizeActivationTest : public testing::TestWithParam<int> {};

TEST_P(QuantizeActivationTest, EveryInstructionSetGivesTheSameBits) {
  const Isa isa = Isas()[GetParam()];
  if (!isa.supported) GTEST_SKIP() << "this CPU has no " << isa.name;
  Kernels kernels = {}, portable = {};
  isa.fill(&kernels);
  FillGemmPortable(&portable);
  std::mt19937 random(11);
  std::vector<float> x(64 * kBlock);
  for (float& v : x) v = std::bit_cast<float>(static_cast<uint32_t>(random()));  // any bits
  for (int b = 0; b < 32; ++b) {
    for (int i = 0; i < kBlock; ++i) {  // ordinary values, and ties at half steps
      x[b * kBlock + i] = static_cast<float>(static_cast<int>(random() % 509) - 254) / 2.0f;
    }
  }
  for (int i = 0; i < kBlock; ++i) x[i] = 0.0f;
  for (int i = 0; i < kBlock; ++i) x[kBlock + i] = 1e-42f;
  std::vector<ActivationBlock> a(64), b(64);
  kernels.quantize_activation(x.data(), 64 * kBlock, a.data());
  portable.quantize_activation(x.data(), 64 * kBlock, b.data());
  for (int i = 0; i < 64; ++i) {
    EXPECT_EQ(std::memcmp(a[i].q, b[i].q, kBlock), 0) << i;
    EXPECT_EQ(a[i].sum[0], b[i].sum[0]);
    EXPECT_EQ(a[i].sum[1], b[i].sum[1]);
    EXPECT_TRUE(a[i].scale == b[i].scale || (std::isnan(a[i].scale) && std::isnan(b[i].scale)));
    for (int8_t q : a[i].q) EXPECT_GE(q, -127);
  }
  EXPECT_EQ(a[0].scale, 0.0f);
  EXPECT_EQ(a[1].scale, 0.0f);
}
INSTANTIATE_TEST_SUITE_P(AllIsas, QuantizeActivationTest, testing::Range(0, 4),
                         [](const auto& info) { return Isas()[info.param].name; });

}  // namespace
}  // namespace trireme::cpu
