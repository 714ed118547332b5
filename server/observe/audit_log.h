// Security-relevant events and requests in a hash chain (audit_chain.h): start, stop, reloaded
// keys, refused authentication, and of every other request but probes who asked, how it ended and
// its token counts. No content, no key, no address.
//
// After a rotation the new file begins at once with a record "rotated", which carries the chain
// on. A file that was moved away while nothing ran cannot be carried on: the next start begins a
// new chain. The process log names the chain's end at start, at stop, at a rotation, and from time
// to time in between: who keeps that log elsewhere can tell a file that was rewritten.
//
// An existing chain is continued. If the process was killed while it wrote, the last line may be
// torn: it has no end, was never a record, and is cut off; the chain says so ("recovered",
// torn_bytes). A last line that is complete but does not verify is somebody's doing: the log is
// refused. Records that could not be written (disk full, queue full) are counted, and the next one
// that can be is preceded by a record of the "gap". Each batch is on the disk before the next.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "server/observe/audit_chain.h"
#include "server/observe/finished_request.h"
#include "server/observe/log_writer.h"

namespace trireme {

// Thread-safe.
class AuditLog {
 public:
  // Errors: those of LogFile::Open; DATA_LOSS when the last record does not verify.
  static absl::StatusOr<std::unique_ptr<AuditLog>> Open(const std::string& path,
                                                        DropCounter dropped);

  // `write_fields` (may be null) runs on the writer's thread.
  void OnEvent(std::string_view event, absl::AnyInvocable<void(JsonWriter*)> write_fields);
  void OnRequest(std::shared_ptr<const FinishedRequest> request);
  // A rotated file is continued by the next, which must be new or empty.
  void Reopen() { writer_.Reopen(); }
  void BeginClose() { writer_.BeginClose(); }
  // Logs where the chain ends, or that it is not known.
  void Close(absl::Duration patience);

  // The end of the chain is logged when so many records, or so much time, lie behind the last time.
  static constexpr uint64_t kCheckpointRecords = 1000;
  static constexpr absl::Duration kCheckpointInterval = absl::Minutes(10);

 private:
  struct State;
  AuditLog(LogFile file, std::shared_ptr<State> state, DropCounter dropped);
  void Append(std::string event, absl::Time wall,
              absl::AnyInvocable<void(JsonWriter*)> write_fields);

  const std::shared_ptr<State> state_;  // shared with what the writer's thread runs
  LogWriter writer_;
};

}  // namespace trireme
