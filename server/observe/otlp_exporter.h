// Sends spans to a collector: OTLP/HTTP 1.x, JSON, by libcurl, from a thread of its own behind a
// bounded queue. Whatever the collector does, nobody who exports waits.
//
// 429, 502, 503, 504 and failed connections are tried again, after Retry-After or with exponential
// backoff and jitter, up to kMaxRetryTime; any other refusal drops the batch, as the protocol says.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "server/observe/finished_request.h"
#include "server/observe/log_writer.h"
#include "server/observe/otlp_options.h"

namespace trireme {

// Thread-safe.
class OtlpExporter {
 public:
  static constexpr absl::Duration kMaxRetryTime = absl::Minutes(1);  // of one batch
  static constexpr absl::Duration kRequestTimeout = absl::Seconds(10);

  // `options.url` is not empty. `dropped` counts requests.
  OtlpExporter(OtlpOptions options, DropCounter dropped);
  ~OtlpExporter();  // Close(zero)

  void OnRequest(std::shared_ptr<const FinishedRequest> request);
  // Sends what is queued, for at most `patience` (and the second that libcurl may take to notice);
  // the rest is dropped. Nothing is taken afterwards.
  void Close(absl::Duration patience);

 private:
  struct State;
  const std::unique_ptr<State> state_;
};

}  // namespace trireme
