// One door of a server under load: sends requests, measures their answers.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "server/loadgen/answer_scanner.h"
#include "server/loadgen/workload.h"

namespace trireme::loadgen {

using TimePoint = std::chrono::steady_clock::time_point;

// How one request went.
struct Outcome {
  TimePoint intended;     // when it should have been sent: every latency counts from here
  TimePoint sent;         // when it was
  TimePoint first_token;  // of no meaning without token events
  TimePoint end;
  std::vector<int64_t> gaps_ns;  // between token events: one fewer than those
  int64_t token_events = 0;      // messages of the stream that carried text
  bool has_usage = false;
  TokenUsage usage;
  std::string error;          // its kind: "http_429", "grpc_UNAVAILABLE", "connect",
                              // "timeout", "closed", "protocol", "stream", "cancelled";
                              // empty: the answer came whole
  std::string error_message;  // for people, at most kMaxErrorMessageBytes

  bool ok() const { return error.empty(); }
  // Counts a token event now.
  void Token(TimePoint now) {
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

inline constexpr size_t kMaxErrorMessageBytes = 300;

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
