#include "server/loadgen/runner.h"

#include <sys/resource.h>

#include <algorithm>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/steady_timer.hpp>
#include <deque>
#include <utility>

#include "absl/time/time.h"
#include "runtime/base/strings.h"

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
        deadline_timer_(*runner->io_),
        progress_timer_(*runner->io_),
        events_before_(runner->client_->token_events()) {}

  Summary Run() {
    const double cpu_before = ProcessCpuSeconds();
    const auto guard = boost::asio::make_work_guard(*runner_.io_);  // gRPC posts from elsewhere
    runner_.io_->restart();
    if (runner_.progress_) ScheduleProgress(begin_ + std::chrono::seconds(1));
    if (level_.rate) {
      next_ = begin_ + arrivals_.Next();
      if (level_.duration.count() > 0) ScheduleDeadline();
      SendDue();
    } else {
      for (int i = 0; i < level_.concurrency; ++i) SendNow();
    }
    while (!finished()) runner_.io_->run_one();
    arrival_timer_.cancel();
    deadline_timer_.cancel();
    progress_timer_.cancel();
    runner_.io_->poll();  // the cancelled handlers, which point here
    summary_.Close(End(), ProcessCpuSeconds() - cpu_before);
    return std::move(summary_);
  }

  void Stop() {
    arrival_timer_.cancel();
    const TimePoint now = steady_clock::now();
    last_end_ = std::max(last_end_, now);
    if (level_.rate) DropDue(now);
    runner_.client_->CancelAll();
  }

 private:
  bool all_planned() const { return level_.requests > 0 && planned_ >= level_.requests; }
  bool AfterDeadline(TimePoint when) const {
    return level_.duration.count() > 0 && when >= begin_ + level_.duration;
  }
  // Whether a request of this time belongs to the run.
  bool Belongs(TimePoint intended) const { return !all_planned() && !AfterDeadline(intended); }
  bool MaySendAt(TimePoint intended) const { return !runner_.stopped_ && Belongs(intended); }
  bool finished() const {
    const bool more = level_.rate && MaySendAt(next_);
    return in_flight_ == 0 && waiting_.empty() && !more;
  }
  // Rates are of the time in which requests were sent, though the last answer may come before its
  // end.
  TimePoint End() const {
    const bool whole_window = level_.duration.count() > 0 && !all_planned() && !runner_.stopped_;
    return std::max(last_end_, whole_window ? begin_ + level_.duration : begin_);
  }

  // Closed loop: one request takes the place of one that ended.
  void SendNow() {
    const TimePoint now = steady_clock::now();
    if (!MaySendAt(now)) return;
    ++planned_;
    Send(now, {});
  }

  // Open loop: the time of the next arrival, which has come.
  TimePoint TakeNext() {
    ++planned_;
    return std::exchange(next_, begin_ + arrivals_.Next());
  }

  // Open loop: everything whose time has come, then a timer for the next.
  void SendDue() {
    while (MaySendAt(next_) && next_ <= steady_clock::now()) {
      const TimePoint intended = TakeNext();
      if (in_flight_ < level_.max_in_flight) {
        Send(intended, {});
      } else if (waiting_.size() < kMaxWaiting) {
        waiting_.push_back(intended);
      } else {
        CountNotSent(intended, steady_clock::now());
      }
    }
    if (!MaySendAt(next_)) return;
    arrival_timer_.expires_at(next_);
    arrival_timer_.async_wait([this](boost::system::error_code error) {
      if (!error) SendDue();
    });
  }

  void ScheduleDeadline() {
    deadline_timer_.expires_at(begin_ + level_.duration);
    deadline_timer_.async_wait([this](boost::system::error_code error) {
      if (error) return;
      SendDue();  // this handler may be late: what was due before has its chance
      DropDue(begin_ + level_.duration);
    });
  }

  // Open loop: sending is over. What was due until then is counted, sent or not.
  void DropDue(TimePoint now) {
    while (!waiting_.empty()) {
      CountNotSent(waiting_.front(), now);
      waiting_.pop_front();
    }
    while (Belongs(next_) && next_ <= now) CountNotSent(TakeNext(), now);
  }

  void CountNotSent(TimePoint intended, TimePoint now) {
    Outcome outcome;
    outcome.intended = intended;
    outcome.end = now;
    outcome.slot_wait = now - intended;
    outcome.Fail(kNotSent,
                 StrCat("waited ",
                        absl::FormatDuration(absl::FromChrono(
                            std::chrono::duration_cast<std::chrono::milliseconds>(now - intended))),
                        " while ", level_.max_in_flight, " were in flight"));
    summary_.Add(outcome);
  }

  void Send(TimePoint intended, std::chrono::nanoseconds slot_wait) {
    ++in_flight_;
    runner_.client_->Send(runner_.workload_->Next(), intended, [this, slot_wait](Outcome outcome) {
      outcome.slot_wait = slot_wait;
      OnDone(outcome);
    });
  }

  void OnDone(const Outcome& outcome) {
    --in_flight_;
    last_end_ = std::max(last_end_, outcome.end);
    summary_.Add(outcome);
    if (!level_.rate) {
      SendNow();
      return;
    }
    const TimePoint now = steady_clock::now();
    if (waiting_.empty() || AfterDeadline(now)) return;
    const TimePoint intended = waiting_.front();
    waiting_.pop_front();
    Send(intended, now - intended);
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
  boost::asio::steady_timer arrival_timer_, deadline_timer_, progress_timer_;
  const int64_t events_before_;
  int64_t planned_ = 0;  // requests whose time has come, sent or not
  int64_t in_flight_ = 0;
  TimePoint next_;  // open loop: of the next arrival
  TimePoint last_end_;
  std::deque<TimePoint> waiting_;  // open loop, at max_in_flight: intended times; <= kMaxWaiting
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
