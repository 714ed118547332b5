#include "server/loadgen/answer_reader.h"

#include "absl/strings/match.h"
#include "runtime/base/strings.h"

namespace trireme::loadgen {

void AnswerReader::Begin(Outcome* outcome, bool stream) {
  outcome_ = outcome;
  stream_ = stream;
  is_sse_ = finished_ = false;
  status_ = 0;
  body_.clear();
  sse_.Reset();
}

void AnswerReader::Head(int status, std::string_view content_type) {
  status_ = status;
  const std::string_view type = content_type.substr(0, content_type.find_first_of("; \t"));
  is_sse_ = stream_ && status == 200 &&
            absl::EqualsIgnoreCase(ToAbsl(type), "text/event-stream");  // RFC 9110, 8.3.1
}

int AnswerReader::OnEvent(std::string_view data, TimePoint now) {
  const AnswerEvent& event = scanner_.Scan(data);
  if (!event.valid) outcome_->Fail("protocol", "an event is no JSON");
  if (event.has_error) outcome_->Fail("stream", event.error_message);
  finished_ |= event.finished || event.done;
  if (event.has_usage) {
    outcome_->has_usage = true;
    outcome_->usage = event.usage;
  }
  if (!event.has_text) return 0;
  outcome_->Token(now);
  return outcome_->ok() ? 1 : 0;
}

int AnswerReader::Body(std::string_view bytes, TimePoint now) {
  if (!outcome_->ok()) return 0;
  if (!is_sse_) {
    if (stream_ && status_ == 200) End();  // no stream will come of it
    const size_t room = kMaxKeptBytes - body_.size();
    body_.append(bytes.substr(0, room));
    if (bytes.size() > room) {
      End();
      outcome_->Fail("protocol", StrCat("an answer is longer than ", kMaxKeptBytes, " bytes"));
    }
    return 0;
  }
  int tokens = 0;
  const auto on_event = [&](std::string_view data) {
    if (outcome_->ok()) tokens += OnEvent(data, now);
  };
  if (!sse_.Feed(bytes, on_event)) {
    outcome_->Fail("protocol", StrCat("an event is longer than ", kMaxEventBytes, " bytes"));
  }
  return tokens;
}

void AnswerReader::End() {
  if (status_ != 200) {
    const AnswerEvent& event = scanner_.Scan(body_);
    outcome_->Fail(StrCat("http_", status_), event.has_error ? event.error_message : body_);
  } else if (stream_ && !is_sse_) {
    outcome_->Fail("protocol", "the answer is no event stream");
  } else if (stream_ && !finished_) {
    outcome_->Fail("protocol", "the stream ended before its answer did");
  }
}

}  // namespace trireme::loadgen
