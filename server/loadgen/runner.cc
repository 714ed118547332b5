#include "server/loadgen/runner.h"

#include <sys/resource.h>

#include <algorithm>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/steady_timer.hpp>
#include <deque>
#include <utility>

namespace trireme::loadgen {
namespace {

using std::chrono::steady_clock;

double ProcessCpuSeconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) * 1e-6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

}  // namespace

// The state of one run; everything happens on the thread that runs `io`.
class Runner::Active {
 public:
  Active(Runner* runner, const Level& level, const Slo& slo)
      : runner_(*runner),
        level_(level),
        begin_(steady_clock::now()),
        summary_(slo, begin_),
        arrivals_(level.arrivals, level.rate.value_or(1), level.seed),
        arrival_timer_(*runner->io_),
        progress_timer_(*runner->io_),
        events_before_(runner->client_->token_events()) {}

  Summary Run() {
    const double cpu_before = ProcessCpuSeconds();
    const auto guard = boost::asio::make_work_guard(*runner_.io_);  // gRPC posts from elsewhere
    runner_.io_->restart();
    if (runner_.progress_) ScheduleProgress(begin_ + std::chrono::seconds(1));
    if (level_.rate) {
      next_ = begin_ + arrivals_.Next();
      SendDue();
    } else {
      for (int i = 0; i < level_.concurrency; ++i) SendNow();
    }
    while (!finished()) runner_.io_->run_one();
    arrival_timer_.cancel();
    progress_timer_.cancel();
    runner_.io_->poll();  // the cancelled handlers, which point here
    summary_.Close(std::max(last_end_, begin_), ProcessCpuSeconds() - cpu_before);
    return std::move(summary_);
  }

  void Stop() {
    waiting_.clear();
    arrival_timer_.cancel();
    runner_.client_->CancelAll();
  }

 private:
  bool MaySendAt(TimePoint intended) const {
    return !runner_.stopped_ && (level_.requests == 0 || planned_ < level_.requests) &&
           (level_.duration.count() == 0 || intended < begin_ + level_.duration);
  }
  bool finished() const {
    const bool more = level_.rate && MaySendAt(next_);
    return in_flight_ == 0 && waiting_.empty() && !more;
  }

  // Closed loop: one request takes the place of one that ended.
  void SendNow() {
    const TimePoint now = steady_clock::now();
    if (!MaySendAt(now)) return;
    ++planned_;
    Send(now);
  }

  // Open loop: everything whose time has come, then a timer for the next.
  void SendDue() {
    for (; MaySendAt(next_) && next_ <= steady_clock::now(); next_ = begin_ + arrivals_.Next()) {
      ++planned_;
      if (in_flight_ < level_.max_in_flight) {
        Send(next_);
      } else {
        waiting_.push_back(next_);
      }
    }
    if (!MaySendAt(next_)) return;
    arrival_timer_.expires_at(next_);
    arrival_timer_.async_wait([this](boost::system::error_code error) {
      if (!error) SendDue();
    });
  }

  void Send(TimePoint intended) {
    ++in_flight_;
    runner_.client_->Send(runner_.workload_->Next(), intended,
                          [this](const Outcome& outcome) { OnDone(outcome); });
  }

  void OnDone(const Outcome& outcome) {
    --in_flight_;
    last_end_ = std::max(last_end_, outcome.end);
    summary_.Add(outcome);
    if (!level_.rate) {
      SendNow();
    } else if (!waiting_.empty()) {
      const TimePoint intended = waiting_.front();
      waiting_.pop_front();
      Send(intended);
    }
  }

  void ScheduleProgress(TimePoint when) {
    progress_timer_.expires_at(when);
    progress_timer_.async_wait([this, when](boost::system::error_code error) {
      if (error) return;
      runner_.progress_({.elapsed = when - begin_,
                         .completed = summary_.completed(),
                         .failed = summary_.failed(),
                         .in_flight = in_flight_,
                         .token_events = runner_.client_->token_events() - events_before_});
      ScheduleProgress(when + std::chrono::seconds(1));
    });
  }

  Runner& runner_;
  const Level level_;
  const TimePoint begin_;
  Summary summary_;
  Arrivals arrivals_;
  boost::asio::steady_timer arrival_timer_, progress_timer_;
  const int64_t events_before_;
  int64_t planned_ = 0;  // requests whose time has come, sent or waiting
  int64_t in_flight_ = 0;
  TimePoint next_;  // open loop: of the next arrival
  TimePoint last_end_;
  std::deque<TimePoint> waiting_;  // open loop, at max_in_flight: intended times
};

Summary Runner::Run(const Level& level, const Slo& slo) {
  Active active(this, level, slo);
  active_ = &active;
  Summary summary = active.Run();
  active_ = nullptr;
  return summary;
}

void Runner::Stop() {
  stopped_ = true;
  if (active_ != nullptr) active_->Stop();
}

}  // namespace trireme::loadgen
