#include "server/loadgen/summary.h"

#include <algorithm>
#include <numeric>

namespace trireme::loadgen {

void Summary::CountEventAt(TimePoint when) {
  using std::chrono::seconds;
  const auto since_begin = std::max<TimePoint::duration>(when - begin_, TimePoint::duration(0));
  const auto second = std::chrono::duration_cast<seconds>(since_begin).count();
  const size_t index = std::min(static_cast<size_t>(second), kMaxSeconds - 1);
  if (by_second_.size() <= index) by_second_.resize(index + 1);
  ++by_second_[index];
}

bool Summary::IsGood(const Outcome& outcome) const {
  const auto within = [](const std::optional<absl::Duration>& bound, int64_t ns) {
    return !bound || absl::Nanoseconds(ns) <= *bound;
  };
  const auto gaps = static_cast<int64_t>(outcome.gaps_ns.size());
  const int64_t gaps_ns =
      std::accumulate(outcome.gaps_ns.begin(), outcome.gaps_ns.end(), int64_t{0});
  return outcome.token_events > 0 &&
         within(slo_.ttft, (outcome.first_token - outcome.intended).count()) &&
         within(slo_.itl, gaps > 0 ? gaps_ns / gaps : 0) &&
         within(slo_.e2e, (outcome.end - outcome.intended).count());
}

void Summary::Add(const Outcome& outcome) {
  slot_wait_.Add(outcome.slot_wait.count());
  if (outcome.error != kNotSent) {
    send_lag_.Add((outcome.sent - outcome.intended - outcome.slot_wait).count());
  }
  if (outcome.resent) ++resent_;
  token_events_ += outcome.token_events;
  if (outcome.token_events > 0) {
    TimePoint when = outcome.first_token;
    CountEventAt(when);
    for (const int64_t gap : outcome.gaps_ns) CountEventAt(when += std::chrono::nanoseconds(gap));
  }
  if (!outcome.ok()) {
    ++failed_;
    ErrorCount& error = errors_[outcome.error];
    if (error.count++ == 0) error.example = outcome.error_message;
    return;
  }
  ++completed_;
  if (outcome.token_events > 0) ttft_.Add((outcome.first_token - outcome.intended).count());
  for (const int64_t gap : outcome.gaps_ns) itl_.Add(gap);
  e2e_.Add((outcome.end - outcome.intended).count());
  if (!outcome.has_usage) ++completed_without_usage_;
  tokens_in_ += outcome.usage.prompt_tokens;
  cached_tokens_ += outcome.usage.cached_tokens;
  tokens_out_ += outcome.has_usage ? outcome.usage.completion_tokens : outcome.token_events;
  if (IsGood(outcome)) ++good_;
}

void Summary::Close(TimePoint end, double client_cpu_s) {
  duration_s_ = std::chrono::duration<double>(end - begin_).count();
  client_cpu_s_ = client_cpu_s;
}

double Summary::good_share() const {
  const int64_t all = completed_ + failed_;
  return all == 0 ? 0 : static_cast<double>(good_) / static_cast<double>(all);
}

double Summary::client_cpu_s_per_1000_events() const {
  return token_events_ == 0 ? 0 : client_cpu_s_ * 1000 / static_cast<double>(token_events_);
}

}  // namespace trireme::loadgen
