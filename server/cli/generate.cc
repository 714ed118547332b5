// trireme generate: one prompt through the same engine that serves.
#include <charconv>
#include <cstdio>
#include <iostream>
#include <iterator>
#include <string>

#include "runtime/base/status.h"
#include "runtime/base/strings.h"
#include "server/cli/commands.h"
#include "server/node/generation.h"

namespace trireme {
namespace {

int Fail(const absl::Status& status) {
  std::cerr << "trireme generate: " << std::string(status.message()) << "\n";
  return kExitFailure;
}

absl::StatusOr<TextRequest> ToRequest(const GenerateOptions& options, const Node& node) {
  TextRequest request;
  request.model = node.info.id;
  std::string prompt = options.prompt;
  if (prompt.empty()) prompt.assign(std::istreambuf_iterator<char>(std::cin), {});
  if (options.raw) {
    request.input = std::vector<TextPrompt>{prompt};
  } else {
    ChatPrompt chat;
    if (!options.system.empty())
      chat.messages.push_back({{"role", "system"}, {"content", options.system}});
    chat.messages.push_back({{"role", "user"}, {"content", prompt}});
    request.input = std::move(chat);
  }
  SamplingParams& sampling = request.base.sampling;
  sampling = node.default_sampling;
  if (options.temperature >= 0) sampling.temperature = options.temperature;
  if (options.top_p >= 0) sampling.top_p = options.top_p;
  if (options.top_k >= 0) sampling.top_k = options.top_k;
  if (!options.seed.empty()) {
    uint64_t seed = 0;
    const char* end = options.seed.data() + options.seed.size();
    if (std::from_chars(options.seed.data(), end, seed).ptr != end) {
      return absl::InvalidArgumentError("--seed must be a whole number");
    }
    sampling.seed = seed;
  }
  request.base.max_tokens = options.max_tokens;
  request.stop = options.stop;
  return request;
}

absl::Status Run(const GenerateOptions& options) {
  const Clock& clock = Clock::Monotonic();
  TRIREME_ASSIGN_OR_RETURN(auto node,
                           LoadNode(options.load, &clock, nullptr, MakeProgressPrinter()));
  TRIREME_ASSIGN_OR_RETURN(TextRequest request, ToRequest(options, *node));
  TRIREME_ASSIGN_OR_RETURN(auto prepared, Prepare(*node, request));
  const absl::Time start = clock.Now();
  absl::Time first_token = start;
  TRIREME_ASSIGN_OR_RETURN(auto generation, Generation::Start(*node, request, std::move(prepared)));
  std::string text;
  FinishReason finish = FinishReason::kNone;
  while (!generation->done()) {
    TRIREME_ASSIGN_OR_RETURN(auto deltas, generation->Next(absl::InfiniteFuture()));
    for (const ChoiceDelta& delta : deltas) {
      if (text.empty()) first_token = clock.Now();
      text += delta.text;
      finish = delta.finish;
      if (!options.json) std::cout << delta.text << std::flush;
    }
  }
  const Usage usage = generation->usage();
  const double seconds = absl::ToDoubleSeconds(clock.Now() - first_token);
  if (!options.json) {
    std::cout << "\n";
    return absl::OkStatus();
  }
  boost::json::object out = {
      {"model", node->info.id},
      {"text", text},
      {"finish_reason", finish == FinishReason::kLength ? "length" : "stop"},
      {"prompt_tokens", usage.prompt_tokens},
      {"completion_tokens", usage.completion_tokens},
      {"time_to_first_token_ms", absl::ToInt64Milliseconds(first_token - start)},
      {"decode_ms", static_cast<int64_t>(seconds * 1e3)}};
  std::cout << boost::json::serialize(out) << "\n";
  return absl::OkStatus();
}

}  // namespace

int RunGenerate(const GenerateOptions& options) {
  ConfigureLog(LogLevel::kWarning, LogFormat::kText);
  const absl::Status status = Run(options);
  return status.ok() ? kExitOk : Fail(status);
}

}  // namespace trireme
