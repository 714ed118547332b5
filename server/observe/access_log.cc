#include "server/observe/access_log.h"

#include <algorithm>
#include <utility>

#include "runtime/base/strings.h"

namespace trireme {
namespace {

// "stop", or "stop,length" where choices differ.
std::string Distinct(std::vector<std::string_view> names) {
  std::sort(names.begin(), names.end(), std::greater<>());
  names.erase(std::unique(names.begin(), names.end()), names.end());
  std::string out;
  for (const std::string_view name : names) StrAppend(&out, out.empty() ? "" : ",", name);
  return out;
}

}  // namespace

void AppendAccessLine(const FinishedRequest& request, std::string* out) {
  JsonWriter json(out);
  const auto ms = [&json](std::string_view key, absl::Duration duration) {
    json.Key(key).Thousandths(absl::ToInt64Microseconds(duration));
  };
  json.BeginObject().Key("time").String(Timestamp(request.begin + request.to_wall));
  WriteIdentity(request, &json);
  json.Key("peer").String(request.peer);
  json.Key("bytes_received").Int(static_cast<int64_t>(request.bytes_received));
  json.Key("bytes_sent").Int(static_cast<int64_t>(request.bytes_sent));
  ms("total_ms", request.end - request.begin);
  if (request.trace.has_id()) json.Key("trace_id").String(ToHex(request.trace.trace_id));
  WriteTokens(request, &json);
  if (request.generated()) {
    json.Key("stream").Bool(request.stream);
    const FinishedRequest::Phase queue = request.phases().front();
    ms("queue_ms", queue.end - queue.begin);
    if (request.work.first_token > absl::UnixEpoch()) {
      ms("ttft_ms", request.work.first_token - request.begin);
    }
    json.Key("finish_reason").String(Distinct(request.FinishNames()));
  }
  json.EndObject();
  *out += '\n';
}

absl::StatusOr<std::unique_ptr<AccessLog>> AccessLog::Open(const std::string& path,
                                                           DropCounter dropped) {
  absl::StatusOr<LogFile> file = LogFile::Open(path, LogFile::Mode::kLines);
  if (!file.ok()) return file.status();
  return std::unique_ptr<AccessLog>(new AccessLog(*std::move(file), std::move(dropped)));
}

AccessLog::AccessLog(LogFile file, DropCounter dropped)
    : writer_(std::move(file), {.name = "access log", .dropped = std::move(dropped)}) {}

void AccessLog::OnRequest(std::shared_ptr<const FinishedRequest> request) {
  writer_.Append(
      [request = std::move(request)](std::string* out) { AppendAccessLine(*request, out); });
}

}  // namespace trireme
