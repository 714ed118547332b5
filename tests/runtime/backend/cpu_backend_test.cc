#include "runtime/backend/cpu_backend.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <random>
#include <vector>

#include "kernels/cpu/cpu_kernels.h"
#include "runtime/base/quant_formats.h"

namespace trireme {
namespace {

std::unique_ptr<Backend> MakeBackend(int num_threads, std::string isa = "") {
  auto backend = MakeCpuBackend({.num_threads = num_threads, .isa = std::move(isa)});
  EXPECT_TRUE(backend.ok()) << backend.status();
  return std::move(backend).value();
}

// Random weights in the file's format, with small scales.
struct HostMatrix {
  HostMatrix(DType type, int64_t rows, int64_t cols, int seed)
      : bytes(rows * RowBytes(type, cols)) {
    std::mt19937 random(seed);
    for (uint8_t& b : bytes) b = static_cast<uint8_t>(random() >> 7);
    const bool plain = !IsQuantized(type), has_min = type == DType::kQ4_1 || type == DType::kQ4_K;
    for (size_t i = 0; i < bytes.size(); i += BlockBytes(type)) {
      const float value = static_cast<float>(random() % 1000) / 500.0f - 1.0f;
      const uint16_t half =
          type == DType::kBF16 ? FloatToBF16(value) : FloatToF16(plain ? value : value / 64);
      const size_t at = type == DType::kQ6_K ? 208 : 0;  // where the block's scale is
      std::memcpy(&bytes[i + at], type == DType::kF32 ? static_cast<const void*>(&value) : &half,
                  type == DType::kF32 ? 4 : 2);
      if (has_min) std::memcpy(&bytes[i + 2], &half, 2);
    }
    view = {.data = bytes.data(), .dtype = type, .shape = {rows, cols}};
  }
  std::vector<float> Row(int64_t r) const {
    std::vector<float> row(view.cols());
    DequantizeRow(view.dtype, bytes.data() + r * view.row_bytes(), view.cols(), row.data());
    return row;
  }
  std::vector<uint8_t> bytes;
  TensorView view;
};

struct Activations {
  Activations(int64_t rows, int64_t cols, int seed = -1) : values(rows * cols, 0.0f) {
    tensor = {.data = values.data(), .rows = rows, .cols = cols};
    if (seed < 0) return;
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    for (float& v : values) v = normal(random);
  }
  Activations(Activations&&) = default;
  std::vector<float> Row(int64_t r) const {
    return {values.begin() + r * tensor.cols, values.begin() + (r + 1) * tensor.cols};
  }
  std::vector<float> values;
  Tensor tensor;
};

BatchView TokensOnly(const std::vector<TokenId>& tokens) { return {.tokens = tokens}; }

TEST(CpuBackendTest, AStackedMatrixOfDifferentTypesIsItsParts) {
  const HostMatrix q(DType::kQ4_K, 70, 256, 1), k(DType::kQ6_K, 33, 256, 2),
      v(DType::kBF16, 20, 256, 3), bias(DType::kF32, 1, 123, 4);
  const auto view_of_bias = [&](int64_t first, int64_t n) {
    return TensorView{.data = bias.bytes.data() + first * 4, .dtype = DType::kF32, .shape = {n}};
  };
  for (int threads : {1, 2, 5}) {
    auto backend = MakeBackend(threads);
    auto stacked =
        *backend->PrepareMatrix({q.view, k.view, v.view},
                                {view_of_bias(0, 70), view_of_bias(70, 33), view_of_bias(103, 20)});
    EXPECT_EQ(stacked->rows(), 123);
    EXPECT_EQ(stacked->cols(), 256);
    for (int64_t tokens : {1, 3, 40}) {
      const Activations x(tokens, 256, 9);
      Activations y(tokens, 123);
      backend->MatMul(*stacked, x.tensor, y.tensor);
      int64_t first = 0;
      for (const HostMatrix* part : {&q, &k, &v}) {
        const int64_t rows = part->view.rows();
        auto single = *MakeBackend(1)->PrepareMatrix({part->view}, {view_of_bias(first, rows)});
        Activations expected(tokens, rows);
        MakeBackend(1)->MatMul(*single, x.tensor, expected.tensor);
        for (int64_t i = 0; i < tokens; ++i) {
          ASSERT_EQ(std::memcmp(&y.values[i * 123 + first], &expected.values[i * rows],
                                rows * sizeof(float)),
                    0)
              << "threads " << threads << " tokens " << tokens << " part at " << first;
        }
        first += rows;
      }
    }
  }
}

TEST(CpuBackendTest, EmbeddingRowsAreTheFilesValuesAndTheTableServesMatMul) {
  const HostMatrix table(DType::kQ4_1, 100, 64, 5);
  auto backend = MakeBackend(2);
  auto weight = *backend->PrepareEmbedding(table.view, 0);
  const std::vector<TokenId> tokens = {99, 0, 31, 32, 99};
  Activations x(5, 64);
  backend->Step(TokensOnly(tokens), [&](int, int) { backend->Embed(*weight, 2.0f, x.tensor); });
  for (size_t i = 0; i < tokens.size(); ++i) {
    std::vector<float> expected = table.Row(tokens[i]);
    for (float& v : expected) v *= 2.0f;
    EXPECT_EQ(x.Row(i), expected);
  }
  Activations tied(5, 100), separate(5, 100);
  backend->MatMul(*weight, x.tensor, tied.tensor);
  auto head = *backend->PrepareMatrix({table.view}, {});
  backend->MatMul(*head, x.tensor, separate.tensor);
  EXPECT_EQ(tied.values, separate.values);
}

TEST(CpuBackendTest, EveryInstructionSetAgreesWithinTheQuantisationOfActivations) {
  const HostMatrix w(DType::kQ8_0, 50, 576, 6);
  const Activations x(3, 576, 7);
  std::vector<std::vector<float>> results;
  for (const char* isa : {"portable", "avx2", "avx512"}) {
    if (cpu::FindKernels(isa) == nullptr) continue;
    auto backend = MakeBackend(2, isa);
    auto weight = *backend->PrepareMatrix({w.view}, {});
    Activations y(3, 50);
    backend->MatMul(*weight, x.tensor, y.tensor);
    results.push_back(y.values);
  }
  for (const std::vector<float>& result : results) {
    EXPECT_THAT(result, testing::Pointwise(testing::FloatNear(1e-3f), results[0]));
  }
}

// Two sequences of 50 and 3 tokens, attended in steps of at most `chunk` tokens each: [53, heads *
// head_dim].
std::vector<float> AttendInChunks(int num_threads, int chunk) {
  constexpr int kHeads = 6, kKvHeads = 2, kHeadDim = 64, kBlockSize = 16;
  constexpr int kWidth = (kHeads + 2 * kKvHeads) * kHeadDim, kOut = kHeads * kHeadDim;
  const std::vector<BlockId> blocks[2] = {{4, 0, 3, 1}, {2}};
  const int lengths[2] = {50, 3};
  auto backend = MakeBackend(num_threads);
  std::vector<float> k(5 * kKvHeads * kBlockSize * kHeadDim), v = k, frequencies(kHeadDim / 2);
  for (size_t i = 0; i < frequencies.size(); ++i) {
    frequencies[i] = 1.0f / static_cast<float>(i + 1);
  }
  const KvLayerView kv = {k.data(),
                          v.data(),
                          DType::kF32,
                          kKvHeads,
                          kBlockSize,
                          kHeadDim,
                          kKvHeads * kBlockSize * kHeadDim};
  auto rope =
      *backend->PrepareRope({.rotary_dim = kHeadDim, .inverse_frequency = frequencies.data()});
  const AttentionParams params = {.num_heads = kHeads, .scale = 0.125f};
  const Activations all(53, kWidth, 1);
  std::vector<float> result(53 * kOut);
  for (int done = 0; done < 50; done += chunk) {
    std::vector<SequenceSlice> slices;
    std::vector<int> rows;  // of `all`
    for (int s = 0; s < 2; ++s) {
      const int count = std::min(chunk, lengths[s] - done);
      if (count <= 0) continue;
      slices.push_back({static_cast<int>(rows.size()), count, done, blocks[s]});
      for (int t = 0; t < count; ++t) rows.push_back(s * 50 + done + t);
    }
    const std::vector<TokenId> tokens(rows.size(), 0);
    const auto num_tokens = static_cast<int64_t>(rows.size());
    Activations qkv(num_tokens, kWidth), out(num_tokens, kOut);
    for (int64_t i = 0; i < num_tokens; ++i) {
      std::copy_n(&all.values[rows[i] * kWidth], kWidth, &qkv.values[i * kWidth]);
    }
    backend->Step({.tokens = tokens, .sequences = slices}, [&](int, int) {
      backend->RopeAndStoreKv(*rope, kHeads, kv, qkv.tensor);
      backend->Attention(params, kv, qkv.tensor, out.tensor);
    });
    for (int64_t i = 0; i < num_tokens; ++i) {
      std::copy_n(&out.values[i * kOut], kOut, &result[rows[i] * kOut]);
    }
  }
  // The first token of a sequence sees only itself: its output is its own V.
  for (int row : {0, 50}) {
    for (int i = 0; i < kOut; ++i) {
      const int head = i / kHeadDim / (kHeads / kKvHeads);
      const int at = (kHeads + kKvHeads + head) * kHeadDim + i % kHeadDim;
      EXPECT_EQ(result[row * kOut + i], all.values[row * kWidth + at]);
    }
  }
  return result;
}

TEST(CpuBackendTest, AttentionHasTheSameBitsForEveryChunkingAndThreadCount) {
  const std::vector<float> expected = AttendInChunks(1, 50);
  for (int threads : {1, 2, 5}) {
    for (int chunk : {1, 3, 33, 50}) {
      EXPECT_EQ(AttendInChunks(threads, chunk), expected) << threads << " " << chunk;
    }
  }
}

TEST(CpuBackendTest, LogitRowsAreGathered) {
  auto backend = MakeBackend(1);
  const std::vector<TokenId> tokens(4, 0);
  const std::vector<int32_t> wanted = {1, 3};
  const Activations x(4, 8, 3);
  Activations y(2, 8);
  backend->Step({.tokens = tokens, .logit_tokens = wanted},
                [&](int, int) { backend->GatherLogitRows(x.tensor, y.tensor); });
  EXPECT_EQ(y.Row(0), x.Row(1));
  EXPECT_EQ(y.Row(1), x.Row(3));
}

TEST(CpuBackendTest, ParallelForRunsEveryIndexOnce) {
  auto backend = MakeBackend(3);
  std::vector<int> visits(100, 0);
  backend->ParallelFor(100, [&](int i) { ++visits[i]; });
  EXPECT_EQ(visits, std::vector<int>(100, 1));
}

TEST(CpuBackendTest, MoreMemoryThanTheMachineHasIsRefusedByName) {
  auto backend = MakeBackend(1);
  const TensorView huge = {.data = "", .dtype = DType::kF32, .shape = {1LL << 30, 1LL << 20}};
  const auto matrix = backend->PrepareMatrix({huge}, {});
  EXPECT_EQ(matrix.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(matrix.status().message()),
              testing::AllOf(testing::HasSubstr("4503599627370496 bytes needed"),
                             testing::HasSubstr("bytes available")));
  EXPECT_EQ(backend->Allocate(1LL << 52).status().code(), absl::StatusCode::kResourceExhausted);
}

TEST(CpuBackendTest, BadShapesAndOptionsAreRefused) {
  auto backend = MakeBackend(1);
  const HostMatrix a(DType::kQ8_0, 4, 64, 1), b(DType::kQ8_0, 4, 32, 1), bias(DType::kF32, 1, 5, 1);
  const auto is_invalid = [](const auto& result) {
    return result.status().code() == absl::StatusCode::kInvalidArgument;
  };
  EXPECT_TRUE(is_invalid(backend->PrepareMatrix({}, {})));
  EXPECT_TRUE(is_invalid(backend->PrepareMatrix({a.view, b.view}, {})));
  EXPECT_TRUE(is_invalid(backend->PrepareMatrix({a.view}, {bias.view})));
  EXPECT_TRUE(is_invalid(backend->PrepareMatrix({a.view, a.view}, {bias.view})));
  TensorView odd = a.view;
  odd.shape = {4, 40};
  EXPECT_TRUE(is_invalid(backend->PrepareMatrix({odd}, {})));
  EXPECT_TRUE(is_invalid(MakeCpuBackend({.isa = "mmx"})));
  EXPECT_TRUE(is_invalid(MakeCpuBackend({.num_threads = -1})));
  EXPECT_TRUE(is_invalid(MakeCpuBackend({.num_threads = 1 << 20})));
}

}  // namespace
}  // namespace trireme
