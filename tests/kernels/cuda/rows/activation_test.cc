#include "kernels/cuda/fused/rows.h"
#include "kernels/reference/reference.h"
#include "tests/kernels/cuda/rows/rows_case.h"

namespace trireme::cuda {
namespace {

constexpr Activation kActivations[] = {Activation::kSilu, Activation::kGeluTanh, Activation::kGelu};

class ActivationTest : public RowsTest {
 protected:
  // gate, up: [rows, cols].
  static std::vector<float> Run(Activation activation, const std::vector<float>& gate,
                                const std::vector<float>& up, size_t cols) {
    std::vector<float> gate_up;
    for (size_t at = 0; at < gate.size(); at += cols) {
      gate_up.insert(gate_up.end(), gate.begin() + at, gate.begin() + at + cols);
      gate_up.insert(gate_up.end(), up.begin() + at, up.begin() + at + cols);
    }
    const DeviceArray<uint16_t> in(Narrow(type(), gate_up)), out(gate.size());
    Check(GatedActivation(type(), activation, in.get(), static_cast<int64_t>(gate.size() / cols),
                          static_cast<int64_t>(cols), out.get(), nullptr));
    ExpectFewSectors();
    return Widen(type(), out.Read());
  }
  static std::vector<float> Rounded(const std::vector<float>& values) {
    return Widen(type(), Narrow(type(), values));
  }
};

TEST_P(ActivationTest, AgreesWithReferenceForEveryLength) {
  for (const size_t cols : {8, 72, 1536, 2056}) {
    const size_t n = 3 * cols;
    const auto gate = Rounded(Normal(n, 1, 4.0f)), up = Rounded(Normal(n, 2));
    for (const Activation activation : kActivations) {
      std::vector<double> exact(n);
      reference::GatedActivation(activation, gate.data(), up.data(), n, exact.data());
      ExpectRounded(type(), Run(activation, gate, up, cols), exact, 1e-7);
    }
  }
}

TEST_P(ActivationTest, AgreesWithReferenceOverTheWholeRange) {
  std::vector<float> gate;
  for (float x = -100.0f; x < 100.0f; x += 0.1f) gate.push_back(x);
  for (const float x : {0.0f, -0.0f, 1e-30f, -1e-30f, 1e-5f, 6e4f, -6e4f}) gate.push_back(x);
  gate.resize(gate.size() / 8 * 8);
  gate = Rounded(gate);
  const std::vector<float> ones(gate.size(), 1.0f);
  for (const Activation activation : kActivations) {
    std::vector<double> exact(gate.size());
    reference::GatedActivation(activation, gate.data(), ones.data(), gate.size(), exact.data());
    ExpectRounded(type(), Run(activation, gate, ones, gate.size()), exact, 1e-6);
  }
}

TEST_P(ActivationTest, NanStaysInItsElement) {
  std::vector<float> gate(32, -1.5f);
  gate[9] = kNan;
  gate[20] = std::numeric_limits<float>::infinity();
  for (const Activation activation : kActivations) {
    const auto out = Run(activation, gate, std::vector<float>(32, 1.0f), 16);
    for (size_t i = 0; i < out.size(); ++i) EXPECT_EQ(std::isnan(out[i]), i == 9) << i;
    EXPECT_TRUE(std::isinf(out[20]));
  }
}

TEST_P(ActivationTest, AnElementHasTheSameBitsWhereverItStands) {
  const auto gate = Rounded(Normal(640, 3, 4.0f)), up = Rounded(Normal(640, 4));
  for (const Activation activation : kActivations) {
    EXPECT_EQ(Run(activation, gate, up, 640), Run(activation, gate, up, 64));
  }
}

TEST_P(ActivationTest, AnElementCostsFewInstructions) {
  constexpr size_t kCols = 4096, kElements = 2 * kCols;
  const auto gate = Rounded(Normal(kElements, 1, 4.0f)), up = Rounded(Normal(kElements, 2));
  for (const auto& [activation, most] : {std::pair(Activation::kSilu, 16.0),
                                         {Activation::kGeluTanh, 20.5},
                                         {Activation::kGelu, 98.0}}) {
    Run(activation, gate, up, kCols);
    ExpectInstructions(kElements, most);
  }
}

INSTANTIATE_TEST_SUITE_P(Types, ActivationTest, testing::Values(DType::kBF16, DType::kF16),
                         TypeName);

TEST(GatherRowsTest, CopiesRowsInTheOrderOfTheIndices) {
  SKIP_WITHOUT_DEVICE();
  for (const int64_t row_bytes : {16, 1152, 28672}) {
    constexpr int kRows = 7;
    std::vector<uint8_t> x(static_cast<size_t>(kRows * row_bytes));
    for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<uint8_t>(i * 37 + i / 251);
    const std::vector<int32_t> indices = {6, 0, 0, 3, 5};
    const DeviceArray<uint8_t> device_x(x), y(indices.size() * static_cast<size_t>(row_bytes));
    const DeviceArray<int32_t> device_indices(indices);
    Check(GatherRows(device_x.get(), device_indices.get(), static_cast<int64_t>(indices.size()),
                     row_bytes, y.get(), nullptr));
    const auto gathered = y.Read();
    if (row_bytes > 16) ExpectFewSectors();
    if (row_bytes == 28672) ExpectInstructions(y.Read().size() / 16, 33);
    for (size_t i = 0; i < indices.size(); ++i) {
      EXPECT_TRUE(std::equal(x.begin() + indices[i] * row_bytes,
                             x.begin() + (indices[i] + 1) * row_bytes,
                             gathered.begin() + static_cast<int64_t>(i) * row_bytes));
    }
  }
}

}  // namespace
}  // namespace trireme::cuda
