// A node without a model: a byte-level tokenizer of 259 tokens, a ChatML-like template, a scripted
// executor.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "runtime/base/status.h"
#include "runtime/text/byte_alphabet.h"
#include "server/node/generation.h"
#include "tests/fakes/scripted_executor.h"

namespace trireme {

inline constexpr TokenId kBos = 256, kEos = 257, kImStart = 258;
inline constexpr int kVocab = 259;

// What ChatML does: "<|im_start|>ROLE\nCONTENT<|im_end|>\n".
class FakeChatTemplate final : public ChatTemplate {
 public:
  absl::StatusOr<RenderedPrompt> Render(const ChatTemplateInputs& inputs) const override {
    RenderedPrompt out;
    out.text = inputs.bos_token;
    for (const boost::json::value& message : inputs.messages) {
      const std::string role(message.at("role").as_string());
      if (role == "refused") return absl::InvalidArgumentError("roles must alternate");
      out.text += "<|im_start|>" + role + "\n";
      const size_t begin = out.text.size();
      out.text += message.at("content").as_string();
      out.user_spans.push_back({begin, out.text.size()});
      out.text += "<|im_end|>\n";
    }
    if (inputs.add_generation_prompt) out.text += "<|im_start|>assistant\n";
    return out;
  }
  const std::string& source() const override { return source_; }

 private:
  const std::string source_ = "fake";
};

class NodeTest : public testing::Test {
 protected:
  using ScriptedExecutor = fakes::ScriptedExecutor;

  NodeTest() {
    TokenizerSpec spec;
    for (int byte = 0; byte < 256; ++byte) {
      spec.tokens.push_back(TokenOfBytes(std::string(1, static_cast<char>(byte))));
    }
    for (const char* special : {"<|bos|>", "<|im_end|>", "<|im_start|>"}) {
      TokenizerSpec::AddedToken added;
      added.id = static_cast<TokenId>(spec.tokens.size());
      added.content = special;
      added.special = true;
      spec.added_tokens.push_back(added);
      spec.tokens.push_back(special);
    }
    spec.bos = kBos;
    spec.eos = kEos;
    spec.eos_ids = {kEos};
    absl::StatusOr<std::unique_ptr<const Tokenizer>> tokenizer = Tokenizer::Create(std::move(spec));
    EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
    node_.tokenizer = *std::move(tokenizer);
    node_.chat_template = std::make_unique<FakeChatTemplate>();
    node_.info.id = "tiny";
    node_.info.aliases = {"small"};
    node_.clock = &Clock::Monotonic();
    options_.scheduler = {.block_size = 4,
                          .num_blocks = 512,
                          .max_context_tokens = 400,
                          .max_running = 64,
                          .max_step_tokens = 256,
                          .max_prefill_chunk = 16,
                          .max_waiting_requests = 256};
    options_.limits = {.vocab_size = kVocab, .max_context_tokens = 400, .eos_ids = {kEos}};
  }
  ~NodeTest() override {
    if (node_.engine == nullptr) return;
    executor_->OpenGate();
    node_.engine->WaitIdleAndCheck();
    EXPECT_EQ(executor_->num_open(), 0);
  }

  void StartEngine(ScriptedExecutor::NextToken next) {
    auto executor = std::make_unique<ScriptedExecutor>(kVocab, std::move(next));
    executor_ = executor.get();
    node_.engine =
        std::make_unique<Engine>(options_, std::move(executor), &Clock::Monotonic(), nullptr);
  }
  // The model says `text`, then ends.
  void StartEngineSaying(const std::string& text) {
    std::vector<TokenId> output = Bytes(text);
    output.push_back(kEos);
    StartEngine(ScriptedExecutor::Script(std::move(output)));
  }

  static std::vector<TokenId> Bytes(const std::string& text) {
    std::vector<TokenId> ids;
    for (char c : text) ids.push_back(static_cast<unsigned char>(c));
    return ids;
  }
  static TextRequest Completion(std::string prompt, int max_tokens = 64) {
    TextRequest request;
    request.model = "tiny";
    request.input = std::vector<TextPrompt>{std::move(prompt)};
    request.base.max_tokens = max_tokens;
    return request;
  }
  static TextRequest Chat(std::string content) {
    ChatPrompt chat;
    chat.messages = {{{"role", "user"}, {"content", std::move(content)}}};
    TextRequest request;
    request.model = "tiny";
    request.input = std::move(chat);
    request.base.max_tokens = 64;
    return request;
  }

  std::unique_ptr<Generation> Start(const TextRequest& request) {
    absl::StatusOr<std::vector<GenerateRequest>> prepared = Prepare(node_, request);
    EXPECT_TRUE(prepared.ok()) << prepared.status();
    auto generation = Generation::Start(node_, request, *std::move(prepared));
    EXPECT_TRUE(generation.ok()) << generation.status();
    return *std::move(generation);
  }

  // One delta per choice with everything that came.
  static std::vector<ChoiceDelta> ReadAll(Generation& generation) {
    std::vector<ChoiceDelta> choices(static_cast<size_t>(generation.num_choices()));
    while (!generation.done()) {
      absl::StatusOr<std::vector<ChoiceDelta>> deltas = generation.Next(absl::InfiniteFuture());
      EXPECT_TRUE(deltas.ok()) << deltas.status();
      if (!deltas.ok()) break;
      for (ChoiceDelta& delta : *deltas) {
        ChoiceDelta& choice = choices[static_cast<size_t>(delta.index)];
        EXPECT_EQ(choice.finish, FinishReason::kNone) << "a delta after the last one";
        choice.text += delta.text;
        for (TokenText& token : delta.tokens) choice.tokens.push_back(std::move(token));
        for (TokenText& token : delta.prompt_tokens)
          choice.prompt_tokens.push_back(std::move(token));
        for (TokenId id : delta.token_ids) choice.token_ids.push_back(id);
        choice.finish = delta.finish;
        choice.matched_stop = delta.matched_stop;
      }
    }
    return choices;
  }
  std::vector<ChoiceDelta> Run(const TextRequest& request) { return ReadAll(*Start(request)); }

  EngineOptions options_;
  Node node_;
  ScriptedExecutor* executor_ = nullptr;
};

}  // namespace trireme
