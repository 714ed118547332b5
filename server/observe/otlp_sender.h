// How a batch of spans reaches a collector.
#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "server/observe/otlp_options.h"

namespace trireme {

struct OtlpAnswer {
  long status = 0;  // HTTP's; 0: none came, and `failure` says why
  std::string failure;
  bool given_up = false;                // GiveUpAt has come
  std::chrono::seconds retry_after{0};  // what the collector asks for; 0: nothing
  std::string body;

  bool ok() const { return failure.empty() && status >= 200 && status < 300; }
  // As OTLP/HTTP says: connections that failed, and these.
  bool retryable() const {
    if (!failure.empty()) return !given_up;
    return status == 429 || status == 502 || status == 503 || status == 504;
  }
  std::string Reason() const;
};

class OtlpSender {
 public:
  using Time = std::chrono::steady_clock::time_point;

  virtual ~OtlpSender() = default;
  // One thread.
  virtual OtlpAnswer Post(const std::string& body) = 0;
  // What is under way then is aborted, soon after. Thread-safe.
  virtual void GiveUpAt(Time when) = 0;
};

// By libcurl: one connection, kept alive between posts. Of the options: url, headers, timeout,
// ca_file.
std::unique_ptr<OtlpSender> MakeCurlSender(const OtlpOptions& options);

}  // namespace trireme
