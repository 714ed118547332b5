#include "runtime/model/plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runtime/model/decoder.h"
#include "runtime/model/model_files.h"
#include "tests/fakes/files.h"
#include "tests/fakes/tiny_model.h"

namespace trireme {
namespace {

// Llama 3.1 8B, whose figures are published.
DecoderSpec Llama8B() {
  DecoderSpec spec;
  spec.num_layers = 32;
  spec.hidden_size = 4096;
  spec.num_heads = 32;
  spec.num_kv_heads = 8;
  spec.head_dim = 128;
  spec.mlp_size = 14336;
  spec.vocab_size = 128256;
  spec.max_context = 131072;
  return spec;
}

TEST(Plan, ParametersOfLlama8B) { EXPECT_EQ(CountParameters(Llama8B()), 8'030'261'248); }

class PlanOfFiles : public testing::Test {
 protected:
  ModelFiles Open(const fakes::TinyModel& model) {
    fakes::WriteTinyHuggingFaceModel(model, directory_.path());
    auto files = OpenModelFiles(directory_.path());
    EXPECT_TRUE(files.ok()) << files.status();
    EXPECT_TRUE(Decoder::CheckTensors(files->spec, *files->checkpoint).ok());
    return *std::move(files);
  }
  fakes::TempDirectory directory_;
};

TEST_F(PlanOfFiles, ParametersAreThoseOfTheFile) {
  for (const bool flag : {false, true}) {
    const ModelFiles files = Open({.tied = flag, .biases = flag});
    EXPECT_EQ(CountParameters(files.spec) * 4, files.checkpoint->size_bytes());
  }
}

TEST_F(PlanOfFiles, TokenReadsAllWeightsButTheRestOfTheEmbedding) {
  const ModelFiles untied = Open({.tied = false});
  const int64_t row = untied.spec.hidden_size * 4, table = untied.spec.vocab_size * row;
  EXPECT_EQ(DecodeWeightBytes(untied.spec, *untied.checkpoint),
            untied.checkpoint->size_bytes() - table + row);
  const ModelFiles tied = Open({.tied = true});
  EXPECT_EQ(DecodeWeightBytes(tied.spec, *tied.checkpoint), tied.checkpoint->size_bytes());
}

TEST(Plan, TokenReadsTheCacheUpToTheWindow) {
  DecoderSpec spec = Llama8B();
  const KvShape kv = KvShape::Of(spec, 16, DType::kF16);
  EXPECT_EQ(DecodeKvBytes(spec, kv, 0), 0);
  EXPECT_EQ(DecodeKvBytes(spec, kv, 1000), 1000 * 131072);  // 128 KiB a token
  spec.sliding_window = 100;
  EXPECT_EQ(DecodeKvBytes(spec, kv, 1000), 100 * 131072);
  EXPECT_EQ(DecodeKvBytes(spec, kv, 99), 99 * 131072);
}

// ---- Checking without loading.

TEST_F(PlanOfFiles, CheckNamesWhatLoadingWouldRefuse) {
  const auto check = [&](const fakes::TinyModel& weights, const fakes::TinyModel& config) {
    fakes::WriteTinyHuggingFaceModel(weights, directory_.path());
    fakes::WriteFile(directory_.File("config.json"), fakes::TinyConfigJson(config));
    const auto files = OpenModelFiles(directory_.path());
    EXPECT_TRUE(files.ok()) << files.status();
    return std::string(Decoder::CheckTensors(files->spec, *files->checkpoint).message());
  };
  using testing::HasSubstr;
  EXPECT_THAT(check({.num_layers = 1}, {.num_layers = 2}),
              HasSubstr("tensor model.layers.1.input_layernorm.weight is missing"));
  EXPECT_THAT(check({.num_layers = 2}, {.num_layers = 1}), HasSubstr("has no place in this model"));
  EXPECT_THAT(check({.mlp_size = 64}, {.mlp_size = 96}),
              HasSubstr("gate_proj.weight is [64, 64]; the model wants [96, 64]"));
  EXPECT_THAT(check({.biases = false}, {.biases = true}), HasSubstr("bias is missing"));
  EXPECT_THAT(check({.tied = true}, {.tied = false}), HasSubstr("lm_head.weight is missing"));
}

TEST(ModelFiles, GgufAndFolderAreOpenedByKind) {
  fakes::TempDirectory directory;
  const std::string gguf = directory.File("tiny.gguf");
  fakes::WriteTinyGguf({}, gguf);
  const auto from_gguf = OpenModelFiles(gguf);
  ASSERT_TRUE(from_gguf.ok()) << from_gguf.status();
  EXPECT_EQ(from_gguf->gguf->String("tokenizer.ggml.model"), "gpt2");
  EXPECT_EQ(from_gguf->spec.num_layers, 2);

  EXPECT_EQ(OpenModelFiles(directory.path()).status().code(), absl::StatusCode::kNotFound);
  fakes::WriteTinyHuggingFaceModel({}, directory.path());
  const auto from_folder = OpenModelFiles(directory.path());
  ASSERT_TRUE(from_folder.ok()) << from_folder.status();
  EXPECT_EQ(from_folder->gguf, nullptr);
  EXPECT_EQ(from_folder->directory, directory.path());

  fakes::WriteFile(directory.File("config.json"), "{}");
  EXPECT_THAT(std::string(OpenModelFiles(directory.path()).status().message()),
              testing::HasSubstr("config.json: architectures"));
  EXPECT_EQ(OpenModelFiles(directory.File("none.gguf")).status().code(),
            absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace trireme
