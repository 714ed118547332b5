// trireme pull: flags in, events and the path out; the fetching itself is server/pull's.
#include "server/pull/pull.h"

#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <boost/json.hpp>
#include <cstdio>
#include <iostream>
#include <string>

#include "absl/time/clock.h"
#include "runtime/base/log.h"
#include "runtime/base/status.h"
#include "runtime/base/strings.h"
#include "server/cli/commands.h"
#include "server/cli/options.h"
#include "server/pull/cache.h"

namespace trireme {
namespace {

namespace json = boost::json;
using pull::DownloadEvent;

constexpr absl::Duration kLineInterval = absl::Seconds(10);  // where nothing redraws itself

std::atomic<bool> interrupted = false;

// The first signal ends the fetch in good order, the second one the process.
void StopOnSignals() {
  struct sigaction action = {};
  action.sa_handler = [](int) { interrupted = true; };
  action.sa_flags = SA_RESETHAND;
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
  signal(SIGXFSZ, SIG_IGN);  // a file-size limit is an error of write()
}

// "12.3 of 93.1 MiB  4.5 MiB/s  18 s left"
class Progress {
 public:
  std::string Line(const DownloadEvent& event) {
    const absl::Time now = absl::Now();
    const double seconds = absl::ToDoubleSeconds(now - begin_);
    const double rate = seconds > 0 ? static_cast<double>(event.fetched_bytes) / seconds : 0;
    std::string line = SizeText(event.done_bytes);
    if (event.total_bytes >= 0) StrAppend(&line, " of ", SizeText(event.total_bytes));
    StrAppend(&line, "  ", SizeText(static_cast<int64_t>(rate)), "/s");
    if (event.total_bytes >= 0 && rate > 1) {
      const auto left = static_cast<double>(event.total_bytes - event.done_bytes) / rate;
      StrAppend(&line, "  ", absl::FormatDuration(absl::Seconds(static_cast<int64_t>(left) + 1)),
                " left");
    }
    if (event.retries > 0) StrAppend(&line, "  ", event.retries, " retries");
    return line;
  }

 private:
  const absl::Time begin_ = absl::Now();
};

void PrintJson(const json::object& object) { std::cout << json::serialize(object) << std::endl; }

json::object ToJson(const DownloadEvent& event) {
  json::object object;
  switch (event.kind) {
    case DownloadEvent::Kind::kProgress:
      object["event"] = "progress";
      break;
    case DownloadEvent::Kind::kFileDone:
      object["event"] = "file";
      object["file"] = event.file;
      object["bytes"] = event.file_bytes;
      object["checksum"] = event.checksum.empty() ? json::value() : json::value(event.checksum);
      return object;
    case DownloadEvent::Kind::kRestarted:
      object["event"] = "restarted";
      object["file"] = event.file;
      object["why"] = event.why;
      return object;
  }
  object["done_bytes"] = event.done_bytes;
  object["total_bytes"] = event.total_bytes >= 0 ? json::value(event.total_bytes) : json::value();
  object["fetched_bytes"] = event.fetched_bytes;
  object["retries"] = event.retries;
  return object;
}

std::function<void(const DownloadEvent&)> MakeObserver(bool as_json) {
  if (as_json) return [](const DownloadEvent& event) { PrintJson(ToJson(event)); };
  const bool terminal = isatty(STDERR_FILENO) != 0;
  return [terminal, progress = Progress(), last = absl::Now()](const DownloadEvent& event) mutable {
    if (event.kind != DownloadEvent::Kind::kProgress) {
      if (terminal) std::cerr << "\r\033[K";
      if (event.kind == DownloadEvent::Kind::kRestarted) {
        std::cerr << event.file << ": " << event.why << ": starting over\n";
      } else {
        std::cerr << event.file << ": " << SizeText(event.file_bytes) << ", "
                  << (event.checksum.empty() ? "the source has no checksum" : "checksum verified")
                  << "\n";
      }
    } else if (terminal) {
      std::cerr << "\r\033[K" << progress.Line(event) << std::flush;
    } else if (absl::Now() - last >= kLineInterval) {
      last = absl::Now();
      std::cerr << progress.Line(event) << "\n";
    }
  };
}

absl::StatusOr<pull::PullResult> Run(const Options& options) {
  TRIREME_ASSIGN_OR_RETURN(const std::string cache, pull::CacheFolder(options.cache));
  return pull::Pull(options.pull, cache, &interrupted, MakeObserver(options.json));
}

}  // namespace

int RunPull(const Options& options) {
  ConfigureLog(LogLevel::kWarning, LogFormat::kText);
  WarnOfUnknownVariables(options);
  StopOnSignals();
  const auto result = Run(options);
  if (!options.json && isatty(STDERR_FILENO) != 0) std::cerr << "\r\033[K" << std::flush;
  if (!result.ok()) {
    const std::string message(result.status().message());
    if (options.json) PrintJson({{"event", "error"}, {"message", message}});
    std::cerr << "trireme pull: " << message << "\n";
    if (!absl::IsCancelled(result.status())) return kExitFailure;
    std::cerr << "What was fetched is kept: run the same command again to go on.\n";
    return kExitAborted;
  }
  if (options.json) {
    PrintJson(
        {{"event", "done"},
         {"path", result->path},
         {"revision", result->revision.empty() ? json::value() : json::value(result->revision)},
         {"files", result->files},
         {"kept_files", result->kept_files},
         {"bytes", result->bytes},
         {"fetched_bytes", result->fetched_bytes},
         {"retries", result->retries}});
  } else {
    std::cout << result->path << std::endl;
  }
  return std::cout ? kExitOk : kExitFailure;
}

}  // namespace trireme
