// What a run measured: grows by one outcome at a time.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "server/loadgen/client.h"
#include "server/loadgen/histogram.h"
#include "server/loadgen/slo.h"

namespace trireme::loadgen {

struct ErrorCount {
  int64_t count = 0;
  std::string example;  // the first one's message
};

class Summary {
 public:
  // Seconds of the run that token_events_by_second tells apart; later events fall into the last.
  static constexpr size_t kMaxSeconds = 24 * 3600;

  Summary(const Slo& slo, TimePoint begin) : slo_(slo), begin_(begin) {}

  void Add(const Outcome& outcome);
  // The run is over. `end`: of the last answer, or of the time in which requests were sent if that
  // is later. Client CPU: user and system time of this process.
  void Close(TimePoint end, double client_cpu_s);

  double duration_s() const { return duration_s_; }
  int64_t completed() const { return completed_; }
  int64_t failed() const { return failed_; }
  int64_t good() const { return good_; }  // completed, within the SLO
  // Requests per second; requests are those that completed.
  double requests_per_s() const { return Rate(completed_); }
  double goodput_per_s() const { return Rate(good_); }
  // Of all requests, failed ones too, those within the SLO.
  double good_share() const;
  double tokens_in_per_s() const { return Rate(tokens_in_); }
  double tokens_out_per_s() const { return Rate(tokens_out_); }
  double token_events_per_s() const { return Rate(token_events_); }
  double client_cpu_s() const { return client_cpu_s_; }
  // CPU seconds of this process; 0 without events.
  double client_cpu_s_per_1000_events() const;

  // Tokens of completed requests, by the server's usage; by token events where it gave none.
  int64_t tokens_in() const { return tokens_in_; }
  int64_t tokens_out() const { return tokens_out_; }
  int64_t cached_tokens() const { return cached_tokens_; }
  int64_t token_events() const { return token_events_; }  // of failed requests, too
  bool usage_complete() const { return completed_without_usage_ == 0; }

  // Of completed requests, from the intended time of sending.
  const Histogram& ttft() const { return ttft_; }
  const Histogram& itl() const { return itl_; }
  const Histogram& e2e() const { return e2e_; }
  // How late this program was: from the intended time to the real one, without slot_wait, of all
  // requests that were sent.
  const Histogram& send_lag() const { return send_lag_; }
  // Outcome::slot_wait of all requests, of those that were never sent, too.
  const Histogram& slot_wait() const { return slot_wait_; }
  int64_t resent() const { return resent_; }
  const std::map<std::string, ErrorCount>& errors() const { return errors_; }
  const std::vector<int64_t>& token_events_by_second() const { return by_second_; }

 private:
  double Rate(int64_t count) const {
    return duration_s_ > 0 ? static_cast<double>(count) / duration_s_ : 0;
  }
  bool IsGood(const Outcome& outcome) const;
  void CountEventAt(TimePoint when);

  Slo slo_;
  TimePoint begin_;
  double duration_s_ = 0, client_cpu_s_ = 0;
  int64_t completed_ = 0, failed_ = 0, good_ = 0, completed_without_usage_ = 0;
  int64_t resent_ = 0;
  int64_t tokens_in_ = 0, tokens_out_ = 0, cached_tokens_ = 0, token_events_ = 0;
  Histogram ttft_, itl_, e2e_, send_lag_, slot_wait_;
  std::map<std::string, ErrorCount> errors_;
  std::vector<int64_t> by_second_;
};

}  // namespace trireme::loadgen
