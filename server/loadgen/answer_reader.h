// An HTTP answer, body byte by body byte, into an Outcome.
#pragma once

#include <string>
#include <string_view>

#include "server/loadgen/client.h"
#include "server/loadgen/sse_scanner.h"

namespace trireme::loadgen {

// Reused from request to request of a connection; knows no sockets.
class AnswerReader {
 public:
  // `outcome` outlives the answer. `stream`: a stream of events is wanted, not one JSON body.
  void Begin(Outcome* outcome, bool stream);
  void Head(int status, std::string_view content_type);
  // Returns how many token events there were in `bytes`. When the outcome is no longer ok after
  // this, the verdict is known and the rest of the answer does not matter.
  int Body(std::string_view bytes, TimePoint now);
  // The answer ended as HTTP ends answers: gives the verdict.
  void End();

  // Of answers that are no stream. Those longer than kMaxKeptBytes have their verdict there.
  const std::string& body() const { return body_; }

 private:
  static constexpr size_t kMaxKeptBytes = 1 << 20;
  int OnEvent(std::string_view data, TimePoint now);

  Outcome* outcome_ = nullptr;
  bool stream_ = false, is_sse_ = false, finished_ = false;
  int status_ = 0;
  std::string body_;
  SseScanner sse_;
  AnswerScanner scanner_;
};

}  // namespace trireme::loadgen
