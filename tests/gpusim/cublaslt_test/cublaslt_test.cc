#include <cublasLt.h>
#include <cuda_runtime_api.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

#include "tests/gpusim/gpusim.h"
#include "tests/gpusim/vm/fp8.h"
#include "tests/gpusim/vm/numbers.h"

namespace trireme::gpusim {
namespace {

using testing::ElementsAre;

// Whole numbers that every format holds, and so do their sums: results are exact.
std::vector<float> Whole(size_t n, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<float> values(n);
  for (float& value : values) value = static_cast<float>(random() % 5) - 2;
  return values;
}

// [n] of a type, on the device.
class Buffer {
 public:
  Buffer(const std::vector<float>& values, cudaDataType type)
      : type_(type), n_(values.size()), bytes_(n_ * Size()) {
    std::vector<char> raw(bytes_);
    for (size_t i = 0; i < n_; ++i) Put(values[i], &raw[i * Size()]);
    EXPECT_EQ(cudaMalloc(&data, bytes_), cudaSuccess);
    EXPECT_EQ(cudaMemcpy(data, raw.data(), bytes_, cudaMemcpyDefault), cudaSuccess);
  }
  ~Buffer() { cudaFree(data); }
  std::vector<float> Values() const {
    std::vector<char> raw(bytes_);
    EXPECT_EQ(cudaMemcpy(raw.data(), data, bytes_, cudaMemcpyDefault), cudaSuccess);
    std::vector<float> values;
    for (size_t i = 0; i < n_; ++i) values.push_back(Get(&raw[i * Size()]));
    return values;
  }
  void* data = nullptr;

 private:
  size_t Size() const { return type_ == CUDA_R_32F ? 4 : type_ == CUDA_R_8F_E4M3 ? 1 : 2; }
  void Put(float value, char* to) const {
    const uint16_t half = type_ == CUDA_R_16BF ? ToBf16(value) : ToF16(value);
    const uint8_t byte = ToE4m3(value);
    std::memcpy(to,
                Size() == 4   ? static_cast<const void*>(&value)
                : Size() == 1 ? static_cast<const void*>(&byte)
                              : static_cast<const void*>(&half),
                Size());
  }
  float Get(const char* from) const {
    float value;
    uint16_t half;
    if (Size() == 1) return FromE4m3(static_cast<uint8_t>(*from));
    std::memcpy(&half, from, 2);
    if (Size() == 2) return type_ == CUDA_R_16BF ? FromBf16(half) : FromF16(half);
    std::memcpy(&value, from, 4);
    return value;
  }
  const cudaDataType type_;
  const size_t n_, bytes_;
};

// Y [tokens][outputs] = X [tokens][inputs] W [outputs][inputs]^T: what the library, which counts in
// columns, calls D = op(W) X with W transposed.
struct Linear {
  Linear(int outputs, int tokens, int inputs, cudaDataType in, cudaDataType out)
      : outputs(outputs), tokens(tokens), inputs(inputs) {
    cublasLtCreate(&handle);
    cublasLtMatmulDescCreate(&matmul, CUBLAS_COMPUTE_32F, CUDA_R_32F);
    Set(CUBLASLT_MATMUL_DESC_TRANSA, int32_t{CUBLAS_OP_T});
    const auto rows = [](int n) { return static_cast<uint64_t>(n); };
    cublasLtMatrixLayoutCreate(&w, in, rows(inputs), rows(outputs), inputs);
    cublasLtMatrixLayoutCreate(&x, in, rows(inputs), rows(tokens), inputs);
    const cudaDataType c = out == CUDA_R_8F_E4M3 ? CUDA_R_16BF : out;
    cublasLtMatrixLayoutCreate(&old, c, rows(outputs), rows(tokens), outputs);
    cublasLtMatrixLayoutCreate(&y, out, rows(outputs), rows(tokens), outputs);
    cublasLtMatmulPreferenceCreate(&preference);
  }
  ~Linear() {
    for (const cublasLtMatrixLayout_t layout : {w, x, old, y}) cublasLtMatrixLayoutDestroy(layout);
    cublasLtMatmulPreferenceDestroy(preference);
    cublasLtMatmulDescDestroy(matmul);
    EXPECT_EQ(cublasLtDestroy(handle), CUBLAS_STATUS_SUCCESS);
  }
  template <typename T>
  cublasStatus_t Set(cublasLtMatmulDescAttributes_t attribute, T value) {
    return cublasLtMatmulDescSetAttribute(matmul, attribute, &value, sizeof(value));
  }
  template <typename T>
  void SetAll(cublasLtMatrixLayoutAttribute_t attribute, T value) {
    for (const cublasLtMatrixLayout_t layout : {w, x, old, y}) {
      EXPECT_EQ(cublasLtMatrixLayoutSetAttribute(layout, attribute, &value, sizeof(value)),
                CUBLAS_STATUS_SUCCESS);
    }
  }
  std::vector<cublasLtMatmulHeuristicResult_t> Heuristics(size_t workspace_bytes) {
    cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                         &workspace_bytes, sizeof(workspace_bytes));
    std::vector<cublasLtMatmulHeuristicResult_t> results(8);
    int found = 0;
    EXPECT_EQ(cublasLtMatmulAlgoGetHeuristic(handle, matmul, w, x, old, y, preference, 8,
                                             results.data(), &found),
              CUBLAS_STATUS_SUCCESS);
    results.resize(static_cast<size_t>(found));
    return results;
  }
  cublasStatus_t Run(const void* pointer_w, const void* pointer_x, void* pointer_y,
                     const cublasLtMatmulAlgo_t* algorithm = nullptr, void* workspace = nullptr,
                     size_t workspace_bytes = 0) {
    return cublasLtMatmul(handle, matmul, &alpha, pointer_w, w, pointer_x, x, &beta, pointer_y, old,
                          pointer_y, y, algorithm, workspace, workspace_bytes, nullptr);
  }
  // In double.
  std::vector<float> Expected(const std::vector<float>& of_w,
                              const std::vector<float>& of_x) const {
    std::vector<float> values;
    for (int t = 0; t < tokens; ++t) {
      for (int o = 0; o < outputs; ++o) {
        double sum = 0;
        for (int i = 0; i < inputs; ++i) {
          sum += double{of_x[static_cast<size_t>(t * inputs + i)]} *
                 of_w[static_cast<size_t>(o * inputs + i)];
        }
        values.push_back(static_cast<float>(sum));
      }
    }
    return values;
  }

  const int outputs, tokens, inputs;
  float alpha = 1, beta = 0;
  cublasLtHandle_t handle;
  cublasLtMatmulDesc_t matmul;
  cublasLtMatrixLayout_t w, x, old, y;
  cublasLtMatmulPreference_t preference;
};

class CublasLtTest : public testing::Test {
 protected:
  CublasLtTest() { cudaDeviceGetAttribute(&major_, cudaDevAttrComputeCapabilityMajor, 0); }
  void TearDown() override { EXPECT_THAT(TakeFindings(), testing::IsEmpty()); }
  int major_ = 0;
};

TEST_F(CublasLtTest, ALinearLayerIsExactInEveryFormat) {
  for (const auto& [in, out] : {std::pair{CUDA_R_16BF, CUDA_R_16BF},
                                {CUDA_R_16BF, CUDA_R_32F},
                                {CUDA_R_16F, CUDA_R_16F},
                                {CUDA_R_32F, CUDA_R_32F}}) {
    Linear linear(24, 5, 40, in, out);
    const auto w = Whole(24 * 40, 1), x = Whole(5 * 40, 2);
    Buffer device_w(w, in), device_x(x, in), y(std::vector<float>(24 * 5), out);
    ASSERT_EQ(linear.Run(device_w.data, device_x.data, y.data), CUBLAS_STATUS_SUCCESS);
    EXPECT_EQ(y.Values(), linear.Expected(w, x));
  }
}

TEST_F(CublasLtTest, BiasActivationAlphaAndBetaComeInTheirOrder) {
  Linear linear(4, 1, 2, CUDA_R_16BF, CUDA_R_16BF);
  Buffer w({1, 0, 2, 0, -1, 0, -2, 0}, CUDA_R_16BF), x({1, 0}, CUDA_R_16BF);
  Buffer bias({1, 1, 1, 1}, CUDA_R_16BF);
  linear.alpha = 2;
  linear.beta = 0.5f;
  EXPECT_EQ(linear.Set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, static_cast<const void*>(bias.data)),
            CUBLAS_STATUS_SUCCESS);
  const auto run = [&](cublasLtEpilogue_t epilogue) {
    linear.Set(CUBLASLT_MATMUL_DESC_EPILOGUE, static_cast<uint32_t>(epilogue));
    Buffer y({2, 2, 2, 2}, CUDA_R_16BF);
    EXPECT_EQ(linear.Run(w.data, x.data, y.data), CUBLAS_STATUS_SUCCESS);
    return y.Values();
  };
  EXPECT_THAT(run(CUBLASLT_EPILOGUE_DEFAULT), ElementsAre(3, 5, -1, -3));
  EXPECT_THAT(run(CUBLASLT_EPILOGUE_BIAS), ElementsAre(4, 6, 0, -2));
  EXPECT_THAT(run(CUBLASLT_EPILOGUE_RELU_BIAS), ElementsAre(4, 6, 0, 0));
  const auto gelu = run(CUBLASLT_EPILOGUE_GELU_BIAS);
  EXPECT_EQ(gelu[1], 6);
  EXPECT_NEAR(gelu[3], -0.0454, 0.0002);
}

TEST_F(CublasLtTest, EightBitFloatsAreScaledAndSaturate) {
  Linear linear(32, 2, 32, CUDA_R_8F_E4M3, CUDA_R_8F_E4M3);
  const std::vector<float> w(32 * 32, 2);
  std::vector<float> x(2 * 32, 1);
  std::fill(x.begin() + 32, x.end(), 8.0f);  // the second token
  Buffer device_w(w, CUDA_R_8F_E4M3), device_x(x, CUDA_R_8F_E4M3);
  Buffer y(std::vector<float>(64), CUDA_R_8F_E4M3);
  Buffer scales({0.5f, 0.25f, 4.0f, 0}, CUDA_R_32F);
  auto* const at = static_cast<float*>(scales.data);
  linear.Set(CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, static_cast<const void*>(at));
  linear.Set(CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, static_cast<const void*>(at + 1));
  linear.Set(CUBLASLT_MATMUL_DESC_D_SCALE_POINTER, static_cast<const void*>(at + 2));
  linear.Set(CUBLASLT_MATMUL_DESC_AMAX_D_POINTER, static_cast<void*>(at + 3));
  const cublasStatus_t status = linear.Run(device_w.data, device_x.data, y.data);
  if (major_ == 8) {  // sm_80
    EXPECT_EQ(status, CUBLAS_STATUS_NOT_SUPPORTED);
    return;
  }
  ASSERT_EQ(status, CUBLAS_STATUS_SUCCESS);
  const auto values = y.Values();
  // 32 products of 2, scaled by 1/8: 8, as 32; of 16: 64, as 256.
  EXPECT_EQ(values[0], 32);
  EXPECT_EQ(values[32], 256);
  EXPECT_EQ(scales.Values()[3], 64);  // before D's scale
  linear.alpha = 3;
  ASSERT_EQ(linear.Run(device_w.data, device_x.data, y.data), CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(y.Values()[0], 96);
  EXPECT_EQ(y.Values()[32], 448);
  // Not transposed it has no kernel before Blackwell.
  linear.Set(CUBLASLT_MATMUL_DESC_TRANSA, int32_t{CUBLAS_OP_N});
  EXPECT_EQ(linear.Run(device_w.data, device_x.data, y.data), CUBLAS_STATUS_NOT_SUPPORTED);
}

TEST_F(CublasLtTest, HeuristicsOfferWhatTheWorkspaceAllows) {
  Linear linear(64, 4, 2048, CUDA_R_16BF, CUDA_R_32F);
  const auto w = Whole(64 * 2048, 1), x = Whole(4 * 2048, 2);
  Buffer device_w(w, CUDA_R_16BF), device_x(x, CUDA_R_16BF);
  const auto plain = linear.Heuristics(0);
  ASSERT_EQ(plain.size(), 1u);
  EXPECT_EQ(plain[0].workspaceSize, 0u);
  const auto all = linear.Heuristics(1 << 20);
  ASSERT_GT(all.size(), 1u);
  ASSERT_GT(all[0].workspaceSize, 0u);
  Buffer workspace(std::vector<float>(all[0].workspaceSize / 4), CUDA_R_32F);
  for (const auto& found : all) {
    Buffer y(std::vector<float>(64 * 4), CUDA_R_32F);
    ASSERT_EQ(linear.Run(device_w.data, device_x.data, y.data, &found.algo, workspace.data,
                         found.workspaceSize),
              CUBLAS_STATUS_SUCCESS);
    EXPECT_EQ(y.Values(), linear.Expected(w, x));
  }
  EXPECT_TRUE(std::isnan(workspace.Values()[0]));  // used up
  Buffer y(std::vector<float>(64 * 4), CUDA_R_32F);
  EXPECT_EQ(linear.Run(device_w.data, device_x.data, y.data, &all[0].algo, workspace.data,
                       all[0].workspaceSize - 1),
            CUBLAS_STATUS_INVALID_VALUE);
  const cublasLtMatmulAlgo_t made_up{};
  EXPECT_EQ(linear.Run(device_w.data, device_x.data, y.data, &made_up),
            CUBLAS_STATUS_INVALID_VALUE);
}

// Results depend on the shape, as the real library's: who promises the same bits for every batch
// cannot use it so.
TEST_F(CublasLtTest, SplittingKChangesTheLastBits) {
  Linear linear(64, 4, 2048, CUDA_R_32F, CUDA_R_32F);
  std::mt19937 random(3);
  std::normal_distribution<float> normal;
  std::vector<float> w(64 * 2048), x(4 * 2048);
  for (float& value : w) value = normal(random);
  for (float& value : x) value = normal(random);
  Buffer device_w(w, CUDA_R_32F), device_x(x, CUDA_R_32F);
  Buffer whole(std::vector<float>(256), CUDA_R_32F), split(std::vector<float>(256), CUDA_R_32F);
  const auto all = linear.Heuristics(1 << 20);
  Buffer workspace(std::vector<float>(all[0].workspaceSize / 4), CUDA_R_32F);
  ASSERT_EQ(linear.Run(device_w.data, device_x.data, split.data, &all[0].algo, workspace.data,
                       all[0].workspaceSize),
            CUBLAS_STATUS_SUCCESS);
  ASSERT_EQ(linear.Run(device_w.data, device_x.data, whole.data, &all.back().algo),
            CUBLAS_STATUS_SUCCESS);
  EXPECT_NE(split.Values(), whole.Values());
  const auto expected = linear.Expected(w, x), values = split.Values();
  for (size_t i = 0; i < 256; ++i) {
    ASSERT_NEAR(values[i], expected[i], 2048 * 1.2e-7 * 8 * std::sqrt(2048)) << i;
  }
}

TEST_F(CublasLtTest, BatchesAndLeadingDimensionsAreFollowed) {
  Linear linear(2, 2, 2, CUDA_R_32F, CUDA_R_32F);
  linear.SetAll(CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, int32_t{2});
  linear.SetAll(CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, int64_t{8});
  linear.SetAll(CUBLASLT_MATRIX_LAYOUT_LD, int64_t{4});
  Buffer w({1, 2, 9, 9, 3, 4, 9, 9, 5, 6, 9, 9, 7, 8, 9, 9}, CUDA_R_32F);
  Buffer x({1, 0, 9, 9, 0, 1, 9, 9, 2, 0, 9, 9, 0, 2, 9, 9}, CUDA_R_32F);
  Buffer y(std::vector<float>(16, -1), CUDA_R_32F);
  ASSERT_EQ(linear.Run(w.data, x.data, y.data), CUBLAS_STATUS_SUCCESS);
  EXPECT_THAT(y.Values(), ElementsAre(1, 3, -1, -1, 2, 4, -1, -1, 10, 14, -1, -1, 12, 16, -1, -1));
}

TEST_F(CublasLtTest, AlphaAndBetaMayLieOnTheDevice) {
  Linear linear(1, 1, 1, CUDA_R_32F, CUDA_R_32F);
  linear.Set(CUBLASLT_MATMUL_DESC_POINTER_MODE, int32_t{CUBLASLT_POINTER_MODE_DEVICE});
  Buffer w({3}, CUDA_R_32F), x({5}, CUDA_R_32F), y({7}, CUDA_R_32F), factors({2, 10}, CUDA_R_32F);
  const auto* const at = static_cast<const float*>(factors.data);
  ASSERT_EQ(
      cublasLtMatmul(linear.handle, linear.matmul, at, w.data, linear.w, x.data, linear.x, at + 1,
                     y.data, linear.old, y.data, linear.y, nullptr, nullptr, 0, nullptr),
      CUBLAS_STATUS_SUCCESS);
  EXPECT_THAT(y.Values(), ElementsAre(100));
}

TEST_F(CublasLtTest, WhatTheLibraryWouldNotTakeIsRefused) {
  Linear linear(16, 16, 16, CUDA_R_16BF, CUDA_R_16BF);
  Buffer w(Whole(256, 1), CUDA_R_16BF), x(Whole(256, 2), CUDA_R_16BF),
      y(Whole(256, 3), CUDA_R_16BF);
  const auto run = [&] { return linear.Run(w.data, x.data, y.data); };
  ASSERT_EQ(run(), CUBLAS_STATUS_SUCCESS);
  float on_host[256];
  EXPECT_EQ(linear.Run(w.data, on_host, y.data), CUBLAS_STATUS_INVALID_VALUE);
  EXPECT_EQ(linear.Run(w.data, static_cast<char*>(x.data) + 2, y.data),
            CUBLAS_STATUS_INVALID_VALUE);
  const auto chosen = linear.Heuristics(0);  // for 256-byte alignment
  EXPECT_EQ(linear.Run(w.data, static_cast<char*>(x.data) + 16, y.data, &chosen[0].algo),
            CUBLAS_STATUS_INVALID_VALUE);
  EXPECT_EQ(linear.Set(CUBLASLT_MATMUL_DESC_TRANSB, int64_t{0}), CUBLAS_STATUS_INVALID_VALUE);
  EXPECT_EQ(linear.Set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, int64_t{0}),
            CUBLAS_STATUS_INVALID_VALUE);
  linear.Set(CUBLASLT_MATMUL_DESC_EPILOGUE, uint32_t{CUBLASLT_EPILOGUE_BGRADA});
  EXPECT_EQ(run(), CUBLAS_STATUS_NOT_SUPPORTED);
  linear.Set(CUBLASLT_MATMUL_DESC_EPILOGUE, uint32_t{CUBLASLT_EPILOGUE_DEFAULT});
  linear.Set(CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, static_cast<const void*>(y.data));
  EXPECT_EQ(run(), CUBLAS_STATUS_INVALID_VALUE);
  linear.Set(CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, static_cast<const void*>(nullptr));
  linear.SetAll(CUBLASLT_MATRIX_LAYOUT_LD, int64_t{8});
  EXPECT_EQ(run(), CUBLAS_STATUS_INVALID_VALUE);
  Linear mixed(16, 16, 16, CUDA_R_16BF, CUDA_R_16F);
  EXPECT_EQ(mixed.Run(w.data, x.data, y.data), CUBLAS_STATUS_NOT_SUPPORTED);
}

TEST_F(CublasLtTest, EveryCallFailsOnDemand) {
  Linear linear(16, 16, 16, CUDA_R_16BF, CUDA_R_16BF);
  const Buffer w(Whole(256, 1), CUDA_R_16BF), x(Whole(256, 2), CUDA_R_16BF),
      y(Whole(256, 3), CUDA_R_16BF);
  const auto fails = [](auto&& call) {
    InjectFault({.kind = FaultKind::kCublasLtCall, .call = 1});
    const bool failed = call() == CUBLAS_STATUS_INTERNAL_ERROR;
    ClearFaults();
    return failed;
  };
  cublasLtHandle_t handle = nullptr;
  cublasLtMatmulDesc_t made = nullptr;
  cublasLtMatmulHeuristicResult_t result;
  int found = 0;
  EXPECT_TRUE(fails([&] { return cublasLtCreate(&handle); }));
  EXPECT_TRUE(
      fails([&] { return cublasLtMatmulDescCreate(&made, CUBLAS_COMPUTE_32F, CUDA_R_32F); }));
  EXPECT_TRUE(fails([&] { return linear.Set(CUBLASLT_MATMUL_DESC_TRANSA, int32_t{CUBLAS_OP_T}); }));
  EXPECT_TRUE(fails([&] {
    return cublasLtMatmulAlgoGetHeuristic(linear.handle, linear.matmul, linear.w, linear.x,
                                          linear.old, linear.y, linear.preference, 1, &result,
                                          &found);
  }));
  EXPECT_TRUE(fails([&] { return linear.Run(w.data, x.data, y.data); }));
  EXPECT_EQ(handle, nullptr);
  EXPECT_EQ(made, nullptr);
  EXPECT_EQ(linear.Run(w.data, x.data, y.data), CUBLAS_STATUS_SUCCESS);
}

TEST_F(CublasLtTest, InputThatWasNeverWrittenIsFound) {
  Linear linear(4, 4, 4, CUDA_R_32F, CUDA_R_32F);
  Buffer w(Whole(16, 1), CUDA_R_32F), y(Whole(16, 2), CUDA_R_32F);
  void* x;
  ASSERT_EQ(cudaMalloc(&x, 64), cudaSuccess);
  ASSERT_EQ(linear.Run(w.data, x, y.data), CUBLAS_STATUS_SUCCESS);
  ASSERT_EQ(cudaFree(x), cudaSuccess);
  const auto findings = TakeFindings();
  ASSERT_EQ(findings.size(), 1u);
  EXPECT_EQ(findings[0].kind, FindingKind::kUninitializedGlobal);
  EXPECT_EQ(findings[0].kernel, "cublasLtMatmul");
}

}  // namespace
}  // namespace trireme::gpusim
