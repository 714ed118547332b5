#include "server/loadgen/bench.h"

#include <algorithm>
#include <boost/asio/signal_set.hpp>
#include <cmath>
#include <csignal>
#include <memory>

#include "runtime/base/status.h"
#include "runtime/base/strings.h"
#include "server/loadgen/descriptors.h"
#include "server/loadgen/grpc_client.h"
#include "server/loadgen/http_client.h"

namespace trireme::loadgen {
namespace {

namespace asio = boost::asio;

constexpr int kMaxConcurrency = 65536;
constexpr double kMaxRate = 1e6;
// Two prompts, of this length and another, tell tokens per word from what a template adds.
constexpr int kProbeWords = 16, kMaxProbeWords = 272;
constexpr uint64_t kArrivalSeed = 0x6172726976616c73;

// One request outside any run.
absl::StatusOr<Outcome> SendOne(asio::io_context* io, Client* client, const Request& request) {
  std::optional<Outcome> result;
  client->Send(request, std::chrono::steady_clock::now(),
               [&](Outcome outcome) { result = std::move(outcome); });
  const auto guard = asio::make_work_guard(*io);
  io->restart();
  while (!result) io->run_one();
  if (result->ok()) return *std::move(result);
  return absl::UnavailableError(
      StrCat("the first request failed: ", result->error, ": ", result->error_message));
}

// How the server counts the words of made-up prompts. Where that does not come out (no usage in its
// answers, no room for the second prompt) the scale stays as it is.
absl::Status MeasureScale(asio::io_context* io, Client* client, Workload* workload,
                          TokenScale* scale) {
  TRIREME_ASSIGN_OR_RETURN(const Outcome first, SendOne(io, client, workload->Probe(kProbeWords)));
  const int64_t tokens = first.usage.prompt_tokens;
  if (!first.has_usage || tokens <= 0) return absl::OkStatus();
  // No longer than the workload's own prompts: a server may have no room for more.
  int64_t words = workload->longest_prompt_tokens() * int64_t{kProbeWords} / tokens;
  words = std::min<int64_t>(words, kMaxProbeWords);
  if (words < 2 * kProbeWords) words = kProbeWords / 2;
  const auto second = SendOne(io, client, workload->Probe(static_cast<int>(words)));
  if (!second.ok() || !second->has_usage) return absl::OkStatus();
  const double per_word = static_cast<double>(second->usage.prompt_tokens - tokens) /
                          static_cast<double>(words - kProbeWords);
  if (per_word < 0.1) return absl::OkStatus();  // a server that does not count what it reads
  scale->tokens_per_word = per_word;
  scale->overhead_tokens = std::max(0.0, static_cast<double>(tokens) - per_word * kProbeWords);
  workload->set_scale(*scale);
  return absl::OkStatus();
}

Level LevelOf(const BenchOptions& options) {
  Level level;
  level.concurrency = options.concurrency.value_or(1);
  if (options.rate) level.rate = *options.rate;
  level.arrivals = options.arrivals == "constant" ? ArrivalKind::kConstant : ArrivalKind::kPoisson;
  level.max_in_flight = options.max_in_flight;
  level.requests = options.requests;
  if (options.duration) level.duration = absl::ToChronoNanoseconds(*options.duration);
  if (level.requests == 0 && !options.duration) {
    if (options.ramp) {
      level.duration = absl::ToChronoNanoseconds(kDefaultRampDuration);
    } else {
      level.requests = kDefaultRequests;
    }
  }
  level.seed = options.seed ^ kArrivalSeed;
  return level;
}

void RunRamp(const BenchOptions& options, Level level, Runner* runner,
             const BenchObserver& observer, BenchResult* result) {
  const bool open = level.rate.has_value();
  // Over HTTP a closed loop cannot go higher than there are descriptors.
  const double most_at_once =
      result->target.grpc
          ? kMaxConcurrency
          : static_cast<double>(std::min<int64_t>(kMaxConcurrency, ConnectionDescriptors()));
  Ramp ramp(open ? *level.rate : level.concurrency, options.ramp_step,
            open ? kMaxRate : most_at_once, open ? "rate" : "concurrency", /*whole=*/!open);
  for (bool more = true; more;) {
    if (open) {
      level.rate = ramp.load();
    } else {
      level.concurrency = static_cast<int>(std::lround(ramp.load()));
    }
    // A closed loop of many needs more requests to be a loop at all.
    if (level.requests > 0 && !open) {
      level.requests = std::max<int64_t>(level.requests, 4 * int64_t{level.concurrency});
    }
    result->levels.push_back({level, runner->Run(level, options.slo)});
    if (runner->stopped()) return;
    const Summary& summary = result->levels.back().summary;
    if (observer.level_ended) observer.level_ended(result->levels.back());
    more = ramp.Next(summary.goodput_per_s(), summary.good_share());
  }
  result->knee = ramp.knee();
}

}  // namespace

absl::Status CheckBenchOptions(const BenchOptions& options) {
  if (options.target.url.empty()) {
    return absl::InvalidArgumentError(
        "--target is missing: http://HOST:PORT or grpc://HOST:PORT, for example "
        "http://127.0.0.1:8000");
  }
  const auto target = ParseTarget(options.target.url);
  if (!target.ok()) return Annotate(target.status(), "--target");
  if (options.concurrency && options.rate) {
    return absl::InvalidArgumentError(
        "--concurrency is a closed loop and --rate an open one: give one of them");
  }
  if (options.ramp_step && !options.ramp) {
    return absl::InvalidArgumentError("--ramp-step needs --ramp");
  }
  const std::string& key = options.target.api_key;
  if (std::any_of(key.begin(), key.end(), [](char c) { return c <= ' ' || c >= 0x7f; })) {
    return absl::InvalidArgumentError("--api-key has characters that no header may have");
  }
  if (!options.plot_file.empty() && !options.plot_file.ends_with(".svg") &&
      !options.plot_file.ends_with(".png")) {
    return absl::InvalidArgumentError("--plot: the file's name must end in .svg or .png");
  }
  return absl::OkStatus();
}

absl::Status ReserveDescriptors(const BenchOptions& options) {
  const auto target = ParseTarget(options.target.url);
  if (!target.ok() || target->grpc) return target.status();  // gRPC: one connection for all
  const int64_t room = ConnectionDescriptors();
  const int needed = options.rate ? options.max_in_flight : options.concurrency.value_or(1);
  if (needed <= room) return absl::OkStatus();
  return absl::InvalidArgumentError(StrCat(
      options.rate ? "--max-in-flight " : "--concurrency ", needed, " needs ",
      needed + kReservedDescriptors, " file descriptors, and the limit of this process is ",
      room + kReservedDescriptors, ": raise it (ulimit -Hn; LimitNOFILE= in systemd) or give ",
      std::max<int64_t>(room, 1), " at most"));
}

absl::StatusOr<BenchResult> RunBench(const BenchOptions& options, const BenchObserver& observer) {
  BenchResult result;
  TRIREME_ASSIGN_OR_RETURN(result.target, ParseTarget(options.target.url));
  TRIREME_ASSIGN_OR_RETURN(Workload workload, Workload::Make(options.workload, options.seed));
  result.dataset_prompts = static_cast<int64_t>(workload.dataset().prompts.size());
  result.dataset_skipped = workload.dataset().skipped;

  asio::io_context io(1);
  TargetOptions target = options.target;
  const auto timeout = absl::ToChronoNanoseconds(options.timeout);
  TRIREME_ASSIGN_OR_RETURN(const std::unique_ptr<Client> client,
                           result.target.grpc
                               ? MakeGrpcClient(&io, result.target, &target, timeout)
                               : MakeHttpClient(&io, result.target, &target, timeout));
  result.model = target.model;
  if (workload.made_up()) {
    TRIREME_RETURN_IF_ERROR(MeasureScale(&io, client.get(), &workload, &result.scale));
  }

  Runner runner(&io, client.get(), &workload, observer.progress);
  asio::signal_set signals(io, SIGINT, SIGTERM);
  signals.async_wait([&](boost::system::error_code error, int) {
    if (!error) runner.Stop();
  });
  const Level level = LevelOf(options);
  if (options.warmup_requests > 0) {
    Level warmup = level;
    warmup.requests = options.warmup_requests;
    warmup.duration = {};
    runner.Run(warmup, options.slo);
  }
  if (options.ramp) {
    RunRamp(options, level, &runner, observer, &result);
  } else {
    result.levels.push_back({level, runner.Run(level, options.slo)});
  }
  result.interrupted = runner.stopped();
  return result;
}

}  // namespace trireme::loadgen
