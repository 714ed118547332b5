// One door of a server under load: sends requests, measures their answers.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "runtime/base/strings.h"
#include "server/loadgen/answer_scanner.h"
#include "server/loadgen/workload.h"

namespace trireme::loadgen {

using TimePoint = std::chrono::steady_clock::time_point;

// For the question before a run that shows whether anybody answers.
inline constexpr auto kPreflightTimeout = std::chrono::seconds(10);

inline constexpr size_t kMaxErrorMessageBytes = 300;

// How many token events an answer of so many tokens may have: servers that send text by pieces
// smaller than tokens are within it, streams without an end are not.
constexpr int64_t MaxTokenEvents(int max_tokens) { return 16 * int64_t{max_tokens} + 64; }

// The error of a request that was due when sending ended, and had found no slot.
inline constexpr char kNotSent[] = "not_sent";

// How one request went.
struct Outcome {
  TimePoint intended;  // when it should have been sent: every latency counts from here
  std::chrono::nanoseconds slot_wait{0};  // of that, until fewer than max_in_flight were in flight
  TimePoint sent;                         // when it was; of no meaning in "not_sent"
  TimePoint first_token;                  // of no meaning without token events
  TimePoint end;
  std::vector<int64_t> gaps_ns;          // between token events: one fewer than those
  int64_t token_events = 0;              // messages of the stream that carried text
  int64_t max_token_events = INT64_MAX;  // more are refused
  bool resent = false;  // its first connection, a used one, broke before any of the answer came
  bool has_usage = false;
  TokenUsage usage;
  std::string
      error;  // its kind: "http_429", "grpc_UNAVAILABLE", "connect",
              // "descriptors" (none was left for a socket), "tls", "timeout",
              // "closed", "protocol", "stream", "cancelled", kNotSent; empty: the answer came whole
  std::string error_message;  // for people, at most kMaxErrorMessageBytes

  bool ok() const { return error.empty(); }
  // The first thing that went wrong is the one that counts.
  void Fail(std::string kind, std::string_view message) {
    if (!ok()) return;
    error = std::move(kind);
    error_message = Printable(message, kMaxErrorMessageBytes);
  }
  // Counts a token event now. One more than max_token_events is a failure, and not counted.
  void Token(TimePoint now) {
    if (token_events >= max_token_events) {
      return Fail("protocol", StrCat("more than ", max_token_events, " events with text"));
    }
    if (token_events++ == 0) {
      first_token = now;
    } else {
      gaps_ns.push_back((now - last_token_).count());
    }
    last_token_ = now;
  }

 private:
  TimePoint last_token_;
};

// All methods on the thread that runs the io_context a client was made with; `done` is called
// there, too, exactly once for each Send, and may call Send.
class Client {
 public:
  using Done = std::function<void(Outcome)>;

  virtual ~Client() = default;
  virtual void Send(const Request& request, TimePoint intended, Done done) = 0;
  // Ends every request in flight with "cancelled", soon.
  virtual void CancelAll() = 0;
  // Since the client was made, of all requests.
  virtual int64_t token_events() const = 0;
};

}  // namespace trireme::loadgen
