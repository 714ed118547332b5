#include "server/observe/otlp_exporter.h"

#include <curl/curl.h>

#include <algorithm>
#include <atomic>
#include <boost/json.hpp>
#include <charconv>
#include <chrono>
#include <cmath>
#include <condition_variable>
#include <deque>
#include <limits>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "runtime/base/check.h"
#include "runtime/base/log.h"
#include "runtime/base/strings.h"
#include "server/observe/otlp_encoder.h"

namespace trireme {
namespace {

using SteadyTime = std::chrono::steady_clock::time_point;
using Batch = std::vector<std::shared_ptr<const FinishedRequest>>;

constexpr size_t kMaxAnswerBytes = 64 << 10;
constexpr auto kFirstBackoff = std::chrono::milliseconds(500);
constexpr auto kLongestBackoff = std::chrono::seconds(15);
constexpr long kConnectTimeoutMs = 5000;

SteadyTime Now() { return std::chrono::steady_clock::now(); }

struct Answer {
  CURLcode transport = CURLE_OK;
  long status = 0;  // HTTP's; 0: none
  std::chrono::seconds retry_after{0};
  std::string body;

  bool ok() const { return status >= 200 && status < 300; }
  bool retryable() const {
    if (transport != CURLE_OK) return transport != CURLE_ABORTED_BY_CALLBACK;
    return status == 429 || status == 502 || status == 503 || status == 504;
  }
  std::string Reason() const {
    return transport != CURLE_OK ? curl_easy_strerror(transport) : StrCat("HTTP ", status);
  }
};

// One connection to the collector, kept alive between batches. One thread.
class Sender {
 public:
  // `give_up_at`: nanoseconds of the steady clock; what is under way then is aborted.
  Sender(const OtlpOptions& options, const std::atomic<int64_t>* give_up_at)
      : give_up_at_(give_up_at), curl_(curl_easy_init()) {
    TRIREME_CHECK(curl_ != nullptr);
    AddHeader("Content-Type: application/json");
    AddHeader("Expect:");  // no round trip before the body
    for (const auto& [name, value] : options.headers) AddHeader(StrCat(name, ": ", value));
    curl_easy_setopt(curl_, CURLOPT_URL, options.url.c_str());
    curl_easy_setopt(curl_, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl_, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl_, CURLOPT_POST, 1L);
    curl_easy_setopt(curl_, CURLOPT_HTTPHEADER, headers_);
    curl_easy_setopt(curl_, CURLOPT_CONNECTTIMEOUT_MS, kConnectTimeoutMs);
    curl_easy_setopt(curl_, CURLOPT_TIMEOUT_MS,
                     static_cast<long>(absl::ToInt64Milliseconds(OtlpExporter::kRequestTimeout)));
    curl_easy_setopt(curl_, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(curl_, CURLOPT_XFERINFOFUNCTION, &Sender::Progress);
    curl_easy_setopt(curl_, CURLOPT_XFERINFODATA, this);
    curl_easy_setopt(curl_, CURLOPT_WRITEFUNCTION, &Sender::Receive);
  }
  ~Sender() {
    curl_easy_cleanup(curl_);
    curl_slist_free_all(headers_);
  }
  Sender(const Sender&) = delete;
  Sender& operator=(const Sender&) = delete;

  Answer Post(const std::string& body) {
    Answer answer;
    curl_easy_setopt(curl_, CURLOPT_POSTFIELDS, body.data());
    curl_easy_setopt(curl_, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(body.size()));
    curl_easy_setopt(curl_, CURLOPT_WRITEDATA, &answer.body);
    answer.transport = curl_easy_perform(curl_);
    curl_off_t retry_after = 0;
    curl_easy_getinfo(curl_, CURLINFO_RESPONSE_CODE, &answer.status);
    curl_easy_getinfo(curl_, CURLINFO_RETRY_AFTER, &retry_after);
    answer.retry_after = std::chrono::seconds(std::clamp<curl_off_t>(retry_after, 0, 3600));
    return answer;
  }

 private:
  void AddHeader(const std::string& line) { headers_ = curl_slist_append(headers_, line.c_str()); }

  static int Progress(void* self, curl_off_t, curl_off_t, curl_off_t, curl_off_t) {
    const int64_t limit = static_cast<Sender*>(self)->give_up_at_->load();
    return Now().time_since_epoch().count() >= limit ? 1 : 0;
  }
  // Reads all, keeps the beginning.
  static size_t Receive(char* data, size_t, size_t size, void* body) {
    auto* out = static_cast<std::string*>(body);
    out->append(data, std::min(size, kMaxAnswerBytes - out->size()));
    return size;
  }

  const std::atomic<int64_t>* const give_up_at_;
  CURL* const curl_;
  curl_slist* headers_ = nullptr;
};

// ExportTracePartialSuccess.rejected_spans of a 200; a string or a number.
int64_t RejectedSpans(const std::string& body) {
  boost::system::error_code error;
  const boost::json::value parsed = boost::json::parse(body, error);
  if (error || !parsed.is_object()) return 0;
  const boost::json::value* partial = parsed.as_object().if_contains("partialSuccess");
  if (partial == nullptr || !partial->is_object()) return 0;
  const boost::json::value* rejected = partial->as_object().if_contains("rejectedSpans");
  if (rejected == nullptr) return 0;
  if (rejected->is_int64()) return rejected->as_int64();
  int64_t count = 0;
  if (const boost::json::string* text = rejected->if_string()) {
    std::from_chars(text->data(), text->data() + text->size(), count);
  }
  return count;
}

}  // namespace

struct OtlpExporter::State {
  State(OtlpOptions otlp_options, DropCounter drop_counter)
      : options(std::move(otlp_options)), dropped(std::move(drop_counter)) {}

  void Run();
  Batch Take(std::unique_lock<std::mutex>& lock);
  void Send(Sender& sender, const Batch& batch);
  bool Pause(std::chrono::nanoseconds duration);
  void NoteHealth(bool ok, const std::string& reason);
  void Lose(size_t requests) { dropped(static_cast<int64_t>(requests)); }

  const OtlpOptions options;
  const DropCounter dropped;
  std::minstd_rand jitter{std::random_device{}()};  // the thread's
  bool failing = false;                             // the thread's
  std::atomic<int64_t> give_up_at = std::numeric_limits<int64_t>::max();

  std::mutex mu;
  std::condition_variable changed;
  // Guarded by mu.
  std::deque<std::shared_ptr<const FinishedRequest>> queue;
  bool closing = false;
  std::thread thread;
};

// Waits for a full batch, or for the first of it to be old enough. Empty: closing, and all is sent.
Batch OtlpExporter::State::Take(std::unique_lock<std::mutex>& lock) {
  changed.wait(lock, [this] { return closing || !queue.empty(); });
  changed.wait_for(lock, absl::ToChronoNanoseconds(options.delay),
                   [this] { return closing || queue.size() >= options.max_batch; });
  Batch batch;
  while (!queue.empty() && batch.size() < options.max_batch) {
    batch.push_back(std::move(queue.front()));
    queue.pop_front();
  }
  return batch;
}

void OtlpExporter::State::Run() {
  Sender sender(options, &give_up_at);
  for (;;) {
    std::unique_lock lock(mu);
    const Batch batch = Take(lock);
    lock.unlock();
    if (batch.empty()) return;
    Send(sender, batch);
  }
}

void OtlpExporter::State::Send(Sender& sender, const Batch& batch) {
  const std::string body = EncodeTraces(options.resource, batch);
  const SteadyTime end = Now() + absl::ToChronoNanoseconds(kMaxRetryTime);
  std::chrono::nanoseconds backoff = kFirstBackoff;
  for (;;) {
    const Answer answer = sender.Post(body);
    NoteHealth(answer.ok(), answer.Reason());
    if (answer.ok()) {
      if (const int64_t rejected = RejectedSpans(answer.body); rejected > 0) {
        Log(LogLevel::kWarning, "the trace collector rejected spans", {{"spans", rejected}});
      }
      return;
    }
    const double spread = std::uniform_real_distribution<double>(0.8, 1.2)(jitter);
    const auto wait = std::max<std::chrono::nanoseconds>(
        answer.retry_after,
        std::chrono::nanoseconds(std::llround(static_cast<double>(backoff.count()) * spread)));
    if (!answer.retryable() || Now() + wait >= end || !Pause(wait)) break;
    backoff = std::min<std::chrono::nanoseconds>(2 * backoff, kLongestBackoff);
  }
  Lose(batch.size());
}

// False when there is no time left for it.
bool OtlpExporter::State::Pause(std::chrono::nanoseconds duration) {
  const SteadyTime until = Now() + duration;
  std::unique_lock lock(mu);
  const auto hopeless = [&] { return until.time_since_epoch().count() >= give_up_at.load(); };
  changed.wait_until(lock, until, hopeless);
  return !hopeless();
}

// Says once that the collector fails, and once that it is back.
void OtlpExporter::State::NoteHealth(bool ok, const std::string& reason) {
  if (failing == !ok) return;
  failing = !ok;
  if (ok) {
    Log(LogLevel::kInfo, "traces are exported again");
  } else {
    Log(LogLevel::kWarning, "traces cannot be exported", {{"reason", reason}});
  }
}

OtlpExporter::OtlpExporter(OtlpOptions options, DropCounter dropped)
    : state_(std::make_unique<State>(std::move(options), std::move(dropped))) {
  curl_global_init(CURL_GLOBAL_DEFAULT);
  state_->thread = std::thread([state = state_.get()] { state->Run(); });
}

OtlpExporter::~OtlpExporter() { Close(absl::ZeroDuration()); }

void OtlpExporter::OnRequest(std::shared_ptr<const FinishedRequest> request) {
  {
    std::lock_guard lock(state_->mu);
    if (!state_->closing && state_->queue.size() < state_->options.max_queued) {
      state_->queue.push_back(std::move(request));
      state_->changed.notify_one();
      return;
    }
  }
  state_->Lose(1);
}

void OtlpExporter::Close(absl::Duration patience) {
  {
    std::lock_guard lock(state_->mu);
    if (std::exchange(state_->closing, true)) return;
    const SteadyTime limit = Now() + absl::ToChronoNanoseconds(patience);
    state_->give_up_at = limit.time_since_epoch().count();
    state_->changed.notify_all();
  }
  state_->thread.join();
}

}  // namespace trireme
