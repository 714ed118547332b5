#include "server/loadgen/answer_reader.h"

#include <algorithm>

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
  is_sse_ = stream_ && status == 200 && content_type.starts_with("text/event-stream");
}

// The first thing that went wrong is the one that counts.
void AnswerReader::Fail(std::string kind, std::string_view message) {
  if (!outcome_->ok()) return;
  outcome_->error = std::move(kind);
  outcome_->error_message = Printable(message, kMaxErrorMessageBytes);
}

int AnswerReader::OnEvent(std::string_view data, TimePoint now) {
  const AnswerEvent& event = scanner_.Scan(data);
  if (!event.valid) Fail("protocol", "an event is no JSON");
  if (event.has_error) Fail("stream", event.error_message);
  finished_ |= event.finished || event.done;
  if (event.has_usage) {
    outcome_->has_usage = true;
    outcome_->usage = event.usage;
  }
  if (!event.has_text) return 0;
  outcome_->Token(now);
  return 1;
}

int AnswerReader::Body(std::string_view bytes, TimePoint now) {
  if (!is_sse_) {
    body_.append(bytes.substr(0, kMaxKeptBytes - std::min(kMaxKeptBytes, body_.size())));
    return 0;
  }
  int tokens = 0;
  if (!sse_.Feed(bytes, [&](std::string_view data) { tokens += OnEvent(data, now); })) {
    Fail("protocol", StrCat("an event is longer than ", kMaxEventBytes, " bytes"));
    is_sse_ = false;  // what follows has no known beginning
  }
  return tokens;
}

void AnswerReader::End() {
  if (status_ != 200) {
    const AnswerEvent& event = scanner_.Scan(body_);
    Fail(StrCat("http_", status_), event.has_error ? event.error_message : body_);
  } else if (stream_ && !is_sse_) {
    Fail("protocol", "the answer is no event stream");
  } else if (stream_ && !finished_) {
    Fail("protocol", "the stream ended before its answer did");
  }
}

}  // namespace trireme::loadgen
