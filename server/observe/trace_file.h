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
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "runtime/engine/engine.h"
#include "server/observe/finished_request.h"
#include "server/observe/log_writer.h"

namespace trireme {

// Thread-safe.
class TraceFile {
 public:
  // A trace that has grown to this many bytes takes no more; events beyond count as dropped, and
  // the process log says so once.
  static constexpr int64_t kMaxBytes = int64_t{1} << 30;

  // Changes nothing yet. `origin`: time zero, by the engine's clock.
  static absl::StatusOr<std::unique_ptr<TraceFile>> Open(const std::string& path, absl::Time origin,
                                                         DropCounter dropped,
                                                         int64_t max_bytes = kMaxBytes);

  // What the file held before is dropped, and the trace begins; events before are not taken. Once.
  absl::Status Begin();

  void OnStep(const StepRecord& step);
  void OnRequest(std::shared_ptr<const FinishedRequest> request);
  void BeginClose();
  void Close(absl::Duration patience);

 private:
  struct State;
  TraceFile(LogFile file, std::shared_ptr<State> state);
  // `events(origin, out)` appends them.
  template <typename Events>
  void Append(Events events);

  std::atomic<uint64_t> next_id_ = 1;
  std::atomic<bool> begun_ = false, ended_ = false;
  const std::shared_ptr<State> state_;  // shared with what the writer's thread runs
  std::optional<LogFile> file_;         // until Begin
  std::optional<LogWriter> writer_;     // once begun_
};

}  // namespace trireme
