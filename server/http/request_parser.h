// Bytes to one HTTP request, incrementally, with every framing attack refused. No sockets: Beast's
// parser inside, plus the checks that it leaves to its user. Internal to server/http.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "server/dialects/openai/errors.h"
#include "server/observe/trace_context.h"

namespace trireme::http {

struct HttpRequest {
  std::string method;    // as sent; case-sensitive
  std::string path;      // percent-decoded, without the query
  std::string query;     // as sent, without '?'
  bool http_1_1 = true;  // else HTTP/1.0
  bool keep_alive = true;
  bool expect_continue = false;
  bool has_body = false;  // Content-Length above 0, or chunked
  std::string request_id, authorization, api_key, content_type, content_encoding,
      if_none_match;   // headers; empty: absent
  TraceContext trace;  // of traceparent and tracestate; without an id when there is none
  std::string body;
};

class RequestParser {
 public:
  RequestParser(size_t max_header_bytes, size_t max_body_bytes);
  ~RequestParser();

  // Takes from `input` what belongs to this request and has arrived; bytes of the next one stay.
  // Stops once when the head is complete, so that the caller may refuse it before the body; call
  // again to go on. An error is final and leaves framing unknown: answer it and close.
  std::optional<openai::ApiError> Feed(std::string* input);

  bool head_done() const;
  bool done() const;
  size_t body_bytes() const;  // received so far
  // What was read; the head fields once head_done(), the body once done(). Call each once.
  HttpRequest TakeHead();
  std::string TakeBody();

 private:
  struct Impl;
  const std::unique_ptr<Impl> impl_;
};

// Percent-decoding of a path; nullopt for '%' without two hexadecimal digits.
std::optional<std::string> PercentDecode(std::string_view text);

}  // namespace trireme::http
