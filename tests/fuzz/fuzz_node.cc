#include "tests/fuzz/fuzz_node.h"

#include "runtime/base/strings.h"
#include "runtime/text/byte_alphabet.h"
#include "tests/fakes/scripted_executor.h"
#include "tests/fuzz/fuzz.h"

namespace trireme::fuzz {
namespace {

constexpr int kVocab = 259;
constexpr char kTemplate[] =
    "{{ bos_token }}{% for m in messages %}<|im_start|>{{ m.role }} {{ m.name }}\n{{ m.content }}"
    "<|im_end|>{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}{{ x }}";

std::unique_ptr<const Tokenizer> MakeTokenizer() {
  TokenizerSpec spec;
  for (int byte = 0; byte < 256; ++byte) {
    spec.tokens.push_back(TokenOfBytes(std::string(1, static_cast<char>(byte))));
  }
  for (const char* content : {"<|bos|>", "<|im_end|>", "<|im_start|>"}) {
    spec.added_tokens.push_back(
        {.id = static_cast<TokenId>(spec.tokens.size()), .content = content, .special = true});
    spec.tokens.push_back(content);
  }
  spec.bos = 256;
  spec.eos = 257;
  spec.eos_ids = {257};
  return Tokenizer::Create(std::move(spec)).value();
}

}  // namespace

Node& SmallNode() {
  static Node* const node = [] {
    auto* made = new Node;
    made->tokenizer = MakeTokenizer();
    made->chat_template = ChatTemplate::Compile(kTemplate).value();
    made->info.id = std::string("m");
    made->clock = &Clock::Monotonic();
    EngineOptions options;
    options.scheduler = {
        .block_size = 4, .num_blocks = 512, .max_context_tokens = 400, .max_waiting_requests = 64};
    options.limits = {.vocab_size = kVocab, .max_context_tokens = 400, .eos_ids = {257}};
    made->engine = std::make_unique<Engine>(
        options,
        std::make_unique<fakes::ScriptedExecutor>(kVocab, fakes::ScriptedExecutor::HashOf(0, 256)),
        made->clock, nullptr);
    return made;
  }();
  return *node;
}

void CheckPrepared(const std::vector<GenerateRequest>& requests) {
  const EngineOptions& options = SmallNode().engine->options();
  FUZZ_CHECK(!requests.empty(), "");
  FUZZ_CHECK(requests.size() <= static_cast<size_t>(options.scheduler.max_waiting_requests), "");
  for (const GenerateRequest& request : requests) {
    const absl::Status valid = ValidateRequest(request, options.limits);
    FUZZ_CHECK(valid.ok(), FromAbsl(valid.message()));
  }
}

}  // namespace trireme::fuzz
