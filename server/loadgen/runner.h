// Keeps a server under load: a closed loop (so many requests at a time) or an open one (so many a
// second).
#pragma once

#include <boost/asio/io_context.hpp>
#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>

#include "server/loadgen/arrivals.h"
#include "server/loadgen/client.h"
#include "server/loadgen/summary.h"
#include "server/loadgen/workload.h"

namespace trireme::loadgen {

// The load of one run. At least one of `requests` and `duration` ends it.
struct Level {
  int concurrency = 1;         // closed loop
  std::optional<double> rate;  // requests a second: open loop
  ArrivalKind arrivals = ArrivalKind::kPoisson;
  int max_in_flight = 4096;  // open loop: further requests wait here, and their latency counts it
  int64_t requests = 0;      // 0: no limit
  // Sending ends: what is in flight is waited for, what waits here ends as "not_sent". 0: none.
  std::chrono::nanoseconds duration{0};
  uint64_t seed = 0;
};

// Requests of an open loop that wait at max_in_flight. One that finds so many before it ends as
// "not_sent" at once.
inline constexpr size_t kMaxWaiting = 1 << 17;

struct Progress {
  std::chrono::nanoseconds elapsed;
  int64_t completed = 0, failed = 0, in_flight = 0;
  int64_t token_events = 0;  // since the start of the run
};

class Runner {
 public:
  // All outlive the runner. `progress`, if any, is called every second of a run.
  Runner(boost::asio::io_context* io, Client* client, Workload* workload,
         std::function<void(const Progress&)> progress)
      : io_(io), client_(client), workload_(workload), progress_(std::move(progress)) {}

  // One run; blocks the calling thread, on which `io` runs meanwhile.
  Summary Run(const Level& level, const Slo& slo);

  // From a handler of `io`: nothing is sent any more, requests in flight end as "cancelled", those
  // that were due as "not_sent"; later runs send nothing.
  void Stop();
  bool stopped() const { return stopped_; }

 private:
  class Active;
  boost::asio::io_context* const io_;
  Client* const client_;
  Workload* const workload_;
  const std::function<void(const Progress&)> progress_;
  Active* active_ = nullptr;  // the run in progress
  bool stopped_ = false;
};

}  // namespace trireme::loadgen
