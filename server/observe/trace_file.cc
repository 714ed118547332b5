#include "server/observe/trace_file.h"

#include <utility>

#include "runtime/base/json_writer.h"
#include "runtime/base/log.h"
#include "runtime/base/status.h"
#include "runtime/base/strings.h"

namespace trireme {
namespace {

constexpr int kProcess = 1;
constexpr int kEngineTrack = 1, kRequestTrack = 2;

// One event, which the caller closes: {"name":...,"ph":...,"pid":1,"tid":...,"ts":...
class Event {
 public:
  Event(std::string* out, std::string_view name, std::string_view phase, int track,
        absl::Duration at)
      : json_(out) {
    // The comma comes first: whatever the file ends with, it ends with a whole event.
    *out += ",\n";
    json_.BeginObject().Key("name").String(name).Key("ph").String(phase);
    json_.Key("pid").Int(kProcess).Key("tid").Int(track);
    json_.Key("ts").Thousandths(absl::ToInt64Nanoseconds(at));
  }
  ~Event() { json_.EndObject(); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  JsonWriter* operator->() { return &json_; }
  JsonWriter* json() { return &json_; }

 private:
  JsonWriter json_;
};

// A span of the engine's track.
void AppendSpan(std::string* out, std::string_view name, absl::Duration begin, absl::Duration end) {
  Event event(out, name, "X", kEngineTrack, begin);
  event->Key("dur").Thousandths(absl::ToInt64Nanoseconds(end - begin));
}

void AppendCounter(std::string* out, std::string_view name, absl::Duration at,
                   std::initializer_list<std::pair<std::string_view, int>> values) {
  Event event(out, name, "C", kEngineTrack, at);
  event->Key("args").BeginObject();
  for (const auto& [key, value] : values) event->Key(key).Int(value);
  event->EndObject();
}

void AppendStep(const StepRecord& step, absl::Time origin, std::string* out) {
  const absl::Duration begin = step.begin - origin, planned = step.planned - origin,
                       executed = step.executed - origin, end = step.end - origin;
  {
    Event event(out, "step", "X", kEngineTrack, begin);
    event->Key("dur").Thousandths(absl::ToInt64Nanoseconds(end - begin));
    event->Key("args").BeginObject();
    event->Key("step").Int(static_cast<int64_t>(step.step)).Key("rows").Int(step.rows);
    event->Key("decode_tokens").Int(step.decode_rows);
    event->Key("prefill_tokens").Int(step.tokens - step.decode_rows);
    event->Key("running").Int(step.running).Key("waiting").Int(step.waiting);
    event->Key("kv_blocks_held").Int(step.kv_blocks_held);
    event->Key("kv_blocks").Int(step.kv_blocks_total).EndObject();
  }
  AppendSpan(out, "plan", begin, planned);
  AppendSpan(out, "execute", planned, executed);
  AppendSpan(out, "commit", executed, end);
  AppendCounter(out, "sequences", begin, {{"running", step.running}, {"waiting", step.waiting}});
  AppendCounter(out, "kv_blocks_held", begin, {{"held", step.kv_blocks_held}});
}

// One end of an asynchronous span; its two ends share name, category and id.
void AppendAsync(std::string* out, std::string_view name, bool begin, uint64_t id,
                 absl::Duration at, const FinishedRequest* about) {
  Event event(out, name, begin ? "b" : "e", kRequestTrack, at);
  event->Key("cat").String("request").Key("id").String(StrCat(id));
  if (about == nullptr) return;
  event->Key("args").BeginObject();
  WriteIdentity(*about, event.json());
  WriteTokens(*about, event.json());
  event->EndObject();
}

void AppendRequest(const FinishedRequest& request, uint64_t id, absl::Time origin,
                   std::string* out) {
  AppendAsync(out, "request", true, id, request.begin - origin, &request);
  for (const FinishedRequest::Phase& phase : request.phases()) {
    AppendAsync(out, phase.name, true, id, phase.begin - origin, nullptr);
    AppendAsync(out, phase.name, false, id, phase.end - origin, nullptr);
  }
  AppendAsync(out, "request", false, id, request.end - origin, nullptr);
}

// The track's name, and the bracket that begins the file.
constexpr char kPreamble[] =
    "[\n"
    R"({"name":"process_name","ph":"M","pid":1,"args":{"name":"trireme"}})"
    ",\n"
    R"({"name":"thread_name","ph":"M","pid":1,"tid":1,"args":{"name":"engine"}})"
    ",\n"
    R"({"name":"thread_name","ph":"M","pid":1,"tid":2,"args":{"name":"requests"}})";

}  // namespace

struct TraceFile::State {
  const absl::Time origin;
  const DropCounter dropped;
  const int64_t max_bytes;
  // Writer's thread only.
  int64_t bytes = 0;
  bool full = false;

  bool HasRoom();
};

bool TraceFile::State::HasRoom() {
  if (bytes < max_bytes) return true;
  if (!std::exchange(full, true)) {
    Log(LogLevel::kWarning, "the trace file is full; what comes is dropped", {{"bytes", bytes}});
  }
  dropped(1);
  return false;
}

absl::StatusOr<std::unique_ptr<TraceFile>> TraceFile::Open(const std::string& path,
                                                           absl::Time origin, DropCounter dropped,
                                                           int64_t max_bytes) {
  if (path == "-")
    return absl::InvalidArgumentError("wants a file of its own, not standard output");
  absl::StatusOr<LogFile> file = LogFile::Open(path, LogFile::Mode::kLines);
  if (!file.ok()) return file.status();
  const std::shared_ptr<State> state(
      new State{.origin = origin, .dropped = std::move(dropped), .max_bytes = max_bytes});
  return std::unique_ptr<TraceFile>(new TraceFile(*std::move(file), state));
}

TraceFile::TraceFile(LogFile file, std::shared_ptr<State> state)
    : state_(std::move(state)), file_(std::move(file)) {}

absl::Status TraceFile::Begin() {
  TRIREME_RETURN_IF_ERROR(file_->Clear());
  TRIREME_RETURN_IF_ERROR(file_->Append(kPreamble));
  writer_.emplace(*std::move(file_),
                  LogWriterOptions{.name = "trace file", .dropped = state_->dropped});
  begun_ = true;
  return absl::OkStatus();
}

// The engine thread pays one allocation for an event.
template <typename Events>
void TraceFile::Append(Events events) {
  if (!begun_) return;
  writer_->Append([state = state_, events = std::move(events)](std::string* out) {
    if (!state->HasRoom()) return;
    const size_t before = out->size();
    events(state->origin, out);
    state->bytes += static_cast<int64_t>(out->size() - before);
  });
}

void TraceFile::OnStep(const StepRecord& step) {
  Append([step](absl::Time origin, std::string* out) { AppendStep(step, origin, out); });
}

void TraceFile::OnRequest(std::shared_ptr<const FinishedRequest> request) {
  Append([request = std::move(request), id = next_id_++](absl::Time origin, std::string* out) {
    AppendRequest(*request, id, origin, out);
  });
}

void TraceFile::BeginClose() {
  if (!begun_ || ended_.exchange(true)) return;
  writer_->Append([](std::string* out) { *out += "\n]\n"; });
  writer_->BeginClose();
}

void TraceFile::Close(absl::Duration patience) {
  BeginClose();
  if (writer_) writer_->Close(patience);
}

}  // namespace trireme
