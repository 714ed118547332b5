// trireme generate: one prompt through the same engine that serves.
#include <unistd.h>

#include <boost/json.hpp>
#include <iostream>
#include <string>
#include <utility>

#include "runtime/base/log.h"
#include "runtime/base/status.h"
#include "runtime/base/strings.h"
#include "server/cli/commands.h"
#include "server/cli/options.h"
#include "server/node/generation.h"

namespace trireme {
namespace {

constexpr size_t kMaxPromptBytes = 32 << 20;  // as the HTTP door's largest body

int Fail(const absl::Status& status) {
  std::cerr << "trireme generate: " << std::string(status.message()) << "\n";
  return kExitFailure;
}

// The prompt of the command line, or standard input when that is a pipe or a file, or is asked for.
absl::StatusOr<std::string> ReadPrompt(const GenerateOptions& options) {
  if (options.prompt.has_value() && options.prompt->empty()) {
    return absl::InvalidArgumentError("no prompt: -p is empty");
  }
  if (options.prompt.has_value() && *options.prompt != "-") return *options.prompt;
  if (!options.prompt.has_value() && isatty(STDIN_FILENO) != 0) {
    return absl::InvalidArgumentError("no prompt: give -p TEXT, or pipe it in");
  }
  std::string prompt;
  char buffer[1 << 16];
  while (std::cin.read(buffer, sizeof buffer) || std::cin.gcount() > 0) {
    prompt.append(buffer, static_cast<size_t>(std::cin.gcount()));
    if (prompt.size() > kMaxPromptBytes) {
      return absl::InvalidArgumentError(
          StrCat("the prompt on standard input is longer than ", kMaxPromptBytes, " bytes"));
    }
  }
  if (prompt.ends_with('\n')) prompt.pop_back();  // what echo and editors put there
  if (prompt.empty()) return absl::InvalidArgumentError("no prompt: standard input is empty");
  return prompt;
}

TextRequest ToRequest(const GenerateOptions& options, std::string prompt, const Node& node) {
  TextRequest request;
  request.model = node.info.id;
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
  sampling.temperature = options.temperature.value_or(sampling.temperature);
  sampling.top_p = options.top_p.value_or(sampling.top_p);
  sampling.top_k = options.top_k.value_or(sampling.top_k);
  sampling.seed = options.seed;
  request.base.max_tokens = options.max_tokens;
  request.stop = options.stop;
  return request;
}

absl::Status Run(const Options& options) {
  const Clock& clock = Clock::Monotonic();
  // Before the model is loaded: a mistake here should not take as long to show.
  TRIREME_ASSIGN_OR_RETURN(std::string prompt, ReadPrompt(options.generate));
  TRIREME_ASSIGN_OR_RETURN(OpenedModel model, OpenModel(options.load));
  TRIREME_ASSIGN_OR_RETURN(
      auto node, LoadNode(options.load, std::move(model), &clock, nullptr, MakeProgressPrinter()));
  const TextRequest request = ToRequest(options.generate, std::move(prompt), *node);
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

int RunGenerate(const Options& options) {
  ConfigureLog(LogLevel::kWarning, LogFormat::kText);
  WarnOfUnknownVariables(options);
  const absl::Status status = Run(options);
  return status.ok() ? kExitOk : Fail(status);
}

}  // namespace trireme
