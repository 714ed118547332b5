// Everything that tells the outside what the node does: metrics, access log, audit log, traces. The
// doors say once of each request how it ended, the engine what its steps did; who wants to know
// what is decided here.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "runtime/base/clock.h"
#include "server/observe/finished_request.h"
#include "server/observe/metrics.h"
#include "server/observe/otlp_options.h"

namespace trireme {

struct TelemetryOptions {
  // Paths; empty: off. access_log "-": standard output.
  std::string access_log, audit_log, trace_file;
  OtlpOptions otlp;
};

// Thread-safe. Nothing here blocks but Open and Close.
class Telemetry {
 public:
  // Metrics alone.
  explicit Telemetry(std::string_view model_name);
  // Errors name the flag. `clock` outlives it.
  static absl::StatusOr<std::unique_ptr<Telemetry>> Open(std::string_view model_name,
                                                         const TelemetryOptions& options,
                                                         const Clock* clock);
  ~Telemetry();

  Metrics& metrics();
  // For the engine; lives as long as this.
  EngineObserver* engine_observer();

  // How a request ended. Once for each, through whichever door.
  void OnRequest(FinishedRequest request);

  // Once every door listens: only now does the trace file begin (and lose what it held before).
  absl::Status OnStart(std::string_view model);
  // For the audit log.
  void OnKeysReloaded(bool accepted, size_t num_keys);
  void OnStop();

  // After logrotate has moved the files: access log and audit log go on in new ones.
  void ReopenLogs();
  // Writes and sends what is queued, everywhere at the same time, for at most `patience` in all
  // (and what libcurl takes to notice: OtlpExporter::kAbortTime). Nothing is logged afterwards.
  void Close(absl::Duration patience);

 private:
  struct Impl;
  explicit Telemetry(std::unique_ptr<Impl> impl);
  const std::unique_ptr<Impl> impl_;
};

}  // namespace trireme
