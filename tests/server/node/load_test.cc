// Loading whole models from disk: what is said about broken ones, and what their defaults become.
#include "server/node/load.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "runtime/base/strings.h"
#include "tests/fakes/files.h"
#include "tests/fakes/tiny_model.h"

namespace trireme {
namespace {

using fakes::TinyModel;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

TEST(DecoderLimits, LogitRowsAreNoMoreThanWhatRunsOrFitsAStep) {
  const auto rows = [](int max_running, int max_step_tokens) {
    SchedulerOptions scheduler;
    scheduler.max_running = max_running;
    scheduler.max_step_tokens = max_step_tokens;
    const DecoderLimits limits = DecoderLimitsOf(scheduler);
    EXPECT_EQ(limits.max_step_tokens, max_step_tokens);
    return limits.max_logit_tokens;
  };
  EXPECT_EQ(rows(256, 512), 64);
  EXPECT_EQ(rows(5, 512), 5);
  EXPECT_EQ(rows(256, 7), 7);
}

class LoadTest : public testing::Test {
 protected:
  LoadTest() {
    options_.model = directory_.path();
    options_.num_threads = 1;
    fakes::WriteTinyHuggingFaceModel(TinyModel{}, directory_.path());
  }
  absl::StatusOr<std::unique_ptr<Node>> Load() {
    auto model = OpenModel(options_);
    if (!model.ok()) return model.status();
    return LoadNode(options_, *std::move(model), &Clock::Monotonic(), nullptr, nullptr);
  }
  void Write(std::string_view name, std::string_view content) {
    fakes::WriteFile(directory_.File(name), content);
  }
  std::string Read(std::string_view name) { return fakes::ReadFile(directory_.File(name)); }
  // The message of the refusal; it must name `file` of the model once.
  std::string RefusalNaming(std::string_view file) {
    const absl::Status status = Load().status();
    EXPECT_FALSE(status.ok());
    const std::string message(status.message()), path = directory_.File(file);
    EXPECT_THAT(message, HasSubstr(path));
    EXPECT_EQ(message.find(path), message.rfind(path)) << message;
    return message;
  }

  fakes::TempDirectory directory_;
  LoadOptions options_;
};

TEST_F(LoadTest, SoundModelLoads) {
  const auto node = Load();
  ASSERT_TRUE(node.ok()) << node.status();
}

TEST_F(LoadTest, BrokenJsonIsRefusedByItsFile) {
  for (const char* file :
       {"config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json"}) {
    const std::string sound = Read(file);
    for (const char* text : {"{", "[]", "7", "{\"a\": \xff}"}) {
      SCOPED_TRACE(StrCat(file, " = ", text));
      Write(file, text);
      RefusalNaming(file);
    }
    Write(file, sound);
  }
}

TEST_F(LoadTest, MissingFileIsRefusedByItsName) {
  for (const char* file : {"config.json", "tokenizer.json"}) {
    const std::string sound = Read(file);
    std::filesystem::remove(directory_.File(file));
    EXPECT_EQ(Load().status().code(), absl::StatusCode::kNotFound);
    RefusalNaming(file);
    Write(file, sound);
  }
}

TEST_F(LoadTest, WrongConfigFieldIsRefusedByFileAndField) {
  Write("config.json", R"({"architectures": ["LlamaForCausalLM"], "hidden_size": -1})");
  EXPECT_THAT(RefusalNaming("config.json"), HasSubstr("num_hidden_layers"));
  Write("config.json", "{\"architectures\": [\"Evil\\u001b[2J\"]}");
  EXPECT_THAT(RefusalNaming("config.json"), HasSubstr("Evil\\x1b[2J is not supported"));
}

TEST_F(LoadTest, WrongWeightsAreRefusedByFileAndTensor) {
  Write("model.safetensors", "12345678");
  RefusalNaming("model.safetensors");
  // Weights of another model: the folder is named, as config.json or the weights may be at fault.
  fakes::WriteTinyHuggingFaceModel(TinyModel{.mlp_size = 64}, directory_.path());
  Write("config.json", fakes::TinyConfigJson(TinyModel{}));
  const std::string message(Load().status().message());
  EXPECT_THAT(message, StartsWith(directory_.path()));
  EXPECT_THAT(message, HasSubstr("tensor model.layers.0.mlp.gate_proj.weight is [64, 64]"));
}

TEST_F(LoadTest, BrokenChatTemplateIsRefusedByItsFile) {
  Write("chat_template.jinja", "{% if %}");
  EXPECT_THAT(RefusalNaming("chat_template.jinja"), HasSubstr("line 1"));
  Write("mine.jinja", "{{ x | no_such_filter }}");
  options_.chat_template_file = directory_.File("mine.jinja");
  EXPECT_THAT(RefusalNaming("mine.jinja"), HasSubstr("no_such_filter"));
}

TEST_F(LoadTest, TokenizerLargerThanTheModelIsRefused) {
  std::string tokenizer = Read("tokenizer.json");
  const std::string_view first = R"("added_tokens":[)";
  tokenizer.insert(tokenizer.find(first) + first.size(), R"({"id":300,"content":"<far>"},)");
  Write("tokenizer.json", tokenizer);
  EXPECT_THAT(std::string(Load().status().message()),
              StartsWith(StrCat(directory_.path(), ": the tokenizer has 301 tokens")));
}

// ---- Sizes.

TEST_F(LoadTest, ContextLongerThanTheModelWasTrainedForIsRefused) {
  const int trained = Load().value()->info.max_context_tokens;
  options_.max_context_tokens = trained;
  EXPECT_TRUE(Load().ok());
  options_.max_context_tokens = trained + 1;
  EXPECT_THAT(std::string(Load().status().message()),
              HasSubstr(StrCat("--max-context ", trained + 1,
                               ": the model was trained for contexts of ", trained, " tokens")));
}

TEST_F(LoadTest, WhatAStepDoesNotHoldIsCutWhereItIsReported) {
  options_.scheduler.max_step_tokens = 32;
  options_.scheduler.max_running = 100;
  options_.scheduler.max_prefill_chunk = 200;
  testing::internal::CaptureStderr();
  const auto node = Load().value();
  const std::string log = testing::internal::GetCapturedStderr();
  EXPECT_THAT(log, HasSubstr("--max-running"));
  EXPECT_THAT(log, HasSubstr("--max-prefill-chunk"));
  EXPECT_EQ(node->engine->options().scheduler.max_running, 31);
  EXPECT_EQ(node->engine->options().scheduler.max_prefill_chunk, 32);
}

TEST_F(LoadTest, TheCpuPrefillsInSmallChunksUnlessAskedForOthers) {
  EXPECT_EQ(Load().value()->engine->options().scheduler.max_prefill_chunk, 128);
  options_.scheduler.max_step_tokens = 64;  // silently: nobody asked for more
  testing::internal::CaptureStderr();
  EXPECT_EQ(Load().value()->engine->options().scheduler.max_prefill_chunk, 64);
  EXPECT_THAT(testing::internal::GetCapturedStderr(), Not(HasSubstr("--max-prefill-chunk")));
  options_.scheduler.max_prefill_chunk = 9;
  EXPECT_EQ(Load().value()->engine->options().scheduler.max_prefill_chunk, 9);
}

TEST(PlanKvCache, TakesHalfOfWhatIsFreeAndNoMore) {
  const KvShape shape{
      .num_layers = 1, .num_kv_heads = 1, .head_dim = 16, .block_size = 16, .dtype = DType::kF32};
  const int64_t block = shape.block_bytes();
  const auto plan = PlanKvCache({}, shape, 1024, {20 * block}).value();
  EXPECT_EQ(plan.source, KvCacheSource::kFreeMemory);
  EXPECT_EQ(plan.num_blocks, 10);
  EXPECT_EQ(PlanKvCache({}, shape, 1024, {1 << 30}).value().num_blocks, 32 * 1024 / 16);
  for (const int64_t little : {int64_t{-1}, int64_t{0}, 2 * block}) {
    EXPECT_THAT(std::string(PlanKvCache({}, shape, 1024, {little}).status().message()),
                StartsWith("50 % of free memory"));
  }
  EXPECT_THAT(std::string(PlanKvCache({}, shape, 1024, {std::nullopt}).status().message()),
              HasSubstr("--kv-cache-memory"));
}

// ---- generation_config.json.

TEST_F(LoadTest, GenerationConfigSetsTheDefaults) {
  Write("generation_config.json",
        R"({"temperature": 0.25, "top_p": 0.5, "top_k": 7, "min_p": 0.125, "typical_p": 0.75,
            "repetition_penalty": 1.5, "eos_token_id": [257, 65], "do_sample": true,
            "max_length": null})");
  const auto node = Load();
  ASSERT_TRUE(node.ok()) << node.status();
  const SamplingParams& sampling = (*node)->default_sampling;
  EXPECT_EQ(sampling.temperature, 0.25f);
  EXPECT_EQ(sampling.top_p, 0.5f);
  EXPECT_EQ(sampling.top_k, 7);
  EXPECT_EQ(sampling.min_p, 0.125f);
  EXPECT_EQ(sampling.typical_p, 0.75f);
  EXPECT_EQ(sampling.repetition_penalty, 1.5f);
}

TEST_F(LoadTest, GenerationConfigWithNullsAndTopKOffKeepsTheWiresDefaults) {
  Write("generation_config.json",
        R"({"temperature": null, "top_p": null, "top_k": -1, "eos_token_id": null})");
  const auto node = Load();
  ASSERT_TRUE(node.ok()) << node.status();
  EXPECT_EQ((*node)->default_sampling.temperature, SamplingParams{}.temperature);
  EXPECT_EQ((*node)->default_sampling.top_k, 0);
}

TEST_F(LoadTest, GenerationConfigOutOfRangeIsRefusedByFileAndField) {
  const std::pair<const char*, const char*> cases[] = {{"temperature", "2.5"},
                                                       {"temperature", "-0.1"},
                                                       {"temperature", "\"hot\""},
                                                       {"top_p", "0"},
                                                       {"top_p", "1.01"},
                                                       {"top_k", "-2"},
                                                       {"top_k", "1.5"},
                                                       {"top_k", "9999999999"},
                                                       {"min_p", "-1"},
                                                       {"typical_p", "0.0"},
                                                       {"repetition_penalty", "0"},
                                                       {"repetition_penalty", "1e9"},
                                                       {"eos_token_id", "\"</s>\""},
                                                       {"eos_token_id", "[2, 3.5]"}};
  for (const auto& [field, value] : cases) {
    SCOPED_TRACE(StrCat(field, " = ", value));
    Write("generation_config.json", StrCat("{\"", field, "\": ", value, "}"));
    EXPECT_THAT(RefusalNaming("generation_config.json"), HasSubstr(field));
  }
}

}  // namespace
}  // namespace trireme
