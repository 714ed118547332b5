// What is known of a request when it has ended: the one record that metrics, access log, audit log
// and traces are made of. Both doors fill it, and nothing else. Holds names, counts and times,
// nothing of what was asked or answered.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "runtime/base/json_writer.h"
#include "runtime/engine/engine.h"
#include "server/observe/trace_context.h"

namespace trireme {

struct FinishedRequest {
  enum class Door { kHttp, kGrpc };
  enum class Outcome {
    kOk,
    kRefused,     // the client's doing: no key, malformed, too much
    kFailed,      // ours, or a deadline
    kCancelled,   // through /v1/requests or Abort
    kClientGone,  // nobody waited for the end, or read on
  };

  Door door = Door::kHttp;
  std::string id;  // x-request-id
  std::string tenant;
  // From fixed tables, never in the client's words: they are labels of metrics, too.
  std::string_view method;  // "POST"; "Generate"
  std::string_view route;   // "/v1/models/{id}"; "trireme.v1.Inference/Generate"
  std::string_view peer;    // PeerKind: addresses are nobody's business
  int http_status = 0;      // 499: the client went away before anything was sent
  absl::StatusCode grpc_code = absl::StatusCode::kOk;
  std::string error_code;  // machine-readable; empty: none
  bool client_gone = false;
  bool key_refused = false;
  bool routine = false;  // probes, scrapes, the page's files: neither traced nor audited
  uint64_t bytes_received = 0, bytes_sent = 0;  // of HTTP bodies and answers; of gRPC messages
  absl::Time begin, end;                        // by the node's clock, as those of `work`
  // Times plus this are the wall clock's, as it was at the end. Telemetry fills it in.
  absl::Duration to_wall;
  TraceContext trace;  // the caller's, or Telemetry's

  // Of requests that generate, once they have reached the engine; else `model` is empty.
  std::string model;
  bool stream = false;
  RequestRecord work;
  std::vector<FinishReason> finish_reasons;  // one a choice; kNone: it did not finish

  // The same for the same end, through whichever door.
  Outcome outcome() const;
  bool generated() const { return !model.empty(); }
  struct Phase {
    std::string_view name;
    absl::Time begin, end;
  };
  // Queue, prefill, decode: those that began, one after the other, none beyond `end`.
  std::vector<Phase> phases() const;
  // As clients know them ("stop", "length"); "cancelled" or "error" for what did not finish.
  std::vector<std::string_view> FinishNames() const;
};

// For requests that bring no id: `prefix` and 128 random bits in hexadecimal.
std::string RandomId(std::string_view prefix);

std::string_view OutcomeName(FinishedRequest::Outcome outcome);

// The fields that access log and audit log share: who asked for what, how it ended, token counts.
void WriteIdentity(const FinishedRequest& request, JsonWriter* json);
void WriteTokens(const FinishedRequest& request, JsonWriter* json);
// RFC 3339, UTC, microseconds.
std::string Timestamp(absl::Time wall);

// "loopback", "private" (RFC 1918, RFC 4193, link-local), "public", or "other". `address`: numeric,
// or as gRPC writes it ("ipv4:10.0.0.1:5000", "ipv6:%5B::1%5D:5000", "unix:...").
std::string_view PeerKind(std::string_view address);

}  // namespace trireme
