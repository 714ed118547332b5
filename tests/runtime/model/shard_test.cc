// A model shared by ranks: what each has, and that together they compute the model.
#include "runtime/model/shard.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <thread>

#include "runtime/base/check.h"
#include "runtime/model/decoder.h"
#include "runtime/model/model_files.h"
#include "tests/fakes/files.h"
#include "tests/fakes/reference_backend.h"
#include "tests/fakes/tiny_model.h"

namespace trireme {
namespace {

using fakes::TinyModel;

DecoderSpec SpecOf(int num_heads, int num_kv_heads, int mlp_size, int vocab_size) {
  DecoderSpec spec;
  spec.num_heads = num_heads;
  spec.num_kv_heads = num_kv_heads;
  spec.head_dim = 64;
  spec.mlp_size = mlp_size;
  spec.vocab_size = vocab_size;
  return spec;
}

// How many ranks have each index of an axis.
std::vector<int> Covered(const DecoderSpec& spec, int num_ranks, Axis Shard::*axis) {
  std::vector<int> times;
  for (int rank = 0; rank < num_ranks; ++rank) {
    const Shard shard = *Shard::Of(spec, rank, num_ranks);
    times.resize(static_cast<size_t>((shard.*axis).size));
    for (const Slice& slice : (shard.*axis).slices) {
      EXPECT_LE(slice.size, slice.padded);
      for (int64_t i = slice.first; i < slice.first + slice.size; ++i) {
        ++times.at(static_cast<size_t>(i));
      }
    }
  }
  return times;
}

TEST(ShardTest, EveryQueryHeadMlpColumnAndTokenIsOneRanks) {
  for (const auto& [heads, kv_heads] : {std::pair{9, 3}, {32, 8}, {8, 1}, {12, 12}, {15, 5}}) {
    for (const int ranks : {1, 2, 3, 4, 8, 16}) {
      const DecoderSpec spec = SpecOf(heads, kv_heads, 1000, 4001);
      SCOPED_TRACE(testing::Message() << heads << "/" << kv_heads << " on " << ranks);
      EXPECT_THAT(Covered(spec, ranks, &Shard::q), testing::Each(1));
      EXPECT_THAT(Covered(spec, ranks, &Shard::mlp), testing::Each(1));
      EXPECT_THAT(Covered(spec, ranks, &Shard::vocab), testing::Each(1));
      EXPECT_THAT(Covered(spec, ranks, &Shard::kv), testing::Each(testing::Ge(1)));
      const Shard first = *Shard::Of(spec, 0, ranks);
      for (int rank = 0; rank < ranks; ++rank) {
        const Shard shard = *Shard::Of(spec, rank, ranks);
        EXPECT_EQ(shard.local.num_heads, first.local.num_heads);
        EXPECT_EQ(shard.local.num_kv_heads, first.local.num_kv_heads);
        EXPECT_EQ(shard.mlp.loaded(), first.mlp.loaded());
        EXPECT_EQ(shard.vocab_columns, first.vocab_columns);
        EXPECT_EQ(shard.q.loaded(), shard.local.q_size());
        EXPECT_EQ(shard.kv.loaded(), shard.local.kv_size());
      }
    }
  }
}

TEST(ShardTest, KvHeadsAreSharedOutAndKeptTwiceOnlyWhereRanksAreMore) {
  EXPECT_EQ(Shard::Of(SpecOf(32, 8, 64, 999), 1, 4)->local.num_kv_heads, 2);
  EXPECT_EQ(Shard::Of(SpecOf(32, 8, 64, 999), 1, 8)->local.num_heads, 4);
  const auto wide = Shard::Of(SpecOf(32, 8, 64, 999), 5, 16);  // two ranks a KV head
  EXPECT_EQ(wide->local.num_kv_heads, 1);
  EXPECT_EQ(wide->local.num_heads, 2);
  EXPECT_EQ(wide->kv.slices[0].first, 2 * 64);
  EXPECT_EQ(wide->q.slices[0].first, (2 * 4 + 2) * 64);
  EXPECT_EQ(Shard::Of(SpecOf(9, 3, 64, 999), 0, 2)->local.num_heads, 6);
}

TEST(ShardTest, AVocabularyThatLeavesARankWithoutTokensIsRefused) {
  EXPECT_EQ(Shard::Of(SpecOf(8, 8, 64, 24), 0, 4).status().code(),
            absl::StatusCode::kInvalidArgument);
}

struct Case {
  const char* name;
  TinyModel model;
  bool gguf = false;
};

class RanksTest : public testing::TestWithParam<std::tuple<Case, int>> {};

// Logits of a prompt, computed in two chunks.
std::vector<float> Logits(const ModelFiles& files, int num_ranks) {
  constexpr DecoderLimits kLimits = {/*max_step_tokens=*/32, /*max_logit_tokens=*/32};
  constexpr int kFirst = 11, kSecond = 9;
  std::vector<TokenId> tokens;
  for (int i = 0; i < kFirst + kSecond; ++i) tokens.push_back(i * 41 % TinyModel::kVocabSize);
  const std::vector<BlockId> blocks = {3, 1};
  const auto vocab = static_cast<int64_t>(files.spec.vocab_size);
  std::vector<float> logits(static_cast<size_t>(kSecond * vocab));
  fakes::RankExchange exchange(num_ranks);
  const auto run = [&](int rank) {
    fakes::ReferenceBackend backend(
        {.exchange = num_ranks > 1 ? &exchange : nullptr, .rank = rank});
    const Shard shard = *Shard::Of(files.spec, rank, num_ranks);
    auto decoder = Decoder::Load(shard, *files.checkpoint, backend, kLimits, nullptr);
    TRIREME_CHECK(decoder.ok());
    auto kv = *KvStorage::Create(KvShape::Of(shard.local, 16, DType::kF32), 4, backend);
    const SequenceSlice first{0, kFirst, 0, blocks}, second{0, kSecond, kFirst, blocks};
    const absl::Span<const TokenId> all(tokens);
    (*decoder)->Forward({all.first(kFirst), {&first, 1}, {}}, *kv, backend, {});
    std::vector<int32_t> wanted(kSecond);
    for (int i = 0; i < kSecond; ++i) wanted[static_cast<size_t>(i)] = i;
    const Tensor out{rank == 0 ? logits.data() : nullptr, DType::kF32, kSecond, vocab};
    (*decoder)->Forward({all.subspan(kFirst), {&second, 1}, wanted}, *kv, backend, out);
  };
  std::vector<std::thread> others;
  for (int rank = 1; rank < num_ranks; ++rank) others.emplace_back(run, rank);
  run(0);
  for (std::thread& other : others) other.join();
  return logits;
}

TEST_P(RanksTest, TogetherComputeTheModel) {
  const auto& [model, num_ranks] = GetParam();
  fakes::TempDirectory directory;
  std::string path = directory.path();
  if (model.gguf) {
    path += "/m.gguf";
    fakes::WriteTinyGguf(model.model, path);
  } else {
    fakes::WriteTinyHuggingFaceModel(model.model, path);
  }
  const auto files = OpenModelFiles(path);
  ASSERT_TRUE(files.ok()) << files.status();
  const std::vector<float> want = Logits(*files, 1), got = Logits(*files, num_ranks);
  double error = 0, size = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    error += std::pow(want[i] - got[i], 2);
    size += std::pow(want[i], 2);
  }
  EXPECT_LT(std::sqrt(error / size), 1e-5);
}

INSTANTIATE_TEST_SUITE_P(
    Cases, RanksTest,
    testing::Combine(testing::Values(Case{"plain", {}}, Case{"tied", {.tied = true}},
                                     Case{"biases",
                                          {.num_heads = 6, .num_kv_heads = 3, .biases = true}},
                                     Case{"odd_mlp", {.mlp_size = 80, .dtype = DType::kBF16}},
                                     Case{"blocks", {.head_dim = 32, .dtype = DType::kQ4_1}, true},
                                     // Blocks of 256 columns, which the cut goes through.
                                     Case{"super_blocks",
                                          {.hidden_size = 256,
                                           .num_heads = 8,
                                           .head_dim = 64,
                                           .mlp_size = 256,
                                           .dtype = DType::kQ6_K},
                                          true}),
                     testing::Values(2, 3, 4)),
    [](const auto& info) {
      return std::string(std::get<0>(info.param).name) + "_" +
             std::to_string(std::get<1>(info.param));
    });

}  // namespace
}  // namespace trireme
