#include "server/pull/http.h"

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <ctime>
#include <functional>
#include <random>

#include "absl/strings/ascii.h"
#include "absl/time/clock.h"
#include "runtime/base/status.h"
#include "runtime/base/strings.h"
#include "runtime/base/version.h"

namespace trireme::pull {
namespace {

constexpr int kMaxRedirects = 5;
constexpr size_t kMaxHeadBytes = 256 << 10;
constexpr size_t kMaxMessageBytes = 512;
constexpr long kMaxConnectSeconds = 15;
constexpr absl::Duration kFirstPause = absl::Milliseconds(500), kLastPause = absl::Seconds(30);

void InitCurlOnce() {
  static const CURLcode once = curl_global_init(CURL_GLOBAL_DEFAULT);
  (void)once;
}

std::string UrlPart(const std::string& url, CURLUPart part) {
  std::string out;
  CURLU* parsed = curl_url();
  char* text = nullptr;
  if (curl_url_set(parsed, CURLUPART_URL, url.c_str(), 0) == CURLUE_OK &&
      curl_url_get(parsed, part, &text, CURLU_DEFAULT_PORT) == CURLUE_OK) {
    out = text;
    curl_free(text);
  }
  curl_url_cleanup(parsed);
  return out;
}

bool IsRedirect(int status) {
  return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

bool IsRetryable(CURLcode code) {
  switch (code) {
    case CURLE_COULDNT_CONNECT:
    case CURLE_OPERATION_TIMEDOUT:
    case CURLE_PARTIAL_FILE:
    case CURLE_RECV_ERROR:
    case CURLE_SEND_ERROR:
    case CURLE_GOT_NOTHING:
    case CURLE_SSL_CONNECT_ERROR:
      return true;
    default:
      return false;
  }
}

bool IsRetryable(int status) {
  return status == 408 || status == 425 || status == 429 || status == 500 || status == 502 ||
         status == 503 || status == 504;
}

// Seconds, or a date (RFC 9110, 10.2.3).
absl::Duration RetryAfter(const ResponseHead& head) {
  const std::string text = head.Get("retry-after");
  int64_t seconds = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), seconds);
  if (error == std::errc() && end == text.data() + text.size() && !text.empty())
    return absl::Seconds(std::clamp<int64_t>(seconds, 0, 1 << 30));
  const time_t date = curl_getdate(text.c_str(), nullptr);
  if (date < 0) return absl::ZeroDuration();
  return std::max(absl::ZeroDuration(), absl::FromTimeT(date) - absl::Now());
}

// Pauses in small steps, so that a signal ends it.
bool Sleep(absl::Duration pause, const std::atomic<bool>* stop) {
  const absl::Time end = absl::Now() + pause;
  while (absl::Now() < end && !*stop)
    absl::SleepFor(std::min(absl::Milliseconds(50), end - absl::Now()));
  return !*stop;
}

// Hangs up once the head is there.
class HeadReceiver : public Receiver {
 public:
  absl::Status OnHead(const ResponseHead&) override { return absl::OkStatus(); }
  absl::Status OnData(absl::Span<const char>) override { return absl::CancelledError("head only"); }
};

class BodyReceiver : public Receiver {
 public:
  explicit BodyReceiver(size_t max_bytes) : max_bytes_(max_bytes) {}
  absl::Status OnHead(const ResponseHead&) override { return absl::OkStatus(); }
  absl::Status OnData(absl::Span<const char> data) override {
    if (body.size() + data.size() > max_bytes_) {
      return absl::ResourceExhaustedError(
          StrCat("the answer is larger than the ", max_bytes_, " bytes that are accepted"));
    }
    body.append(data.data(), data.size());
    return absl::OkStatus();
  }
  std::string body;

 private:
  const size_t max_bytes_;
};

// Runs `request`, again while it may succeed later, each time into what `make` returns.
absl::StatusOr<Result> Run(Request request, const std::function<Receiver*()>& make, int retries,
                           const std::atomic<bool>* stop) {
  request.stop = stop;
  for (int attempt = 1;; ++attempt) {
    Transfer transfer(request, make());
    std::optional<Result> result;
    while (!result) result = transfer.Finished(curl_easy_perform(transfer.handle()));
    if (*stop) return absl::CancelledError("interrupted");
    const bool again =
        result->retryable && attempt <= retries && result->retry_after <= kMaxRetryAfter;
    if (!again) return *std::move(result);
    if (!Sleep(RetryPause(attempt, result->retry_after), stop))
      return absl::CancelledError("interrupted");
  }
}

}  // namespace

std::string ResponseHead::Get(const std::string& name) const {
  const auto found = fields.find(name);
  return found == fields.end() ? "" : found->second;
}

std::string Origin(const std::string& url) {
  const std::string host = UrlPart(url, CURLUPART_HOST);
  if (host.empty()) return "";
  return StrCat(UrlPart(url, CURLUPART_SCHEME), "://", absl::AsciiStrToLower(ToAbsl(host)), ":",
                UrlPart(url, CURLUPART_PORT));
}

bool IsLoopbackUrl(const std::string& url) {
  const std::string host = UrlPart(url, CURLUPART_HOST);
  return host == "localhost" || host == "[::1]" ||
         (host.starts_with("127.") && host.find_first_not_of("0123456789.") == std::string::npos);
}

absl::Status RefuseInClear(const std::string& url, std::string_view secret,
                           std::string_view setting) {
  const std::string origin = Origin(url);
  if (origin.starts_with("https://") || IsLoopbackUrl(url)) return absl::OkStatus();
  return absl::FailedPreconditionError(StrCat(secret, " is not sent over ", origin,
                                              ", where others can read it: use https in ", setting,
                                              ", or unset ", secret));
}

Transfer::Transfer(Request request, Receiver* receiver)
    : request_(std::move(request)),
      receiver_(receiver),
      handle_((InitCurlOnce(), curl_easy_init())),
      url_(request_.url) {
  SetUp();
}

Transfer::~Transfer() {
  curl_easy_cleanup(handle_);
  curl_slist_free_all(headers_);
}

void Transfer::SetUp() {
  curl_easy_reset(handle_);
  curl_slist_free_all(headers_);
  headers_ = nullptr;
  head_ = {};
  head_bytes_ = 0;
  head_passed_ = false;
  const auto add = [&](const std::string& line) {
    headers_ = curl_slist_append(headers_, line.c_str());
  };
  for (const std::string& line : request_.headers) add(line);
  if (Origin(url_) == Origin(request_.url)) {
    for (const std::string& line : request_.auth.headers) add(line);
    if (!request_.auth.sigv4.empty()) {
      curl_easy_setopt(handle_, CURLOPT_AWS_SIGV4, request_.auth.sigv4.c_str());
      curl_easy_setopt(handle_, CURLOPT_USERPWD, request_.auth.user_password.c_str());
    }
  }
  curl_easy_setopt(handle_, CURLOPT_URL, url_.c_str());
  curl_easy_setopt(handle_, CURLOPT_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(handle_, CURLOPT_FOLLOWLOCATION, 0L);
  // One range, one connection: HTTP/2 would put them all on the same.
  curl_easy_setopt(handle_, CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_1_1));
  if (request_.method == "HEAD") {
    curl_easy_setopt(handle_, CURLOPT_NOBODY, 1L);
  } else if (request_.method != "GET") {
    curl_easy_setopt(handle_, CURLOPT_CUSTOMREQUEST, request_.method.c_str());
  }
  curl_easy_setopt(handle_, CURLOPT_HTTPHEADER, headers_);
  static const std::string agent = StrCat("trireme/", kVersion);
  curl_easy_setopt(handle_, CURLOPT_USERAGENT, agent.c_str());
  curl_easy_setopt(handle_, CURLOPT_NOSIGNAL, 1L);
  const auto seconds =
      static_cast<long>(std::max<int64_t>(1, absl::ToInt64Seconds(request_.timeout)));
  curl_easy_setopt(handle_, CURLOPT_CONNECTTIMEOUT, std::min(seconds, kMaxConnectSeconds));
  curl_easy_setopt(handle_, CURLOPT_LOW_SPEED_LIMIT, 1L);
  curl_easy_setopt(handle_, CURLOPT_LOW_SPEED_TIME, seconds);
  if (request_.direct) curl_easy_setopt(handle_, CURLOPT_PROXY, "");
  // NOLINTBEGIN(concurrency-mt-unsafe): nothing changes the environment
  if (const char* file = std::getenv("SSL_CERT_FILE"); file != nullptr && *file != '\0')
    curl_easy_setopt(handle_, CURLOPT_CAINFO, file);
  if (const char* folder = std::getenv("SSL_CERT_DIR"); folder != nullptr && *folder != '\0')
    curl_easy_setopt(handle_, CURLOPT_CAPATH, folder);
  // NOLINTEND(concurrency-mt-unsafe)
  curl_easy_setopt(handle_, CURLOPT_HEADERFUNCTION, HeaderCallback);
  curl_easy_setopt(handle_, CURLOPT_HEADERDATA, this);
  curl_easy_setopt(handle_, CURLOPT_WRITEFUNCTION, WriteCallback);
  curl_easy_setopt(handle_, CURLOPT_WRITEDATA, this);
  if (request_.stop != nullptr) {
    curl_easy_setopt(handle_, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(handle_, CURLOPT_XFERINFOFUNCTION, ProgressCallback);
    curl_easy_setopt(handle_, CURLOPT_XFERINFODATA, this);
  }
  error_[0] = '\0';
  curl_easy_setopt(handle_, CURLOPT_ERRORBUFFER, error_);
  curl_easy_setopt(handle_, CURLOPT_PRIVATE, this);
}

size_t Transfer::HeaderCallback(char* data, size_t size, size_t count, void* self) {
  auto& transfer = *static_cast<Transfer*>(self);
  const std::string_view line(data, size * count);
  transfer.head_bytes_ += line.size();
  if (transfer.head_bytes_ > kMaxHeadBytes) {
    transfer.status_ = absl::ResourceExhaustedError("the answer's header fields are too large");
    return 0;
  }
  if (line.starts_with("HTTP/")) {  // the head of an interim answer (100) gives way
    transfer.head_.fields.clear();
  } else if (const size_t colon = line.find(':'); colon != line.npos) {
    transfer.head_.fields[absl::AsciiStrToLower(ToAbsl(line.substr(0, colon)))] =
        std::string(absl::StripAsciiWhitespace(ToAbsl(line.substr(colon + 1))));
  }
  return line.size();
}

// libcurl calls it about once a second also while it connects or waits.
int Transfer::ProgressCallback(void* self, curl_off_t, curl_off_t, curl_off_t, curl_off_t) {
  return *static_cast<Transfer*>(self)->request_.stop ? 1 : 0;
}

bool Transfer::IsFollowed() const {
  return request_.follow && IsRedirect(head_.status) && !head_.Get("location").empty();
}

bool Transfer::PassHead() {
  if (head_passed_) return status_.ok();
  head_passed_ = true;
  status_ = receiver_->OnHead(head_);
  return status_.ok();
}

size_t Transfer::WriteCallback(char* data, size_t size, size_t count, void* self) {
  auto& transfer = *static_cast<Transfer*>(self);
  const size_t bytes = size * count;
  long status = 0;
  curl_easy_getinfo(transfer.handle_, CURLINFO_RESPONSE_CODE, &status);
  transfer.head_.status = static_cast<int>(status);
  // The body of a redirect interests nobody: a long one is cut off.
  if (transfer.IsFollowed()) {
    transfer.head_bytes_ += bytes;
    return transfer.head_bytes_ > kMaxHeadBytes ? 0 : bytes;
  }
  if (!transfer.PassHead()) return 0;
  transfer.status_ = transfer.receiver_->OnData({data, bytes});
  return transfer.status_.ok() ? bytes : 0;
}

absl::Status Transfer::Redirect() {
  char* location = nullptr;
  curl_easy_getinfo(handle_, CURLINFO_REDIRECT_URL, &location);
  const std::string target = location == nullptr ? "" : location;
  const std::string scheme = UrlPart(target, CURLUPART_SCHEME);
  if (++hops_ > kMaxRedirects) {
    return absl::FailedPreconditionError(
        StrCat("more than ", kMaxRedirects, " redirects: the server sends us in circles"));
  }
  if (scheme != "https" && !(scheme == "http" && url_.starts_with("http://"))) {
    return absl::FailedPreconditionError(
        StrCat("the server redirects from https to \"", Printable(scheme), "\": not followed"));
  }
  url_ = target;
  return absl::OkStatus();
}

std::optional<Result> Transfer::Finished(CURLcode code) {
  long status = 0;
  curl_easy_getinfo(handle_, CURLINFO_RESPONSE_CODE, &status);
  head_.status = static_cast<int>(status);
  const bool cut_off = code == CURLE_WRITE_ERROR && status_.ok();
  if ((code == CURLE_OK || cut_off) && IsFollowed()) {
    if (absl::Status followed = Redirect(); !followed.ok()) return Result{followed, false};
    SetUp();
    return std::nullopt;
  }
  if (code == CURLE_OK) PassHead();  // an answer without a body
  Result result = {status_, false, absl::ZeroDuration(), head_};
  if (!status_.ok()) return result;
  if (code != CURLE_OK) {
    const bool unreachable = code == CURLE_COULDNT_RESOLVE_HOST || code == CURLE_COULDNT_CONNECT ||
                             code == CURLE_COULDNT_RESOLVE_PROXY ||
                             (code == CURLE_OPERATION_TIMEDOUT && head_bytes_ == 0);
    const std::string message =
        Printable(StrCat(Origin(url_), ": ", error_[0] != '\0' ? error_ : curl_easy_strerror(code)),
                  kMaxMessageBytes);
    result.status = unreachable ? WithCode(absl::UnavailableError(message), kUnreachableCode)
                                : absl::UnknownError(message);
    result.retryable = IsRetryable(code);
    return result;
  }
  result.retryable = IsRetryable(head_.status);
  if (result.retryable) result.retry_after = RetryAfter(head_);
  return result;
}

absl::Duration RetryPause(int attempt, absl::Duration retry_after) {
  thread_local std::minstd_rand random(std::random_device{}());
  const absl::Duration full =
      std::min(kLastPause, kFirstPause * (int64_t{1} << std::clamp(attempt - 1, 0, 16)));
  const double share = std::uniform_real_distribution<double>(0.5, 1)(random);
  return std::max(retry_after, full * share);
}

absl::StatusOr<Response> Fetch(const Request& request, size_t max_bytes, int retries,
                               const std::atomic<bool>* stop) {
  std::unique_ptr<BodyReceiver> body;
  const auto make = [&]() -> Receiver* {
    body = std::make_unique<BodyReceiver>(max_bytes);
    return body.get();
  };
  TRIREME_ASSIGN_OR_RETURN(Result result, Run(request, make, retries, stop));
  if (!result.status.ok()) return result.status;
  return Response{std::move(result.head), std::move(body->body)};
}

absl::StatusOr<ResponseHead> FetchHead(const Request& request, int retries,
                                       const std::atomic<bool>* stop) {
  HeadReceiver receiver;
  TRIREME_ASSIGN_OR_RETURN(Result result, Run(
                                              request, [&] { return &receiver; }, retries, stop));
  if (!result.status.ok() && !absl::IsCancelled(result.status)) return result.status;
  return std::move(result.head);
}

absl::Status HttpError(int status, std::string_view what, std::string_view hint) {
  std::string message = StrCat(what, ": HTTP ", status);
  const char* meaning = status == 401   ? "not authenticated"
                        : status == 403 ? "not allowed"
                        : status == 404 ? "not found"
                        : status == 429 ? "too many requests"
                        : status >= 500 ? "the server failed"
                                        : "";
  if (*meaning != '\0') StrAppend(&message, " (", meaning, ")");
  if (!hint.empty()) StrAppend(&message, ": ", hint);
  if (status == 401 || status == 403) return absl::PermissionDeniedError(message);
  return status == 404 ? absl::NotFoundError(message) : absl::UnavailableError(message);
}

}  // namespace trireme::pull
