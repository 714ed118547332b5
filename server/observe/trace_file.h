// What the engine and the requests did, step by step, for people to look at: a file in the Trace
// Event Format that Perfetto (ui.perfetto.dev) and chrome://tracing load. Format: "Trace Event
// Format", Google, 2016; the JSON array form, whose end may be missing, so that the file of a
// killed process loads, too.
//
// Track "engine": complete events `step`, with `plan`, `execute` and `commit` inside, and counters
// of sequences and KV blocks. Each request: nested asynchronous events `request`, `queue`,
// `prefill`, `decode`, written when it has ended. Times are microseconds since the file was opened.
#pragma once

#include <atomic>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "runtime/engine/engine.h"
#include "server/observe/finished_request.h"
#include "server/observe/log_writer.h"

namespace trireme {

// Thread-safe.
class TraceFile {
 public:
  // A trace that has grown to this many bytes takes no more; events beyond count as dropped.
  static constexpr int64_t kMaxBytes = int64_t{1} << 30;

  // An existing file is overwritten. `origin`: time zero, by the engine's clock.
  static absl::StatusOr<std::unique_ptr<TraceFile>> Open(const std::string& path, absl::Time origin,
                                                         DropCounter dropped,
                                                         int64_t max_bytes = kMaxBytes);

  void OnStep(const StepRecord& step);
  void OnRequest(std::shared_ptr<const FinishedRequest> request);
  void Close(absl::Duration patience);

 private:
  TraceFile(LogFile file, absl::Time origin, DropCounter dropped, int64_t max_bytes);
  void Append(LogWriter::Format events);

  const absl::Time origin_;
  const DropCounter dropped_;
  const int64_t max_bytes_;
  std::atomic<uint64_t> next_id_ = 1;
  const std::shared_ptr<int64_t> bytes_;  // so far; writer's thread only
  LogWriter writer_;
};

}  // namespace trireme
