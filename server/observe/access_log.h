// One JSON line a request, of both doors. No content, no key, no address.
//
//   {"time":"2026-01-02T03:04:05.678901Z","request_id":"req_...","tenant":"team-a","door":"http",
//    "method":"POST","route":"/v1/chat/completions","status":200,"outcome":"ok","peer":"private",
//    "bytes_received":120,"bytes_sent":834,"total_ms":91.2,"trace_id":"...",
//    "model":"demo","prompt_tokens":12,"cached_tokens":0,"completion_tokens":20,"stream":true,
//    "queue_ms":0.1,"ttft_ms":30.5,"finish_reason":"stop"}
//
// `time` is when the request began. gRPC calls have "grpc_code" in place of "status". What never
// reached the model has nothing from "model" on; what never produced a token no "ttft_ms". What did
// not go well has "error_code", the machine-readable code that the client was told, after
// "outcome". "trace_id" is there when the caller sent one, or when the trace that began here is
// exported. Different finish reasons of several choices stand side by side: "stop,length".
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "server/observe/finished_request.h"
#include "server/observe/log_writer.h"

namespace trireme {

// The line, with its end.
void AppendAccessLine(const FinishedRequest& request, std::string* out);

// Thread-safe.
class AccessLog {
 public:
  // `path`: see LogFile::Mode::kLines.
  static absl::StatusOr<std::unique_ptr<AccessLog>> Open(const std::string& path,
                                                         DropCounter dropped);

  void OnRequest(std::shared_ptr<const FinishedRequest> request);
  void Reopen() { writer_.Reopen(); }
  void BeginClose() { writer_.BeginClose(); }
  void Close(absl::Duration patience) { writer_.Close(patience); }

 private:
  AccessLog(LogFile file, DropCounter dropped);
  LogWriter writer_;
};

}  // namespace trireme
