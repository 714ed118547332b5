// The engine on a real (tiny) model: what a request yields does not depend on what runs beside it,
// on chunks, on cached prefixes or on preemption; bit for bit.
#include "runtime/engine/model_executor.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <limits>

#include "runtime/backend/cpu_backend.h"
#include "runtime/base/check.h"
#include "runtime/engine/engine.h"
#include "runtime/model/model_files.h"
#include "tests/fakes/files.h"
#include "tests/fakes/reference_backend.h"
#include "tests/fakes/tiny_model.h"
#include "tests/runtime/engine/sampling_backend.h"

namespace trireme {
namespace {

using fakes::TinyModel;

struct Sizes {
  int num_blocks = 64;  // of 16 tokens
  int max_prefill_chunk = 512;
  int max_step_tokens = 512;
  bool prefix_cache = true;
  DecoderLimits decoder = {.max_step_tokens = 512, .max_logit_tokens = 64};
};

struct Output {
  std::vector<TokenId> tokens;
  std::vector<float> logprobs;         // of the tokens, then of their alternatives
  std::vector<float> prompt_logprobs;  // the same of the prompt
  FinishReason finish = FinishReason::kNone;
  absl::Status error;
  int num_cached_prompt_tokens = 0;

  void Add(const SampledToken& token, std::vector<float>* logprobs) {
    logprobs->push_back(token.logprob);
    for (const TokenLogprob& top : token.top) logprobs->push_back(top.logprob);
  }
};

Output ReadAll(RequestStream& stream) {
  Output output;
  while (output.finish == FinishReason::kNone) {
    StreamEvent event = *stream.Next(absl::InfiniteFuture());
    for (const SampledToken& token : event.tokens) {
      output.tokens.push_back(token.id);
      output.Add(token, &output.logprobs);
    }
    for (const SampledToken& token : event.prompt_logprobs) {
      output.Add(token, &output.prompt_logprobs);
    }
    output.num_cached_prompt_tokens =
        std::max(output.num_cached_prompt_tokens, event.num_cached_prompt_tokens);
    output.finish = event.finish;
    output.error = event.error;
  }
  return output;
}

void ExpectSame(const Output& got, const Output& want) {
  EXPECT_EQ(got.tokens, want.tokens);
  EXPECT_EQ(got.logprobs, want.logprobs);  // floats, exactly
  EXPECT_EQ(got.prompt_logprobs, want.prompt_logprobs);
  EXPECT_EQ(got.finish, want.finish);
}

// Every token id of a poisoned batch position is NaN from the embedding on.
class PoisonBackend : public fakes::ReferenceBackend {
 public:
  static constexpr TokenId kPoison = 200;
  void Step(const BatchView& batch, absl::FunctionRef<void(int, int)> forward) override {
    tokens_ = batch.tokens;
    ReferenceBackend::Step(batch, forward);
  }
  void Embed(const Weight& table, float scale, Tensor x) override {
    ReferenceBackend::Embed(table, scale, x);
    for (size_t i = 0; i < tokens_.size(); ++i) {
      if (tokens_[i] != kPoison) continue;
      float* row = static_cast<float*>(x.data) + static_cast<int64_t>(i) * x.cols;
      std::fill(row, row + x.cols, std::numeric_limits<float>::quiet_NaN());
    }
  }

 private:
  absl::Span<const TokenId> tokens_;
};

class ModelExecutorTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    directory_ = new fakes::TempDirectory();
    fakes::WriteTinyGguf({.max_context = 512, .dtype = DType::kQ8_0},
                         directory_->path() + "/m.gguf");
  }
  static void TearDownTestSuite() {
    delete directory_;
    directory_ = nullptr;
  }

  std::unique_ptr<ModelExecutor> Load(const Sizes& sizes, std::unique_ptr<Backend> backend) {
    Backend& device = *backend;
    files_.push_back(*OpenModelFiles(directory_->path() + "/m.gguf"));
    const ModelFiles& files = files_.back();
    auto decoder = *Decoder::Load(files.spec, *files.checkpoint, device, sizes.decoder, nullptr);
    auto kv =
        *KvStorage::Create(KvShape::Of(files.spec, 16, DType::kF16), sizes.num_blocks, device);
    std::vector<ModelRank> ranks;
    ranks.push_back({std::move(backend), std::move(decoder), std::move(kv)});
    return *ModelExecutor::Create(std::make_unique<Ranks>(std::move(ranks)));
  }
  std::unique_ptr<Engine> Start(const Sizes& sizes, std::unique_ptr<Backend> backend) {
    auto executor = Load(sizes, std::move(backend));
    EngineOptions options;
    options.scheduler = {.block_size = 16,
                         .num_blocks = sizes.num_blocks,
                         .max_context_tokens = 512,
                         .max_running = 32,
                         .max_step_tokens = sizes.max_step_tokens,
                         .max_prefill_chunk = sizes.max_prefill_chunk,
                         .prefix_cache = sizes.prefix_cache};
    options.limits = {
        .vocab_size = TinyModel::kVocabSize, .max_context_tokens = 512, .eos_ids = {}};
    return std::make_unique<Engine>(options, std::move(executor), &Clock::Monotonic(), nullptr);
  }
  static std::unique_ptr<Backend> Cpu() { return *MakeCpuBackend({.num_threads = 2}); }

  // Of many lengths; some share their first 40 tokens; sampled and greedy; some want prompt
  // logprobs.
  static std::vector<GenerateRequest> Requests() {
    std::vector<GenerateRequest> requests(16);
    for (int i = 0; i < 16; ++i) {
      GenerateRequest& request = requests[static_cast<size_t>(i)];
      const int length = 1 + i * 37 % 90;
      for (int t = 0; t < length; ++t) {
        const bool shared = i % 3 == 0 && t < 40;
        request.prompt.push_back(shared ? (7 * t) % 97 : (13 * t + 29 * i) % 251);
      }
      request.max_tokens = 24 + i % 5;
      request.sampling.temperature = i % 4 == 0 ? 0.0f : 1.0f;
      request.sampling.top_p = i % 4 == 1 ? 0.9f : 1.0f;
      request.sampling.frequency_penalty = i % 4 == 2 ? 0.5f : 0.0f;
      request.sampling.seed = 1000 + static_cast<uint64_t>(i);
      request.sampling.logprobs = 3;
      request.sampling.prompt_logprobs = i % 5 == 4;
    }
    return requests;
  }

  // Each alone, in an engine with room for everything.
  std::vector<Output> Solo(const std::vector<GenerateRequest>& requests) {
    auto engine = Start({.prefix_cache = false}, Cpu());
    std::vector<Output> outputs;
    for (const GenerateRequest& request : requests) {
      RequestStream stream = *engine->Submit(request);
      outputs.push_back(ReadAll(stream));
      EXPECT_EQ(outputs.back().finish, FinishReason::kLength);
    }
    return outputs;
  }
  static std::vector<Output> Together(Engine& engine,
                                      const std::vector<GenerateRequest>& requests) {
    std::vector<RequestStream> streams;
    for (const GenerateRequest& request : requests) streams.push_back(*engine.Submit(request));
    std::vector<Output> outputs;
    for (RequestStream& stream : streams) outputs.push_back(ReadAll(stream));
    engine.WaitIdleAndCheck();
    EXPECT_EQ(engine.stats().scheduler.blocks_held, 0);
    return outputs;
  }
  void ExpectSameTogether(Engine& engine) {
    const std::vector<GenerateRequest> requests = Requests();
    const std::vector<Output> solo = Solo(requests);
    const std::vector<Output> together = Together(engine, requests);
    for (size_t i = 0; i < requests.size(); ++i) {
      SCOPED_TRACE(i);
      ExpectSame(together[i], solo[i]);
    }
  }

  static fakes::TempDirectory* directory_;
  std::deque<ModelFiles> files_;
};
fakes::TempDirectory* ModelExecutorTest::directory_ = nullptr;

TEST_F(ModelExecutorTest, ConcurrentRequestsEqualTheirSoloRuns) {
  auto engine = Start({}, Cpu());
  ExpectSameTogether(*engine);
}

TEST_F(ModelExecutorTest, ChunkedPrefillChangesNothing) {
  auto engine = Start({.max_prefill_chunk = 7, .max_step_tokens = 48}, Cpu());
  ExpectSameTogether(*engine);
}

TEST_F(ModelExecutorTest, PreemptionChangesNothing) {
  auto engine = Start({.num_blocks = 14, .max_prefill_chunk = 16}, Cpu());
  ExpectSameTogether(*engine);
  EXPECT_GT(engine->stats().scheduler.preemptions, 0u);
}

TEST_F(ModelExecutorTest, PrefixCacheHitsChangeNothing) {
  auto engine = Start({.num_blocks = 256}, Cpu());
  const std::vector<GenerateRequest> requests = Requests();
  const std::vector<Output> solo = Solo(requests);
  Together(*engine, requests);
  const std::vector<Output> again = Together(*engine, requests);
  for (size_t i = 0; i < requests.size(); ++i) {
    SCOPED_TRACE(i);
    ExpectSame(again[i], solo[i]);
    const bool can_hit = requests[i].prompt.size() > 16 && !requests[i].sampling.prompt_logprobs;
    EXPECT_EQ(again[i].num_cached_prompt_tokens > 0, can_hit);
  }
}

TEST_F(ModelExecutorTest, StepsLargerThanTheDecodersMemoryAreComputedInPieces) {
  auto engine = Start({.decoder = {.max_step_tokens = 20, .max_logit_tokens = 3}}, Cpu());
  ExpectSameTogether(*engine);
}

// The prompt takes two passes.
TEST_F(ModelExecutorTest, ADeviceComputesFromSubmitOn) {
  auto owned = std::make_unique<SamplingBackend<>>(64, TinyModel::kVocabSize, 1000);
  const SamplingBackend<>& backend = *owned;
  const auto executor =
      Load({.decoder = {.max_step_tokens = 20, .max_logit_tokens = 3}}, std::move(owned));
  Sequence sequence;
  sequence.id = 1;
  sequence.tokens.assign(30, 7);
  sequence.num_prompt_tokens = 30;
  sequence.blocks = {0, 1};
  executor->Open(sequence.id, {.prompt = sequence.tokens});
  const StepPlan plan = {
      .step = 1, .rows = {{&sequence, 0, 30, true}}, .num_tokens = 30, .num_decode_rows = 0};
  executor->Submit(plan);
  EXPECT_EQ(backend.num_steps(), 1);
  EXPECT_EQ(backend.num_waits(), 0);
  executor->Open(2, {.prompt = {1, 2, 3}});
  executor->Close(2);
  StepResult result;
  ASSERT_TRUE(executor->Collect(&result).ok());
  EXPECT_EQ(backend.num_steps(), 2);
  EXPECT_EQ(backend.num_waits(), 2);
  executor->Submit(plan);  // and never collected
}

TEST_F(ModelExecutorTest, PromptLogprobsCoverEveryTokenButTheFirst) {
  auto engine = Start({.max_prefill_chunk = 16}, Cpu());
  GenerateRequest request = Requests()[4];
  ASSERT_TRUE(request.sampling.prompt_logprobs);
  RequestStream stream = *engine->Submit(request);
  const Output output = ReadAll(stream);
  EXPECT_EQ(output.prompt_logprobs.size(), (request.prompt.size() - 1) * 4);
  for (float logprob : output.prompt_logprobs) EXPECT_LE(logprob, 0.0f);
}

TEST_F(ModelExecutorTest, StopTokensCannotComeBeforeMinTokens) {
  auto engine = Start({}, Cpu());
  GenerateRequest request = Requests()[0];
  request.sampling.logprobs.reset();
  RequestStream stream = *engine->Submit(request);
  const std::vector<TokenId> free = ReadAll(stream).tokens;
  request.stop_token_ids = {free[0]};
  stream = *engine->Submit(request);
  EXPECT_EQ(ReadAll(stream).tokens, std::vector<TokenId>{free[0]});
  request.min_tokens = 5;
  stream = *engine->Submit(request);
  const std::vector<TokenId> held = ReadAll(stream).tokens;
  ASSERT_GE(held.size(), 5u);
  EXPECT_EQ(std::count(held.begin(), held.begin() + 5, free[0]), 0);
}

// Whether the host looks at the logits or a device.
class PoisonTest : public ModelExecutorTest, public testing::WithParamInterface<bool> {};
INSTANTIATE_TEST_SUITE_P(DeviceSamples, PoisonTest, testing::Bool());

TEST_P(PoisonTest, LogitsThatAreNotNumbersFailTheirRequestAlone) {
  std::unique_ptr<Backend> backend = std::make_unique<PoisonBackend>();
  if (GetParam()) {
    constexpr int kVocab = TinyModel::kVocabSize;
    backend = std::make_unique<SamplingBackend<PoisonBackend>>(64, kVocab, 1000);
  }
  auto engine = Start({}, std::move(backend));
  std::vector<GenerateRequest> requests = Requests();
  requests.resize(4);
  for (GenerateRequest& request : requests) {
    request.max_tokens = 3;
    for (TokenId& id : request.prompt) id %= PoisonBackend::kPoison;
    request.sampling.logit_bias = {{PoisonBackend::kPoison, -100.0f}};
  }
  const std::vector<Output> healthy = Together(*engine, requests);
  std::vector<GenerateRequest> with_poison = requests;
  with_poison[2].prompt.back() = PoisonBackend::kPoison;
  const std::vector<Output> outputs = Together(*engine, with_poison);
  for (size_t i = 0; i < outputs.size(); ++i) {
    SCOPED_TRACE(i);
    if (i != 2) ExpectSame(outputs[i], healthy[i]);
  }
  EXPECT_EQ(outputs[2].finish, FinishReason::kError);
  EXPECT_EQ(outputs[2].error.code(), absl::StatusCode::kInternal);
}

// Every parameter there is, in the same requests on a backend that samples and on one that does
// not.
TEST_F(ModelExecutorTest, ABackendThatSamplesYieldsTheHostsTokens) {
  std::vector<GenerateRequest> requests = Requests();
  for (size_t i = 0; i < requests.size(); ++i) {
    SamplingParams& sampling = requests[i].sampling;
    if (i % 4 == 3) sampling.top_k = 20;
    if (i % 5 == 1) sampling.min_p = 0.05f;
    if (i % 6 == 2) sampling.repetition_penalty = 1.3f;
    if (i % 6 == 3) sampling.presence_penalty = 0.7f;
    if (i % 7 == 3) sampling.typical_p = 0.8f;
    if (i % 3 == 1) sampling.logit_bias = {{5, 3.0f}, {7, -100.0f}, {9, -2.0f}};
    if (i % 4 == 2) sampling.logprobs.reset();
    if (i % 4 == 1) {
      requests[i].min_tokens = 8;
      requests[i].stop_token_ids = {7, 9, 11, 9};
    }
  }
  auto on_host = Start({}, std::make_unique<fakes::ReferenceBackend>());
  const std::vector<Output> want = Together(*on_host, requests);
  constexpr size_t kEnough = 1000;
  for (const size_t room_for_biases : {kEnough, size_t{10}}) {
    SCOPED_TRACE(room_for_biases);
    auto owned = std::make_unique<SamplingBackend<>>(64, TinyModel::kVocabSize, room_for_biases);
    const SamplingBackend<>& backend = *owned;
    auto engine = Start({}, std::move(owned));
    const std::vector<Output> got = Together(*engine, requests);
    for (size_t i = 0; i < requests.size(); ++i) {
      SCOPED_TRACE(i);
      ExpectSame(got[i], want[i]);
    }
    EXPECT_GT(backend.num_sampled(), 100);
    EXPECT_GT(backend.num_on_host(), 20);  // typical_p alone is
  }
}

}  // namespace
}  // namespace trireme
