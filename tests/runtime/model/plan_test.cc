#include "runtime/model/plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

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

TEST(Plan, ParametersOfLlama8B) {
  EXPECT_EQ(CountParameters(Llama8B()), 8'030'261'248);
  EXPECT_EQ(WeightBytes(Llama8B(), DType::kBF16), 8'030'261'248 * 2 + 2 * 65 * 4096);
}

TEST(Plan, ParametersAndBytesAreThoseOfTheFile) {
  for (const bool flag : {false, true}) {
    fakes::TinyModel model;
    model.tied = model.biases = flag;
    fakes::TempDirectory directory;
    fakes::WriteTinyHuggingFaceModel(model, directory.path());
    const auto files = OpenModelFiles(directory.path());
    ASSERT_TRUE(files.ok()) << files.status();
    EXPECT_EQ(CountParameters(files->spec) * 4, files->checkpoint->size_bytes());
    EXPECT_EQ(WeightBytes(files->spec, DType::kF32), files->checkpoint->size_bytes());
  }
}

TEST(Plan, BlocksFillWhatIsLeft) {
  PlanOptions options;
  options.limits = {/*max_step_tokens=*/1, /*max_logit_tokens=*/1};
  options.weight_bytes = int64_t{16} << 30;
  options.memory_bytes = int64_t{80} << 30;
  const auto plan = PlanMemory(Llama8B(), options);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->kv_block_bytes, 2 * 32 * 8 * 128 * 2 * 16);  // 128 KiB a token
  EXPECT_EQ(plan->logits_bytes, 4 * 128256);
  // 64 GiB / 2 MiB, less one block for activations and logits.
  EXPECT_EQ(plan->num_blocks, 32767);
  EXPECT_EQ(plan->kv_tokens, 32767 * 16);
  EXPECT_EQ(plan->full_contexts, 3);
  const int64_t used = plan->weight_bytes + plan->workspace_bytes + plan->logits_bytes +
                       plan->num_blocks * plan->kv_block_bytes;
  EXPECT_LE(used, options.memory_bytes);
  EXPECT_GT(used + plan->kv_block_bytes, options.memory_bytes);
}

TEST(Plan, TooLittleMemoryNamesTheBytes) {
  PlanOptions options;
  options.limits = {1, 1};
  options.weight_bytes = 1000;
  const DecoderSpec spec = Llama8B();
  const int64_t needed = 1000 + 2097152 + 4 * 128256 +
                         static_cast<int64_t>(Decoder::WorkspaceBytes(spec, {1, 1}, DType::kF32));
  options.memory_bytes = needed;
  EXPECT_EQ(PlanMemory(spec, options)->num_blocks, 1);
  options.memory_bytes = needed - 1;
  const absl::Status status = PlanMemory(spec, options).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(status.message()), testing::HasSubstr(std::to_string(needed)));
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
