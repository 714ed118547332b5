#include "server/observe/audit_log.h"

#include <unistd.h>

#include <atomic>
#include <mutex>
#include <utility>

#include "absl/time/clock.h"
#include "runtime/base/log.h"
#include "runtime/base/status.h"
#include "runtime/base/strings.h"

namespace trireme {
namespace {

// The end of the file, as far as its last record needs.
absl::StatusOr<std::string> ReadEnd(int fd, int64_t* size) {
  *size = lseek(fd, 0, SEEK_END);
  const int64_t wanted = std::min<int64_t>(*size, 2 * kMaxAuditLineBytes);
  std::string text(static_cast<size_t>(wanted), '\0');
  if (pread(fd, text.data(), text.size(), *size - wanted) != wanted) {
    return absl::UnavailableError("cannot be read");
  }
  return text;
}

struct Recovered {
  AuditChain chain;
  int64_t torn_bytes = 0;
};

absl::StatusOr<Recovered> Recover(LogFile* file) {
  int64_t size = 0;
  TRIREME_ASSIGN_OR_RETURN(const std::string text, ReadEnd(file->fd(), &size));
  std::string_view lines = text;
  const size_t end = lines.rfind('\n') + 1;  // npos + 1 is 0
  Recovered out;
  out.torn_bytes = static_cast<int64_t>(lines.size() - end);
  if (out.torn_bytes > static_cast<int64_t>(kMaxAuditLineBytes)) {
    return absl::DataLossError("is no audit log");
  }
  if (end > 0) {
    lines = lines.substr(0, end - 1);
    const absl::StatusOr<AuditRecord> last = ReadAuditRecord(lines.substr(lines.rfind('\n') + 1));
    if (!last.ok()) {
      return absl::DataLossError(
          StrCat("the last record ", FromAbsl(last.status().message()),
                 "; check the file with `trireme audit-verify`, and move it away to begin anew"));
    }
    out.chain = last->chain;
  }
  if (out.torn_bytes > 0) TRIREME_RETURN_IF_ERROR(file->Truncate(size - out.torn_bytes));
  return out;
}

}  // namespace

struct AuditLog::State {
  // Writer's thread only, but for reading `written` once it has ended.
  AuditChain next;  // what formats have made
  int64_t gap = 0;  // of `lost`, what the batch in hand reports
  std::mutex mu;
  AuditChain written;  // guarded by mu
  std::atomic<int64_t> lost = 0;
};

absl::StatusOr<std::unique_ptr<AuditLog>> AuditLog::Open(const std::string& path,
                                                         DropCounter dropped) {
  TRIREME_ASSIGN_OR_RETURN(LogFile file, LogFile::Open(path, LogFile::Mode::kRecord));
  TRIREME_ASSIGN_OR_RETURN(const Recovered recovered, Recover(&file));
  auto state = std::make_shared<State>();
  state->next = state->written = recovered.chain;
  std::unique_ptr<AuditLog> log(new AuditLog(std::move(file), state, std::move(dropped)));
  if (recovered.torn_bytes > 0) {
    log->OnEvent("recovered", [bytes = recovered.torn_bytes](JsonWriter* json) {
      json->Key("torn_bytes").Int(bytes);
    });
  }
  return log;
}

AuditLog::AuditLog(LogFile file, std::shared_ptr<State> state, DropCounter dropped)
    : state_(std::move(state)),
      writer_(std::move(file), {.name = "audit log",
                                .dropped =
                                    [state = state_, dropped = std::move(dropped)](int64_t n) {
                                      state->lost += n;
                                      dropped(n);
                                    },
                                .batch_done =
                                    [state = state_](bool ok, int) {
                                      std::lock_guard lock(state->mu);
                                      if (ok) state->lost -= state->gap;
                                      state->gap = 0;
                                      (ok ? state->written : state->next) =
                                          ok ? state->next : state->written;
                                    }}) {}

void AuditLog::Append(std::string event, absl::Time wall,
                      absl::AnyInvocable<void(JsonWriter*)> write_fields) {
  writer_.Append([state = state_, event = std::move(event), wall,
                  write_fields = std::move(write_fields)](std::string* out) mutable {
    if (state->gap == 0 && state->lost > 0) {
      state->gap = state->lost;
      state->next.Append(
          "gap", wall, [&](JsonWriter* json) { json->Key("records").Int(state->gap); }, out);
    }
    const auto fields = [&](JsonWriter* json) {
      if (write_fields) write_fields(json);
    };
    state->next.Append(event, wall, fields, out);
  });
}

void AuditLog::OnEvent(std::string_view event, absl::AnyInvocable<void(JsonWriter*)> write_fields) {
  Append(std::string(event), absl::Now(), std::move(write_fields));
}

void AuditLog::OnRequest(std::shared_ptr<const FinishedRequest> request) {
  const absl::Time wall = request->end + request->to_wall;
  const char* const event = request->key_refused ? "auth_refused" : "request";
  Append(event, wall, [request = std::move(request)](JsonWriter* json) {
    WriteIdentity(*request, json);
    json->Key("peer").String(request->peer);
    WriteTokens(*request, json);
  });
}

void AuditLog::Close(absl::Duration patience) {
  writer_.Close(patience);
  std::lock_guard lock(state_->mu);
  Log(LogLevel::kInfo, "audit log closed",
      {{"records", state_->written.seq}, {"last_hash", state_->written.hash}});
}

}  // namespace trireme
