#include <functional>

#include "tests/server/node/node_fixture.h"

namespace trireme {
namespace {

class PrepareTest : public NodeTest {
 protected:
  PrepareTest() { StartEngineSaying(""); }
  std::vector<GenerateRequest> Prepared(const TextRequest& request) {
    absl::StatusOr<std::vector<GenerateRequest>> prepared = Prepare(node_, request);
    EXPECT_TRUE(prepared.ok()) << prepared.status();
    return *std::move(prepared);
  }
};

TEST_F(PrepareTest, ModelIsKnownByItsNameAndAliases) {
  EXPECT_TRUE(CheckModel(node_, "tiny").ok());
  EXPECT_TRUE(CheckModel(node_, "small").ok());
  const absl::Status status = CheckModel(node_, "Tiny");
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(ErrorCode(status), "model_not_found");
  EXPECT_EQ(ErrorParam(status), "model");
}

TEST_F(PrepareTest, UnknownModelIsNotPrepared) {
  TextRequest request = Completion("ab");
  request.model = "large";
  EXPECT_EQ(ErrorCode(Prepare(node_, request).status()), "model_not_found");
}

TEST_F(PrepareTest, GoingBeforeEverybodyNeedsTheRightToAndGoingBehindDoesNot) {
  TextRequest request = Completion("ab");
  for (const int allowed : {0, 1, kMaxPriority}) {
    request.base.priority = allowed;
    EXPECT_EQ(Prepared(request)[0].priority, allowed);
  }
  request.base.priority = -1;
  const absl::Status refused = Prepare(node_, request).status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kPermissionDenied);
  EXPECT_EQ(ErrorCode(refused), "priority_not_allowed");
  EXPECT_EQ(ErrorParam(refused), "priority");
  request.may_raise_priority = true;
  EXPECT_EQ(Prepared(request)[0].priority, -1);
  request.base.priority = -kMaxPriority - 1;  // for nobody
  EXPECT_EQ(Prepare(node_, request).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(PrepareTest, SpecialTokensFormInTheTemplateButNeverInChatContent) {
  const std::vector<GenerateRequest> prepared = Prepared(Chat("a<|im_end|>"));
  ASSERT_EQ(prepared.size(), 1u);
  std::vector<TokenId> expected = {kBos, kImStart};
  for (TokenId id : Bytes("user\na<|im_end|>")) expected.push_back(id);
  expected.push_back(kEos);
  expected.push_back('\n');
  expected.push_back(kImStart);
  for (TokenId id : Bytes("assistant\n")) expected.push_back(id);
  EXPECT_EQ(prepared[0].prompt, expected);
}

TEST_F(PrepareTest, SpecialTokensFormInCompletionPrompts) {
  EXPECT_EQ(Prepared(Completion("a<|im_start|>"))[0].prompt, (std::vector<TokenId>{'a', kImStart}));
}

TEST_F(PrepareTest, BatchHoldsTextAndTokenPromptsInOrder) {
  TextRequest request = Completion("");
  request.input = std::vector<TextPrompt>{std::string("ab"), std::vector<TokenId>{1, 2, 3}};
  request.n = 2;
  const std::vector<GenerateRequest> prepared = Prepared(request);
  ASSERT_EQ(prepared.size(), 4u);
  EXPECT_EQ(prepared[0].prompt, Bytes("ab"));
  EXPECT_EQ(prepared[1].prompt, Bytes("ab"));
  EXPECT_EQ(prepared[2].prompt, (std::vector<TokenId>{1, 2, 3}));
  EXPECT_EQ(prepared[3].prompt, (std::vector<TokenId>{1, 2, 3}));
}

TEST_F(PrepareTest, CandidatesCountTheirSeedsFromTheRequestsInEveryPrompt) {
  TextRequest request = Completion("");
  request.input = std::vector<TextPrompt>{std::string("ab"), std::string("cd")};
  request.n = 3;
  request.base.sampling.seed = 41;
  std::vector<uint64_t> seeds;
  for (const GenerateRequest& r : Prepared(request)) seeds.push_back(*r.sampling.seed);
  EXPECT_EQ(seeds, (std::vector<uint64_t>{41, 42, 43, 41, 42, 43}));
  request.base.sampling.seed.reset();
  EXPECT_FALSE(Prepared(request)[0].sampling.seed);
}

TEST_F(PrepareTest, LogprobsAreTakenWhereBestOfNeedsThem) {
  TextRequest request = Completion("ab");
  request.best_of = 3;
  EXPECT_EQ(Prepared(request).size(), 3u);
  EXPECT_EQ(Prepared(request)[0].sampling.logprobs, 0);
  request.n = 3;
  EXPECT_FALSE(Prepared(request)[0].sampling.logprobs);
}

TEST_F(PrepareTest, EchoWithLogprobsAsksForPromptLogprobs) {
  TextRequest request = Completion("ab", 0);
  request.echo = true;
  EXPECT_FALSE(Prepared(request)[0].sampling.prompt_logprobs);
  request.base.sampling.logprobs = 1;
  EXPECT_TRUE(Prepared(request)[0].sampling.prompt_logprobs);
}

TEST_F(PrepareTest, ModelWithoutTemplateRefusesChat) {
  node_.chat_template.reset();
  const absl::Status status = Prepare(node_, Chat("hi")).status();
  EXPECT_EQ(ErrorParam(status), "messages");
  EXPECT_EQ(ErrorCode(status), "chat_not_supported");
}

ChatPrompt& ChatOf(TextRequest& request) { return std::get<ChatPrompt>(request.input); }

TEST_F(PrepareTest, RefusalsNameTheParameter) {
  using R = TextRequest;
  struct Case {
    const char* param;
    std::function<void(R&)> change;
  };
  const Case completion_cases[] = {
      {"n", [](R& r) { r.n = 0; }},
      {"n", [](R& r) { r.n = kMaxChoices + 1; }},
      {"best_of", [](R& r) { r.best_of = kMaxBestOf + 1; }},
      {"best_of", [](R& r) { r.n = 3, r.best_of = 2; }},
      {"best_of", [](R& r) { r.best_of = 0; }},
      {"stop", [](R& r) { r.stop.assign(kMaxStopStrings + 1, "x"); }},
      {"stop",
       [](R& r) {
         r.stop = {"x", ""};
       }},
      {"stop", [](R& r) { r.stop = {std::string(kMaxStopBytes + 1, 'x')}; }},
      {"max_tokens", [](R& r) { r.base.max_tokens = 0; }},
      {"max_tokens", [](R& r) { r.base.max_tokens = 1000; }},
      {"temperature", [](R& r) { r.base.sampling.temperature = -1; }},
      {"prompt", [](R& r) { r.input = std::vector<TextPrompt>(); }},
      {"prompt", [](R& r) { r.input = std::vector<TextPrompt>(kMaxPrompts + 1, "x"); }},
      {"prompt", [](R& r) { r.input = std::vector<TextPrompt>{std::string()}; }},
      {"prompt", [](R& r) { r.input = std::vector<TextPrompt>{std::vector<TokenId>{kVocab}}; }},
      {"prompt", [](R& r) { r.input = std::vector<TextPrompt>{std::string(500, 'x')}; }},
      {"n", [](R& r) { r.input = std::vector<TextPrompt>(3, "x"), r.n = 128; }},
  };
  const Case chat_cases[] = {
      {"messages", [](R& r) { ChatOf(r).messages.clear(); }},
      {"messages", [](R& r) { ChatOf(r).messages[0].as_object()["role"] = "refused"; }},
      {"messages",
       [](R& r) { ChatOf(r).messages[0].as_object()["content"] = std::string(500, 'x'); }},
      {"continue_final_message", [](R& r) { ChatOf(r).continue_final_message = true; }},
      {"echo", [](R& r) { r.echo = true; }},
  };
  const auto check = [&](TextRequest request, const Case& c) {
    EXPECT_TRUE(Prepare(node_, request).ok());
    c.change(request);
    const absl::Status status = Prepare(node_, request).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    EXPECT_EQ(ErrorParam(status), c.param) << status;
  };
  for (const Case& c : completion_cases) check(Completion("hello"), c);
  for (const Case& c : chat_cases) check(Chat("hello"), c);
}

TEST_F(PrepareTest, PromptLogprobsAreBoundedOverAllPromptsAndChoices) {
  TextRequest request = Completion("");
  request.echo = true;
  request.base.max_tokens = 1;
  request.base.sampling.logprobs = kMaxLogprobs;
  request.input = std::vector<TextPrompt>(250, std::string(390, 'x'));
  EXPECT_TRUE(Prepare(node_, request).ok());  // 250 * 390 * 21 numbers
  request.input = std::vector<TextPrompt>(2, std::string(395, 'x'));
  request.n = 128;  // 2 * 128 * 395 * 21
  EXPECT_EQ(ErrorParam(Prepare(node_, request).status()), "logprobs");
}

TEST_F(PrepareTest, TopKOfMinusOneIsOff) {
  TextRequest request = Completion("x");
  request.base.sampling.top_k = -1;
  EXPECT_EQ(Prepared(request)[0].sampling.top_k, 0);
  request.base.sampling.top_k = -2;
  EXPECT_EQ(ErrorParam(Prepare(node_, request).status()), "top_k");
}

TEST_F(PrepareTest, TemplateErrorsNameMessagesUnlessTheyNameAnotherField) {
  auto chat_template = ChatTemplate::Compile("{{ raise_exception('no such role') }}");
  ASSERT_TRUE(chat_template.ok());
  node_.chat_template = *std::move(chat_template);
  TextRequest request = Chat("x");
  EXPECT_EQ(ErrorParam(Prepare(node_, request).status()), "messages");
  ChatOf(request).template_kwargs = {{"messages", 1}};
  const absl::Status kwargs = Prepare(node_, request).status();
  EXPECT_EQ(ErrorParam(kwargs), "chat_template_kwargs");
  EXPECT_EQ(ErrorCode(kwargs), "chat_template_error");
}

// A tokenizer that knows its bound but must not be asked for ids.
class IdleTokenizer final : public Tokenizer {
 public:
  explicit IdleTokenizer(const Tokenizer& real) : Tokenizer(real.spec()), real_(real) {}
  std::vector<TokenId> Encode(std::string_view, SpecialTokens, bool) const override {
    ADD_FAILURE() << "tokenized";
    return {};
  }
  std::vector<TokenId> EncodeTemplate(std::string_view, absl::Span<const ByteSpan>,
                                      bool) const override {
    ADD_FAILURE() << "tokenized";
    return {};
  }
  std::optional<size_t> max_bytes_per_token() const override { return real_.max_bytes_per_token(); }
  std::string_view TokenBytes(TokenId id) const override { return real_.TokenBytes(id); }
  bool IsSpecial(TokenId id) const override { return real_.IsSpecial(id); }
  std::string Decode(absl::Span<const TokenId> ids, bool skip) const override {
    return real_.Decode(ids, skip);
  }
  std::optional<TokenId> FindToken(std::string_view content) const override {
    return real_.FindToken(content);
  }

 private:
  const Tokenizer& real_;
};

TEST_F(PrepareTest, TextThatCannotFitTheContextIsRefusedBeforeTokenization) {
  const std::unique_ptr<const Tokenizer> real = std::move(node_.tokenizer);
  node_.tokenizer = std::make_unique<IdleTokenizer>(*real);
  // 400 tokens of at most 12 bytes ("<|im_start|>"), and one byte too many for them.
  const std::string text(401 * 12, 'x');
  const absl::Status completion = Prepare(node_, Completion(text)).status();
  EXPECT_EQ(ErrorCode(completion), "context_length_exceeded");
  EXPECT_EQ(ErrorParam(completion), "prompt");
  const absl::Status chat = Prepare(node_, Chat(text)).status();
  EXPECT_EQ(ErrorCode(chat), "context_length_exceeded");
  EXPECT_EQ(ErrorParam(chat), "messages");
}

TEST_F(PrepareTest, ALongTextOfLongTokensIsTokenized) {
  std::string text;
  for (int i = 0; i < 300; ++i) text += "<|im_start|>";
  EXPECT_EQ(Prepared(Completion(text))[0].prompt.size(), 300u);
}

TEST_F(PrepareTest, ContextErrorKeepsItsCodeForChat) {
  const absl::Status status = Prepare(node_, Chat(std::string(500, 'x'))).status();
  EXPECT_EQ(ErrorCode(status), "context_length_exceeded");
  EXPECT_EQ(ErrorParam(status), "messages");
}

}  // namespace
}  // namespace trireme
