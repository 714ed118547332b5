// Sends spans to a collector: OTLP/HTTP 1.x, JSON, from a thread of its own behind a bounded queue.
// Whatever the collector does, nobody who exports waits.
//
// 429, 502, 503, 504 and failed connections are tried again, with exponential backoff and jitter,
// for up to kMaxRetryTime of one batch; any other refusal drops the batch, as the protocol says. A
// collector that asks for patience (Retry-After, up to an hour) gets it: until then nothing is
// sent, the batch and all that follow wait, and what the queue cannot hold is dropped.
#pragma once

#include <memory>

#include "absl/time/time.h"
#include "server/observe/finished_request.h"
#include "server/observe/log_writer.h"
#include "server/observe/otlp_options.h"
#include "server/observe/otlp_sender.h"

namespace trireme {

// Thread-safe.
class OtlpExporter {
 public:
  static constexpr absl::Duration kMaxRetryTime = absl::Minutes(1);
  // What a transfer that is given up may take to end; a thread that takes longer is left behind.
  static constexpr absl::Duration kAbortTime = absl::Seconds(2);

  // `options.url` is not empty. `dropped` counts requests.
  OtlpExporter(const OtlpOptions& options, DropCounter dropped);
  // Through a sender of the caller's.
  OtlpExporter(OtlpOptions options, DropCounter dropped, std::unique_ptr<OtlpSender> sender);
  ~OtlpExporter();  // Close(zero)

  void OnRequest(std::shared_ptr<const FinishedRequest> request);
  // Nothing is taken any more; what is queued is sent at once. Does not wait.
  void BeginClose();
  // BeginClose, and waits at most `patience`; then what is under way is given up, and after
  // kAbortTime left behind. What was not sent is counted as dropped. Once.
  void Close(absl::Duration patience);

 private:
  struct State;
  const std::shared_ptr<State> state_;  // shared with the thread, which may outlive the exporter
};

}  // namespace trireme
