#include "server/observe/audit_log.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <mutex>
#include <utility>

#include "absl/time/clock.h"
#include "runtime/base/log.h"
#include "runtime/base/status.h"
#include "runtime/base/strings.h"

namespace trireme {
namespace {

void LogEnd(LogLevel level, std::string_view event, const AuditChain& chain) {
  Log(level, event, {{"records", chain.seq}, {"last_hash", chain.hash}});
}

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
  void OnBatch(bool ok);

  // Writer's thread only.
  AuditChain next;          // what formats have made
  int64_t gap = 0;          // of `lost`, what the batch in hand reports
  uint64_t checkpoint = 0;  // the last number that was logged, and when
  absl::Time checkpoint_time = absl::Now();
  std::mutex mu;
  AuditChain written;  // guarded by mu
  std::atomic<int64_t> lost = 0;
};

void AuditLog::State::OnBatch(bool ok) {
  {
    std::lock_guard lock(mu);
    if (ok) lost -= gap;
    gap = 0;
    (ok ? written : next) = ok ? next : written;
  }
  const absl::Time now = absl::Now();
  if (next.seq - checkpoint < kCheckpointRecords && now - checkpoint_time < kCheckpointInterval) {
    return;
  }
  checkpoint = next.seq;
  checkpoint_time = now;
  LogEnd(LogLevel::kInfo, "audit log checkpoint", next);
}

absl::StatusOr<std::unique_ptr<AuditLog>> AuditLog::Open(const std::string& path,
                                                         DropCounter dropped) {
  TRIREME_ASSIGN_OR_RETURN(LogFile file, LogFile::Open(path, LogFile::Mode::kRecord));
  TRIREME_ASSIGN_OR_RETURN(const Recovered recovered, Recover(&file));
  auto state = std::make_shared<State>();
  state->next = state->written = recovered.chain;
  state->checkpoint = recovered.chain.seq;
  LogEnd(LogLevel::kInfo, "audit log opened", recovered.chain);
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
      writer_(std::move(file),
              {.name = "audit log",
               .dropped =
                   [state = state_, dropped = std::move(dropped)](int64_t n) {
                     state->lost += n;
                     dropped(n);
                   },
               .batch_done = [state = state_](bool ok, int) { state->OnBatch(ok); },
               .first_of_new_file = [state = state_]() -> LogWriter::Format {
                 LogEnd(LogLevel::kInfo, "audit log rotated", state->next);
                 return [state](std::string* out) {
                   state->next.Append(
                       "rotated", absl::Now(), [](JsonWriter*) {}, out);
                 };
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
  const bool complete = writer_.Close(patience);
  AuditChain written;
  {
    std::lock_guard lock(state_->mu);
    written = state_->written;
  }
  if (complete) return LogEnd(LogLevel::kInfo, "audit log closed", written);
  // The batch in hand may be in the file, or come yet: this is no end to hold the file against.
  Log(LogLevel::kWarning, "audit log left open: its end is not known",
      {{"records_known", written.seq}, {"hash_of_them", written.hash}});
}

}  // namespace trireme
