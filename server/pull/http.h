// HTTP(S) as pull needs it: GET and HEAD over libcurl, with redirects followed here so that what
// authenticates us never reaches another host.
//
// TLS is always verified; SSL_CERT_FILE and SSL_CERT_DIR replace the system's authorities, and
// https_proxy, no_proxy and the like are libcurl's. Sources: RFC 9110 (ranges, Retry-After), the
// documentation of CURLOPT_AWS_SIGV4.
#pragma once

#include <curl/curl.h>

#include <atomic>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"

namespace trireme::pull {

// Proves who we are to the origin (scheme, host, port) of a request's URL, and to no other.
struct Auth {
  std::vector<std::string> headers;  // "Authorization: Bearer ..."
  std::string sigv4;                 // CURLOPT_AWS_SIGV4: "aws:amz:REGION:s3"; empty: not signed
  std::string user_password;         // "ACCESS_KEY:SECRET_KEY" that it signs with
};

struct Request {
  std::string url;
  std::string method = "GET";        // GET, HEAD, PUT (without a body)
  std::vector<std::string> headers;  // to every host
  Auth auth;
  absl::Duration timeout = absl::Seconds(30);  // without a byte; to connect: at most 15 s
  bool direct = false;                         // past any proxy
  bool follow = true;                          // redirects; else one is the answer
  const std::atomic<bool>* stop = nullptr;     // once true, the transfer fails at once
};

struct ResponseHead {
  int status = 0;
  std::map<std::string, std::string> fields;  // names in lower case; of several, the last

  std::string Get(const std::string& name) const;  // empty when absent
};

// Takes the answer that is no redirect. A status that is not OK ends the transfer.
class Receiver {
 public:
  virtual ~Receiver() = default;
  virtual absl::Status OnHead(const ResponseHead& head) = 0;  // before the first byte of the body
  virtual absl::Status OnData(absl::Span<const char> data) = 0;
};

// The code (runtime/base/status.h) of an error that means: no way to the host.
inline constexpr char kUnreachableCode[] = "unreachable";

// How a transfer ended.
struct Result {
  absl::Status status;     // of the transport or the receiver. A 404 is OK here: see `head`
  bool retryable = false;  // the same request may succeed later
  absl::Duration retry_after = absl::ZeroDuration();  // what the server asked for
  ResponseHead head;
};

// One request on one libcurl handle, redirects included. Not thread-safe.
class Transfer {
 public:
  Transfer(Request request, Receiver* receiver);  // the receiver outlives it
  ~Transfer();
  Transfer(const Transfer&) = delete;
  Transfer& operator=(const Transfer&) = delete;

  // To run it: curl_easy_perform(handle()) or a multi handle, then Finished(). nullopt: a redirect
  // was followed, run it once more.
  CURL* handle() const { return handle_; }
  std::optional<Result> Finished(CURLcode code);

 private:
  static size_t HeaderCallback(char* data, size_t size, size_t count, void* self);
  static size_t WriteCallback(char* data, size_t size, size_t count, void* self);
  static int ProgressCallback(void* self, curl_off_t, curl_off_t, curl_off_t, curl_off_t);
  void SetUp();
  absl::Status Redirect();
  bool PassHead();
  bool IsFollowed() const;

  const Request request_;
  Receiver* const receiver_;
  CURL* const handle_;
  curl_slist* headers_ = nullptr;
  std::string url_;  // of this hop
  int hops_ = 0;
  size_t head_bytes_ = 0;
  bool head_passed_ = false;
  ResponseHead head_;
  char error_[CURL_ERROR_SIZE] = {};  // libcurl's words
  absl::Status status_;               // the receiver's, or a limit of ours
};

// "https://huggingface.co": scheme, host and port of a URL; empty when it is none.
std::string Origin(const std::string& url);
// A secret goes over https, or within this machine. FAILED_PRECONDITION names `secret` (a variable,
// or what it is), and `setting`, which is to name an https endpoint.
absl::Status RefuseInClear(const std::string& url, std::string_view secret,
                           std::string_view setting);
// Whether a URL's host is this machine (127.0.0.0/8, ::1, localhost).
bool IsLoopbackUrl(const std::string& url);

// The pause before attempt number `attempt` (1: the first retry): doubled each time from half a
// second to 30 s, a random half of it; not less than what the server asked for.
absl::Duration RetryPause(int attempt, absl::Duration retry_after);
// More than a server may ask for; beyond it the attempt fails.
inline constexpr absl::Duration kMaxRetryAfter = absl::Minutes(5);

struct Response {
  ResponseHead head;
  std::string body;
};

// Runs `request` in this thread, at most 1 + `retries` times while it may succeed later.
// RESOURCE_EXHAUSTED when the body is larger than `max_bytes`; UNAVAILABLE when the host cannot be
// reached; CANCELLED once `*stop`. Any status of HTTP is a response.
absl::StatusOr<Response> Fetch(const Request& request, size_t max_bytes, int retries,
                               const std::atomic<bool>* stop);

// The head of the answer; its body is not waited for.
absl::StatusOr<ResponseHead> FetchHead(const Request& request, int retries,
                                       const std::atomic<bool>* stop);

// What a status other than 2xx means, for people: "HTTP 403 (Forbidden)", and `hint`.
absl::Status HttpError(int status, std::string_view what, std::string_view hint = "");

}  // namespace trireme::pull
