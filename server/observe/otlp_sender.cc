#include "server/observe/otlp_sender.h"

#include <curl/curl.h>

#include <algorithm>
#include <atomic>
#include <limits>

#include "runtime/base/check.h"
#include "runtime/base/strings.h"

namespace trireme {
namespace {

constexpr size_t kMaxAnswerBytes = 64 << 10;
constexpr long kMaxConnectTimeoutMs = 5000;
constexpr curl_off_t kMaxRetryAfterSeconds = 3600;

class CurlSender final : public OtlpSender {
 public:
  explicit CurlSender(const OtlpOptions& options) : curl_(curl_easy_init()) {
    TRIREME_CHECK(curl_ != nullptr);
    AddHeader("Content-Type: application/json");
    AddHeader("Expect:");  // no round trip before the body
    for (const auto& [name, value] : options.headers) AddHeader(StrCat(name, ": ", value));
    const long timeout_ms = static_cast<long>(absl::ToInt64Milliseconds(options.timeout));
    curl_easy_setopt(curl_, CURLOPT_URL, options.url.c_str());
    curl_easy_setopt(curl_, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl_, CURLOPT_NOSIGNAL, 1L);
    // An abort does not wait for a resolver that is stuck: its thread is left to itself.
    curl_easy_setopt(curl_, CURLOPT_QUICK_EXIT, 1L);
    curl_easy_setopt(curl_, CURLOPT_POST, 1L);
    curl_easy_setopt(curl_, CURLOPT_HTTPHEADER, headers_);
    curl_easy_setopt(curl_, CURLOPT_CONNECTTIMEOUT_MS, std::min(kMaxConnectTimeoutMs, timeout_ms));
    curl_easy_setopt(curl_, CURLOPT_TIMEOUT_MS, timeout_ms);
    if (!options.ca_file.empty()) curl_easy_setopt(curl_, CURLOPT_CAINFO, options.ca_file.c_str());
    curl_easy_setopt(curl_, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(curl_, CURLOPT_XFERINFOFUNCTION, &CurlSender::Progress);
    curl_easy_setopt(curl_, CURLOPT_XFERINFODATA, this);
    curl_easy_setopt(curl_, CURLOPT_WRITEFUNCTION, &CurlSender::Receive);
  }
  ~CurlSender() override {
    curl_easy_cleanup(curl_);
    curl_slist_free_all(headers_);
  }
  CurlSender(const CurlSender&) = delete;
  CurlSender& operator=(const CurlSender&) = delete;

  OtlpAnswer Post(const std::string& body) override {
    OtlpAnswer answer;
    curl_easy_setopt(curl_, CURLOPT_POSTFIELDS, body.data());
    curl_easy_setopt(curl_, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(body.size()));
    curl_easy_setopt(curl_, CURLOPT_WRITEDATA, &answer.body);
    const CURLcode code = curl_easy_perform(curl_);
    if (code != CURLE_OK) answer.failure = curl_easy_strerror(code);
    answer.given_up = code == CURLE_ABORTED_BY_CALLBACK;
    curl_off_t retry_after = 0;
    curl_easy_getinfo(curl_, CURLINFO_RESPONSE_CODE, &answer.status);
    curl_easy_getinfo(curl_, CURLINFO_RETRY_AFTER, &retry_after);
    answer.retry_after =
        std::chrono::seconds(std::clamp<curl_off_t>(retry_after, 0, kMaxRetryAfterSeconds));
    return answer;
  }

  void GiveUpAt(Time when) override { give_up_at_ = when.time_since_epoch().count(); }

 private:
  void AddHeader(const std::string& line) { headers_ = curl_slist_append(headers_, line.c_str()); }

  // libcurl asks about once a second, whatever it waits for.
  static int Progress(void* self, curl_off_t, curl_off_t, curl_off_t, curl_off_t) {
    const int64_t limit = static_cast<CurlSender*>(self)->give_up_at_.load();
    return std::chrono::steady_clock::now().time_since_epoch().count() >= limit ? 1 : 0;
  }
  // Reads all, keeps the beginning.
  static size_t Receive(char* data, size_t, size_t size, void* body) {
    auto* out = static_cast<std::string*>(body);
    out->append(data, std::min(size, kMaxAnswerBytes - out->size()));
    return size;
  }

  std::atomic<int64_t> give_up_at_ = std::numeric_limits<int64_t>::max();
  CURL* const curl_;
  curl_slist* headers_ = nullptr;
};

}  // namespace

std::string OtlpAnswer::Reason() const {
  return failure.empty() ? StrCat("HTTP ", status) : failure;
}

std::unique_ptr<OtlpSender> MakeCurlSender(const OtlpOptions& options) {
  curl_global_init(CURL_GLOBAL_DEFAULT);
  return std::make_unique<CurlSender>(options);
}

}  // namespace trireme
