// The forward pass on real backends: against Transformers, against the double-precision oracle, and
// against itself.
#include "runtime/model/decoder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "runtime/backend/cpu_backend.h"
#include "runtime/base/check.h"
#include "runtime/model/model_files.h"
#include "tests/fakes/files.h"
#include "tests/fakes/reference_backend.h"
#include "tests/fakes/reference_decoder.h"
#include "tests/fakes/tiny_model.h"
#include "tests/runtime/model/golden_logits.h"

namespace trireme {
namespace {

using fakes::TinyModel;
using testing::HasSubstr;
using Logits = std::vector<std::vector<float>>;  // per token: [vocab_size]

constexpr DecoderLimits kLimits = {/*max_step_tokens=*/64, /*max_logit_tokens=*/64};
constexpr int kNumBlocks = 24;

std::unique_ptr<Backend> MakeBackend(std::string_view name) {
  if (name == "reference") return std::make_unique<fakes::ReferenceBackend>();
  if (name == "reference_int8") {
    return std::make_unique<fakes::ReferenceBackend>(
        fakes::ReferenceBackend::Options{.int8_activations = true});
  }
  CpuBackendOptions options;
  options.num_threads = 2;
  options.isa = name == "cpu" ? "" : name;
  auto backend = MakeCpuBackend(options);
  return backend.ok() ? *std::move(backend) : nullptr;  // null: this CPU has not got it
}

// A model on a backend with its KV cache.
class Running {
 public:
  Running(const std::string& path, std::string_view backend, DType kv_dtype = DType::kF32,
          void (*change)(DecoderSpec*) = nullptr)
      : files_(OpenModelFiles(path)), backend_(MakeBackend(backend)) {
    TRIREME_CHECK(files_.ok());
    if (change != nullptr) change(&files_->spec);
    auto decoder = Decoder::Load(files_->spec, *files_->checkpoint, *backend_, kLimits, nullptr);
    TRIREME_CHECK(decoder.ok());
    decoder_ = *std::move(decoder);
    auto kv = KvStorage::Create(KvShape::Of(files_->spec, 16, kv_dtype), kNumBlocks, *backend_);
    TRIREME_CHECK(kv.ok());
    kv_ = *std::move(kv);
  }

  const ModelFiles& files() const { return *files_; }

  // One step; the logits of all tokens, or of those asked for.
  Logits Step(absl::Span<const TokenId> tokens, absl::Span<const SequenceSlice> sequences,
              std::vector<int32_t> wanted = {-1}) {
    if (wanted == std::vector<int32_t>{-1}) {
      wanted.resize(tokens.size());
      std::iota(wanted.begin(), wanted.end(), 0);
    }
    const int vocab = files_->spec.vocab_size;
    std::vector<float> logits(wanted.size() * static_cast<size_t>(vocab));
    BatchView batch{tokens, sequences, wanted};
    decoder_->Forward(
        batch, *kv_, *backend_,
        Tensor{logits.data(), DType::kF32, static_cast<int64_t>(wanted.size()), vocab});
    EXPECT_TRUE(backend_->Synchronize().ok());
    Logits rows;
    for (size_t i = 0; i < wanted.size(); ++i) {
      rows.emplace_back(logits.begin() + static_cast<int64_t>(i) * vocab,
                        logits.begin() + static_cast<int64_t>(i + 1) * vocab);
    }
    return rows;
  }

  // A whole prompt alone, in one step.
  Logits Prompt(absl::Span<const TokenId> tokens, std::vector<BlockId> blocks = {7, 2, 11, 5}) {
    const SequenceSlice slice{0, static_cast<int>(tokens.size()), 0, blocks};
    return Step(tokens, {&slice, 1});
  }

 private:
  absl::StatusOr<ModelFiles> files_;
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<Decoder> decoder_;
  std::unique_ptr<KvStorage> kv_;
};

std::vector<TokenId> SomeTokens(int count, int seed) {
  std::vector<TokenId> tokens;
  for (int i = 0; i < count; ++i)
    tokens.push_back((i * 37 + seed * 101 + i * i) % TinyModel::kVocabSize);
  return tokens;
}

// ---- Values.

class Golden : public testing::TestWithParam<std::tuple<const char*, const char*>> {};

TEST_P(Golden, LogitsEqualTransformers) {
  const auto [backend, name] = GetParam();
  if (MakeBackend(backend) == nullptr) GTEST_SKIP() << "no " << backend << " on this CPU";
  const GoldenLogits golden = ReadGoldenLogits(name);
  fakes::TempDirectory directory;
  fakes::WriteTinyHuggingFaceModel(GoldenModel(name), directory.path());
  const Logits logits = Running(directory.path(), backend).Prompt(golden.tokens);
  const double tolerance = std::string_view(name).starts_with("bf16") ? 2e-3 : 1e-4;
  for (size_t i = 0; i < golden.positions.size(); ++i) {
    const auto& row = logits.at(static_cast<size_t>(golden.positions[i]));
    EXPECT_LT(RelativeError(row, golden.logits[i], row.size()), tolerance) << golden.positions[i];
  }
}

INSTANTIATE_TEST_SUITE_P(
    Cases, Golden,
    testing::Combine(testing::Values("reference", "portable", "avx2", "avx512"),
                     testing::Values("f32", "f32_tied", "f32_window", "bf16", "bf16_tied")),
    [](const auto& info) {
      return std::string(std::get<0>(info.param)) + "_" + std::get<1>(info.param);
    });

// What families other than Llama set.
TEST(Options, EachChangesTheLogitsAsTheOracleSays) {
  void (*const changes[])(DecoderSpec*) = {
      [](DecoderSpec* spec) { spec->attention_scale = 0.7f; },
      [](DecoderSpec* spec) { spec->attention_soft_cap = 0.5f; },
      [](DecoderSpec* spec) { spec->embedding_scale = 3.0f; },
      [](DecoderSpec* spec) { spec->logit_scale = 0.25f; },
      [](DecoderSpec* spec) { spec->sliding_window = 5; },
      [](DecoderSpec* spec) { spec->rope.rotary_dim = 8; },
      [](DecoderSpec* spec) { spec->rope.interleaved = true; },
      [](DecoderSpec* spec) { spec->activation = Activation::kGeluTanh; },
      [](DecoderSpec* spec) { spec->activation = Activation::kGelu; },
  };
  fakes::TempDirectory directory;
  fakes::WriteTinyHuggingFaceModel({}, directory.path());
  const std::vector<TokenId> tokens = SomeTokens(20, 5);
  const Logits plain = Running(directory.path(), "cpu").Prompt(tokens);
  for (size_t i = 0; i < std::size(changes); ++i) {
    Running running(directory.path(), "cpu", DType::kF32, changes[i]);
    const std::vector<float> actual = running.Prompt(tokens).back();
    const ModelFiles& files = running.files();
    const auto expected = fakes::ReferenceLogits(files.spec, *files.checkpoint, tokens).back();
    EXPECT_LT(RelativeError(actual, expected, actual.size()), 1e-4) << "change " << i;
    EXPECT_GT(RelativeError(actual, plain.back(), actual.size()), 1e-4) << "change " << i;
  }
}

class QuantisedGguf : public testing::TestWithParam<DType> {};

// The kernels round activations to int8. They may be as wrong as the oracle is with such
// activations, times two.
TEST_P(QuantisedGguf, LogitsAreThoseOfTheDequantisedWeights) {
  TinyModel model;
  model.dtype = GetParam();
  model.hidden_size = model.mlp_size = 256;
  model.head_dim = 64;
  fakes::TempDirectory directory;
  const std::string path = directory.File("tiny.gguf");
  fakes::WriteTinyGguf(model, path);
  const std::vector<TokenId> tokens = SomeTokens(20, 1);
  const Logits actual = Running(path, "cpu").Prompt(tokens);
  const Logits low_precision = Running(path, "reference_int8").Prompt(tokens);
  const auto files = OpenModelFiles(path);
  const auto exact = fakes::ReferenceLogits(files->spec, *files->checkpoint, tokens);
  double error = 0, allowed = 0;
  for (size_t i = 0; i < tokens.size(); ++i) {
    error += RelativeError(actual[i], exact[i], exact[i].size());
    allowed += 2 * RelativeError(low_precision[i], exact[i], exact[i].size());
  }
  EXPECT_LT(allowed, 0.2 * static_cast<double>(tokens.size()));
  EXPECT_LT(error, allowed);
}

INSTANTIATE_TEST_SUITE_P(Types, QuantisedGguf,
                         testing::Values(DType::kQ4_0, DType::kQ4_1, DType::kQ5_0, DType::kQ5_1,
                                         DType::kQ8_0, DType::kQ4_K, DType::kQ5_K, DType::kQ6_K),
                         [](const auto& info) { return std::string(DTypeName(info.param)); });

// ---- Batch invariance: the same bits, whatever shares the batch and however the prompt is cut.

class Invariance : public testing::TestWithParam<std::tuple<const char*, DType>> {
 protected:
  void SetUp() override {
    model_.dtype = std::get<1>(GetParam());
    model_.hidden_size = model_.mlp_size = 256;
    model_.head_dim = 64;
    fakes::WriteTinyGguf(model_, path_);
  }
  Running Start() const { return Running(path_, std::get<0>(GetParam()), DType::kF16); }

  TinyModel model_;
  fakes::TempDirectory directory_;
  const std::string path_ = directory_.File("tiny.gguf");
};

TEST_P(Invariance, ChunkedPrefillGivesTheSameBits) {
  const std::vector<TokenId> tokens = SomeTokens(50, 1);
  const Logits whole = Start().Prompt(tokens);
  for (const int chunk : {1, 7, 16, 33}) {
    Running running = Start();
    const std::vector<BlockId> blocks = {3, 9, 0, 20};  // not those of the whole run
    for (int done = 0; done < 50; done += chunk) {
      const int count = std::min(chunk, 50 - done);
      const SequenceSlice slice{0, count, done, blocks};
      const Logits part = running.Step(
          absl::MakeSpan(tokens).subspan(static_cast<size_t>(done), static_cast<size_t>(count)),
          {&slice, 1});
      for (int i = 0; i < count; ++i) {
        ASSERT_EQ(part[static_cast<size_t>(i)], whole[static_cast<size_t>(done + i)])
            << "chunks of " << chunk << ", token " << done + i;
      }
    }
  }
}

TEST_P(Invariance, NeighboursInTheBatchDoNotMatter) {
  const std::vector<TokenId> a = SomeTokens(18, 1), b = SomeTokens(30, 2), c = SomeTokens(9, 3);
  const Logits a_alone = Start().Prompt(a), b_alone = Start().Prompt(b),
               c_alone = Start().Prompt(c);
  Running running = Start();
  const std::vector<BlockId> a_blocks = {4, 1}, b_blocks = {8, 15}, c_blocks = {16};
  // First all but the last token of each, then a decode step of all three.
  std::vector<TokenId> first(a.begin(), a.end() - 1);
  first.insert(first.end(), b.begin(), b.end() - 1);
  first.insert(first.end(), c.begin(), c.end() - 1);
  const SequenceSlice prefill[] = {
      {0, 17, 0, a_blocks}, {17, 29, 0, b_blocks}, {46, 8, 0, c_blocks}};
  const Logits logits = running.Step(first, prefill);
  for (size_t i = 0; i < 17; ++i) EXPECT_EQ(logits[i], a_alone[i]);
  for (size_t i = 0; i < 29; ++i) EXPECT_EQ(logits[17 + i], b_alone[i]);
  for (size_t i = 0; i < 8; ++i) EXPECT_EQ(logits[46 + i], c_alone[i]);
  const TokenId last[] = {c.back(), a.back(), b.back()};
  const SequenceSlice decode[] = {{0, 1, 8, c_blocks}, {1, 1, 17, a_blocks}, {2, 1, 29, b_blocks}};
  const Logits next = running.Step(last, decode);
  EXPECT_EQ(next[0], c_alone.back());
  EXPECT_EQ(next[1], a_alone.back());
  EXPECT_EQ(next[2], b_alone.back());
}

TEST_P(Invariance, OnlyTheLogitsAskedForAreComputed) {
  const std::vector<TokenId> tokens = SomeTokens(20, 4);
  const Logits all = Start().Prompt(tokens);
  Running running = Start();
  const std::vector<BlockId> blocks = {1, 2};
  const SequenceSlice slice{0, 20, 0, blocks};
  EXPECT_EQ(running.Step(tokens, {&slice, 1}, {3, 19}), (Logits{all[3], all[19]}));
  EXPECT_TRUE(running.Step(tokens, {&slice, 1}, {}).empty());
}

INSTANTIATE_TEST_SUITE_P(Cases, Invariance,
                         testing::Combine(testing::Values("reference", "cpu"),
                                          testing::Values(DType::kF32, DType::kBF16, DType::kQ4_1,
                                                          DType::kQ6_K)),
                         [](const auto& info) {
                           return std::string(std::get<0>(info.param)) + "_" +
                                  std::string(DTypeName(std::get<1>(info.param)));
                         });

// ---- Loading.

class Load : public testing::Test {
 protected:
  // A tiny folder whose config.json differs from its weights in `field`.
  absl::Status LoadWith(const TinyModel& weights, const TinyModel& config,
                        size_t memory = SIZE_MAX) {
    fakes::WriteTinyHuggingFaceModel(weights, directory_.path());
    fakes::WriteFile(directory_.File("config.json"), fakes::TinyConfigJson(config));
    const auto files = OpenModelFiles(directory_.path());
    if (!files.ok()) return files.status();
    fakes::ReferenceBackend backend({.memory_limit_bytes = memory});
    return Decoder::Load(files->spec, *files->checkpoint, backend, kLimits, nullptr).status();
  }
  fakes::TempDirectory directory_;
};

TEST_F(Load, MissingTensorsAreNamed) {
  TinyModel config;
  config.num_layers = 3;
  const absl::Status status = LoadWith({}, config);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(status.message(), "tensor model.layers.2.input_layernorm.weight is missing");
}

TEST_F(Load, ShapesThatContradictTheConfigAreNamed) {
  TinyModel config;
  config.num_kv_heads = 4;
  EXPECT_EQ(LoadWith({}, config).message(),
            "tensor model.layers.0.self_attn.k_proj.weight is [32, 64]; the model wants [64, 64]");
  config = {};
  config.mlp_size = 100;
  EXPECT_THAT(std::string(LoadWith({}, config).message()),
              HasSubstr("mlp.gate_proj.weight is [96, 64]"));
  config = {};
  config.hidden_size = 128;
  EXPECT_THAT(std::string(LoadWith({}, config).message()),
              HasSubstr("embed_tokens.weight is [259, 64]"));
}

TEST_F(Load, TensorsWithoutAPlaceAreRefused) {
  TinyModel with_biases;
  with_biases.biases = true;
  EXPECT_THAT(std::string(LoadWith(with_biases, {}).message()),
              HasSubstr("bias has no place in this model"));
  TinyModel fewer_layers;
  fewer_layers.num_layers = 1;
  EXPECT_THAT(std::string(LoadWith({}, fewer_layers).message()), HasSubstr("model.layers.1."));
  TinyModel tied;
  tied.tied = true;
  EXPECT_TRUE(LoadWith({}, tied).ok());  // a second copy of a tied matrix is common
}

TEST_F(Load, EveryAllocationMayFail) {
  ASSERT_TRUE(LoadWith({}, {}).ok());
  int failures = 0;
  for (size_t memory = 0; memory < (2 << 20); memory += 20'000) {
    const absl::Status status = LoadWith({}, {}, memory);
    if (status.ok()) continue;
    ++failures;
    EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
    EXPECT_THAT(std::string(status.message()), HasSubstr("bytes are needed"));
  }
  EXPECT_GT(failures, 10);
}

TEST_F(Load, ProgressEndsAtTheSizeOfTheCheckpoint) {
  for (const bool tied : {false, true}) {
    TinyModel model;
    model.tied = tied;
    fakes::WriteTinyHuggingFaceModel(model, directory_.path());
    const auto files = OpenModelFiles(directory_.path());
    ASSERT_TRUE(files.ok());
    fakes::ReferenceBackend backend;
    int64_t last = 0, total = 0;
    const auto progress = [&](int64_t done, int64_t of) {
      EXPECT_GE(done, last);
      last = done;
      total = of;
    };
    ASSERT_TRUE(Decoder::Load(files->spec, *files->checkpoint, backend, kLimits, progress).ok());
    EXPECT_EQ(last, total);
    EXPECT_EQ(total, files->checkpoint->size_bytes());
  }
}

TEST(KvStorage, LayersDoNotOverlapAndFillTheMemory) {
  fakes::ReferenceBackend backend;
  const KvShape shape = {3, 2, 8, 16, DType::kF16};
  EXPECT_EQ(shape.block_bytes(), 3 * 2 * 2 * 16 * 8 * 2);
  const auto kv = KvStorage::Create(shape, 5, backend);
  ASSERT_TRUE(kv.ok());
  const auto bytes = [](const void* p) { return static_cast<const uint8_t*>(p); };
  for (int layer = 0; layer < 3; ++layer) {
    const KvLayerView view = (*kv)->Layer(layer);
    EXPECT_EQ(bytes(view.v) - bytes(view.k), shape.layer_block_bytes());
    EXPECT_EQ(bytes(view.k) - bytes((*kv)->Layer(0).k), layer * 2 * shape.layer_block_bytes());
    EXPECT_EQ(view.block_stride * 2, shape.block_bytes());  // in elements of two bytes
    EXPECT_EQ(view.num_kv_heads, 2);
    EXPECT_EQ(view.head_dim, 8);
  }
}

TEST(KvStorage, MemoryThatIsNotThereIsResourceExhausted) {
  fakes::ReferenceBackend backend({.memory_limit_bytes = 1000});
  const KvShape shape = {3, 2, 8, 16, DType::kF16};
  EXPECT_EQ(KvStorage::Create(shape, 5, backend).status().code(),
            absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(KvStorage::Create(shape, 0, backend).status().code(),
            absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace trireme
