#include "tests/bench/host_bench_server.h"

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <thread>
#include <utility>

#include "runtime/base/check.h"
#include "runtime/base/strings.h"
#include "server/node/model_text.h"

namespace trireme::bench {
namespace {

constexpr int kMaxContext = 4096, kMaxRunning = 1024;
constexpr char kChatTemplate[] =
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] "
    "+ '<|im_end|>' + '\\n' }}{% endfor %}{% if add_generation_prompt %}{{ "
    "'<|im_start|>assistant\\n' }}{% endif %}";

template <typename T>
T OrDie(absl::StatusOr<T> value) {
  if (!value.ok()) {
    std::fprintf(stderr, "host_bench: %s\n", std::string(value.status().message()).c_str());
    std::exit(1);
  }
  return *std::move(value);
}

// The words of a sentence one after the other, each step no sooner than its time.
class ReadyExecutor final : public Executor {
 public:
  ReadyExecutor(std::vector<TokenId> words, const std::atomic<int64_t>* period_ns)
      : words_(std::move(words)), period_ns_(period_ns) {}

  void Open(RequestId, const GenerateRequest&) override {}
  void Close(RequestId) override {}
  void Submit(const StepPlan& plan) override { plan_ = &plan; }
  absl::Status Collect(StepResult* result) override {
    result->Reset(plan_->rows.size());
    for (size_t i = 0; i < result->rows.size(); ++i) {
      const size_t at = static_cast<size_t>(plan_->rows[i].sequence->num_generated());
      result->rows[i].token.id = words_[at % words_.size()];
    }
    const std::chrono::nanoseconds period(period_ns_->load());
    if (period.count() > 0) {
      std::this_thread::sleep_until(next_);
      next_ = std::max(next_ + period, std::chrono::steady_clock::now());
    }
    return absl::OkStatus();
  }

 private:
  const std::vector<TokenId> words_;
  const std::atomic<int64_t>* const period_ns_;
  const StepPlan* plan_ = nullptr;
  std::chrono::steady_clock::time_point next_;
};

EngineOptions OptionsOf(const Node& node) {
  EngineOptions options;
  options.scheduler.num_blocks = kMaxRunning * kMaxContext / options.scheduler.block_size;
  options.scheduler.max_context_tokens = kMaxContext;
  options.scheduler.max_running = kMaxRunning;
  options.scheduler.max_step_tokens = 2 * kMaxRunning;
  options.limits = {.vocab_size = node.info.vocab_size, .max_context_tokens = kMaxContext};
  return options;
}

}  // namespace

TextOf ReadText(const std::string& model_path) {
  if (!model_path.empty()) {
    const ModelFiles files = OrDie(OpenModelFiles(model_path));
    ModelText text = OrDie(OpenModelText(files));
    auto chat_template = OrDie(CompileChatTemplate(text, ""));
    TRIREME_CHECK(chat_template != nullptr);
    return {std::move(text.tokenizer), std::move(chat_template)};
  }
  std::stringstream json;
  json << std::ifstream(TRIREME_SOURCE_DIR "/tests/golden/tokenizer/smollm.json").rdbuf();
  return {OrDie(Tokenizer::Create(OrDie(ParseTokenizerJson(json.str(), "")))),
          OrDie(ChatTemplate::Compile(kChatTemplate))};
}

BenchServer::BenchServer(TextOf text) {
  node_.info = {.id = "bench",
                .created = absl::FromUnixSeconds(1700000000),
                .architecture = "llama",
                .max_context_tokens = kMaxContext,
                .vocab_size = text.tokenizer->vocab_size()};
  node_.tokenizer = std::move(text.tokenizer);
  node_.chat_template = std::move(text.chat_template);
  node_.clock = &Clock::Monotonic();
  node_.workers = std::make_unique<WorkerPool>(1, 4096);
  auto executor = std::make_unique<ReadyExecutor>(
      node_.tokenizer->Encode(" the ship went out at first light, and \"nobody\" knew where to.\n",
                              Tokenizer::SpecialTokens::kAsText, false),
      &step_period_);
  node_.engine = std::make_unique<Engine>(OptionsOf(node_), std::move(executor), node_.clock,
                                          telemetry_.engine_observer());
  telemetry_.metrics().Attach(node_.engine.get());
  http_ = OrDie(HttpServer::Start({}, OrDie(BoundPort::Bind("127.0.0.1", 0)), node_.clock,
                                  keys_.get(), &telemetry_));
  grpc_ = OrDie(GrpcServer::Start({}, OrDie(BoundPort::Bind("127.0.0.1", 0)), node_.clock,
                                  keys_.get(), &telemetry_));
  http_->SetNode(&node_);
  grpc_->SetNode(&node_);
}

std::string BenchServer::HttpUrl() const { return StrCat("http://127.0.0.1:", http_->port()); }
std::string BenchServer::GrpcUrl() const { return StrCat("grpc://127.0.0.1:", grpc_->port()); }

}  // namespace trireme::bench
