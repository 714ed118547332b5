// Runs what every token passes through on the host, each part some times by itself, for
// instructions.py to count the instructions of. Under callgrind (--instr-atstart=no) each part
// leaves one profile, named "PART REPETITIONS"; otherwise the program does the same and says
// nothing.
//
//   instructions FOLDER      FOLDER: tests/golden/tokenizer, for a tokenizer with merges
#include <algorithm>
#include <cstdio>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "absl/functional/function_ref.h"
#include "runtime/base/check.h"
#include "runtime/base/strings.h"
#include "runtime/engine/sampler.h"
#include "runtime/text/stream_decoder.h"
#include "runtime/text/tokenizer.h"
#include "server/dialects/openai/responses.h"
#include "server/grpc/convert.h"
#include "server/grpc/wire.h"
#include "tests/bench/busy_scheduler.h"

#if __has_include(<valgrind/callgrind.h>)
#include <valgrind/callgrind.h>
#else  // nothing is counted, and instructions.py says so
#define CALLGRIND_START_INSTRUMENTATION
#define CALLGRIND_STOP_INSTRUMENTATION
#define CALLGRIND_DUMP_STATS_AT(text) static_cast<void>(text)
#endif

namespace trireme {
namespace {

constexpr int kWarmUp = 3;  // memory that grows once, tables that are made at first use

void Dump(std::string_view part, int repetitions) {
  const std::string name = StrCat(part, " ", repetitions);
  CALLGRIND_DUMP_STATS_AT(name.c_str());
}

void Count(std::string_view part, int repetitions, absl::FunctionRef<void()> once) {
  for (int i = 0; i < kWarmUp; ++i) once();
  CALLGRIND_START_INSTRUMENTATION;
  for (int i = 0; i < repetitions; ++i) once();
  CALLGRIND_STOP_INSTRUMENTATION;
  Dump(part, repetitions);
}

void CountSchedulerSteps(int waiting) {
  constexpr int kSteps = 32;  // two blocks of every sequence
  bench::BusyScheduler scheduler(waiting);
  Count(StrCat("scheduler_step_", waiting, "_waiting"), kSteps, [&] { scheduler.Step(); });

  scheduler.Plan();
  for (int i = 0; i < kSteps; ++i) {
    scheduler.PlanAhead();
    scheduler.Compute();
    CALLGRIND_START_INSTRUMENTATION;
    scheduler.Commit();
    scheduler.Plan();
    CALLGRIND_STOP_INSTRUMENTATION;
  }
  Dump(StrCat("scheduler_between_steps_", waiting, "_waiting"), kSteps);
}

std::unique_ptr<const Tokenizer> ReadTokenizer(const std::string& folder) {
  std::stringstream json;
  json << std::ifstream(folder + "/smollm.json").rdbuf();
  auto spec = ParseTokenizerJson(json.str(), "{}");
  TRIREME_CHECK(spec.ok());
  auto tokenizer = Tokenizer::Create(*std::move(spec));
  TRIREME_CHECK(tokenizer.ok());
  return *std::move(tokenizer);
}

// Per token, stop strings and characters of several tokens included.
void CountDetokenizer(const std::string& folder) {
  const std::unique_ptr<const Tokenizer> tokenizer = ReadTokenizer(folder);
  std::vector<TokenId> ids;
  for (int i = 0; i < 20; ++i) {
    for (const TokenId id : tokenizer->Encode(
             "The ships went out at first light, three to a line; nobody knew how many would come "
             "back. \xE6\xB5\xB7\xE3\x81\xAF\xE9\x9D\x99\xE3\x81\x8B \xF0\x9F\x8C\x8A\n",
             Tokenizer::SpecialTokens::kAsText, false)) {
      ids.push_back(id);
    }
  }
  StreamDecoder decoder(tokenizer.get(), {.stop = {"\n\nUser:", "</s>"}});
  size_t at = 0;
  Count("detokenizer_token", 1000, [&] {
    decoder.Push(ids[at++ % ids.size()]);
    TRIREME_CHECK(!decoder.stopped());
  });
}

void CountSseEvent() {
  openai::ChunkWriter chunks({.chat = true,
                              .id = "chatcmpl-0123456789abcdef0123456789abcdef",
                              .created = 1700000000,
                              .model = "smollm2-135m-instruct",
                              .system_fingerprint = "fp_0123456789"},
                             1, false, false);
  const ChoiceDelta delta{.text = " \"token\"\n", .token_ids = {1234}};
  Count("sse_event", 1000, [&] {
    std::string event;
    chunks.Append(&event, delta);
    TRIREME_CHECK(event.ends_with("\n\n"));
  });
}

// A streamed token as gRPC gets it from us.
void CountGrpcEvent() {
  const ChoiceDelta delta{.text = " \"token\"\n", .token_ids = {1234}};
  v1::GenerateResponse response;
  grpc::ByteBuffer event;
  Count("grpc_event", 1000, [&] {
    rpc::FillDelta(delta, "grpc-0123456789abcdef0123456789abcdef", &response);
    rpc::SerializeMessage(response, &event);
    TRIREME_CHECK(event.Length() > 0);
  });
}

void CountSampler(const char* part, const SamplingParams& params) {
  constexpr int kVocabulary = 49152;
  std::vector<float> logits(kVocabulary);
  uint32_t random = 1;
  for (float& logit : logits) {  // the same everywhere: integers, and no libm
    random = random * 1664525 + 1013904223;
    logit = static_cast<float>(random >> 8) * 0x1p-20f - 8;
  }
  auto state = SamplerState::Create(params, {}, kVocabulary, 7);
  TRIREME_CHECK(state.ok());
  Sampler sampler;
  std::vector<float> scratch(kVocabulary);
  SampledToken token;
  uint64_t position = 0;
  Count(part, 4, [&] {
    std::copy(logits.begin(), logits.end(), scratch.begin());
    TRIREME_CHECK(sampler.Sample(*state, absl::MakeSpan(scratch), position++, {}, &token).ok());
  });
}

}  // namespace
}  // namespace trireme

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: instructions FOLDER_OF_SMOLLM_JSON\n");
    return 2;
  }
  trireme::CountSchedulerSteps(10);
  trireme::CountSchedulerSteps(10000);
  trireme::CountDetokenizer(argv[1]);
  trireme::CountSseEvent();
  trireme::CountGrpcEvent();
  trireme::CountSampler("sampler_greedy", {.temperature = 0});
  trireme::CountSampler("sampler_top_k_top_p", {.temperature = 0.8f, .top_p = 0.95f, .top_k = 40});
  return 0;
}
