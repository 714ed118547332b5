// A whole bench: target, warm-up, run or ramp.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "server/loadgen/ramp.h"
#include "server/loadgen/runner.h"
#include "server/loadgen/target.h"

namespace trireme::loadgen {

struct BenchOptions {
  TargetOptions target;
  std::optional<int> concurrency;  // closed loop; absent, without a rate: 1
  std::optional<float> rate;       // requests a second: open loop
  std::string arrivals = "poisson";
  int max_in_flight = 4096;
  // Of each level. Neither: kDefaultRequests, or kDefaultRampDuration of each level of a ramp.
  int requests = 0;
  std::optional<absl::Duration> duration;
  int warmup_requests = 0;
  absl::Duration timeout = absl::Minutes(5);
  uint64_t seed = 0;
  WorkloadOptions workload;
  Slo slo;
  bool ramp = false;
  std::optional<float> ramp_step;  // added from level to level; absent: levels double
  std::string json_file;           // "-": standard output
  std::string plot_file;           // .svg or .png
};

inline constexpr int kDefaultRequests = 100;
inline constexpr absl::Duration kDefaultRampDuration = absl::Seconds(10);

struct LevelResult {
  Level level;
  Summary summary;
};

struct BenchResult {
  Target target;
  std::string model;  // that was asked
  TokenScale scale;   // of made-up prompts
  int64_t dataset_prompts = 0, dataset_skipped = 0;
  std::vector<LevelResult> levels;  // one; more in a ramp
  std::optional<Knee> knee;         // of a ramp
  bool interrupted = false;         // by SIGINT or SIGTERM: what was measured until then
};

// What can be said against the options before anything is sent: names the flag.
absl::Status CheckBenchOptions(const BenchOptions& options);

// Raises this process's limit of descriptors as far as that goes. INVALID_ARGUMENT, naming the flag
// and the limit: not far enough for what may be in flight over HTTP.
absl::Status ReserveDescriptors(const BenchOptions& options);

struct BenchObserver {
  std::function<void(const Progress&)> progress;        // every second
  std::function<void(const LevelResult&)> level_ended;  // in a ramp
};

// Blocks until the bench is over. An error: nothing could be measured (no connection, an unknown
// model, a dataset that cannot be read); what goes wrong during the run is counted in the result.
// Takes over SIGINT and SIGTERM meanwhile.
absl::StatusOr<BenchResult> RunBench(const BenchOptions& options, const BenchObserver& observer);

}  // namespace trireme::loadgen
