// trireme bench: flags in, reports out; the load itself is server/loadgen's.
#include "server/loadgen/bench.h"

#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <string>

#include "runtime/base/log.h"
#include "runtime/base/status.h"
#include "runtime/base/strings.h"
#include "server/cli/commands.h"
#include "server/loadgen/plot.h"
#include "server/loadgen/report.h"

namespace trireme {
namespace {

absl::Status WriteFile(const std::string& path, const std::string& bytes) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file << bytes;
  file.close();
  if (file) return absl::OkStatus();
  return absl::UnavailableError(StrCat(path, ": ", ErrnoText(errno)));
}

// Said before the run rather than after it. What the file holds stays until there is a report.
absl::Status CheckWritable(const std::string& path) {
  if (std::ofstream(path, std::ios::binary | std::ios::app)) return absl::OkStatus();
  return absl::UnavailableError(StrCat(path, ": ", ErrnoText(errno)));
}

// One line on a terminal's stderr that redraws itself; nothing elsewhere.
std::function<void(const loadgen::Progress&)> ProgressLine() {
  if (isatty(STDERR_FILENO) == 0) return nullptr;
  return [last = loadgen::Progress{}](const loadgen::Progress& now) mutable {
    if (now.elapsed < last.elapsed) last = {};  // the next run
    const double seconds = std::chrono::duration<double>(now.elapsed - last.elapsed).count();
    std::fprintf(stderr, "\r\033[K%4.0f s  %lld done  %lld failed  %lld in flight  %.0f tokens/s",
                 std::chrono::duration<double>(now.elapsed).count(),
                 static_cast<long long>(now.completed), static_cast<long long>(now.failed),
                 static_cast<long long>(now.in_flight),
                 static_cast<double>(now.token_events - last.token_events) / seconds);
    std::fflush(stderr);
    last = now;
  };
}

void ClearProgressLine() {
  if (isatty(STDERR_FILENO) != 0) std::fputs("\r\033[K", stderr);
}

absl::StatusOr<int> Run(const loadgen::BenchOptions& options) {
  for (const std::string& path : {options.json_file, options.plot_file}) {
    if (!path.empty() && path != "-") TRIREME_RETURN_IF_ERROR(CheckWritable(path));
  }
  loadgen::BenchObserver observer;
  observer.progress = ProgressLine();
  observer.level_ended = [](const loadgen::LevelResult& result) {
    ClearProgressLine();
    std::cerr << loadgen::LevelName(result.level) << ": " << result.summary.goodput_per_s()
              << " good requests/s, " << result.summary.tokens_out_per_s() << " tokens/s\n";
  };
  auto result = loadgen::RunBench(options, observer);
  ClearProgressLine();
  if (!result.ok()) return result.status();
  if (options.json_file == "-") {
    std::cout << loadgen::JsonReport(options, *result) << std::flush;
  } else {
    std::cout << loadgen::TextReport(options, *result) << std::flush;
    if (!options.json_file.empty()) {
      TRIREME_RETURN_IF_ERROR(WriteFile(options.json_file, loadgen::JsonReport(options, *result)));
    }
  }
  if (!options.plot_file.empty()) {
    TRIREME_RETURN_IF_ERROR(
        WriteFile(options.plot_file, loadgen::Plot(*result, options.plot_file)));
  }
  if (!std::cout) return absl::UnavailableError("standard output cannot be written");
  if (result->interrupted) return kExitAborted;
  for (const loadgen::LevelResult& level : result->levels) {
    if (level.summary.completed() > 0) return kExitOk;
  }
  return kExitFailure;
}

}  // namespace

int RunBench(const Options& options) {
  ConfigureLog(LogLevel::kWarning, LogFormat::kText);
  if (const absl::Status reserved = loadgen::ReserveDescriptors(options.bench); !reserved.ok()) {
    std::cerr << "trireme bench: " << std::string(reserved.message()) << "\n";
    return kExitUsage;
  }
  const absl::StatusOr<int> exit_code = Run(options.bench);
  if (exit_code.ok()) return *exit_code;
  std::cerr << "trireme bench: " << std::string(exit_code.status().message()) << "\n";
  return kExitFailure;
}

}  // namespace trireme
