#include "server/http/request_parser.h"

#include <algorithm>
#include <boost/asio/buffer.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "runtime/base/strings.h"

namespace trireme::http {
namespace {

namespace beast_http = boost::beast::http;
using openai::ApiError;
using openai::HttpError;
using Fields = beast_http::fields;

std::string_view View(boost::beast::string_view s) { return {s.data(), s.size()}; }

ApiError ToApiError(beast_http::error error) {
  switch (error) {
    case beast_http::error::header_limit:
      return HttpError(431, "The request head is too large.");
    case beast_http::error::body_limit:
      return HttpError(413, "The request body is too large.");
    case beast_http::error::bad_content_length:
    case beast_http::error::multiple_content_length:
      return HttpError(400, "Content-Length is malformed or contradicted.");
    case beast_http::error::bad_transfer_encoding:
      return HttpError(400, "Transfer-Encoding is malformed or contradicted.");
    case beast_http::error::bad_chunk:
    case beast_http::error::bad_chunk_extension:
      return HttpError(400, "The chunked body is malformed.");
    default:
      return HttpError(400, "The request is no valid HTTP.");
  }
}

// Whether the request line in `head` asks for a version of HTTP that is not spoken here. Beast says
// bad_version for a line that merely ends wrongly, too.
bool AsksForOtherVersion(std::string_view head) {
  std::string_view line = head.substr(0, head.find('\n'));
  if (line.ends_with('\r')) line.remove_suffix(1);
  const std::string_view version = line.substr(line.rfind(' ') + 1);
  return version.size() == 8 && version.starts_with("HTTP/") && version[6] == '.' &&
         absl::ascii_isdigit(version[5]) && absl::ascii_isdigit(version[7]) &&
         version != "HTTP/1.0" && version != "HTTP/1.1";
}

int Count(const Fields& fields, beast_http::field name) {
  return static_cast<int>(fields.count(name));
}

// The values of every header of this name.
std::vector<std::string_view> All(const Fields& fields, boost::beast::string_view name) {
  std::vector<std::string_view> values;
  const auto [begin, end] = fields.equal_range(name);
  for (auto field = begin; field != end; ++field) values.push_back(View(field->value()));
  return values;
}

// What Beast lets pass and a proxy in front may read differently (RFC 9112, sections 3.2, 6.1
// and 6.3).
std::optional<ApiError> CheckFraming(const beast_http::request<beast_http::string_body>& message) {
  using beast_http::field;
  if (Count(message, field::content_length) > 1)
    return HttpError(400, "More than one Content-Length.");
  const std::string_view length = View(message[field::content_length]);
  if (!std::all_of(length.begin(), length.end(), [](char c) { return c >= '0' && c <= '9'; })) {
    return HttpError(400, "Content-Length is no number.");  // "2, 2" included
  }
  const int encodings = Count(message, field::transfer_encoding);
  if (encodings > 0) {
    if (message.version() < 11) return HttpError(400, "HTTP/1.0 has no Transfer-Encoding.");
    if (message.count(field::content_length) > 0) {
      return HttpError(400, "Content-Length and Transfer-Encoding contradict each other.");
    }
    if (encodings > 1 || !boost::beast::iequals(message[field::transfer_encoding], "chunked")) {
      return HttpError(400, "The only Transfer-Encoding spoken here is chunked.");
    }
  }
  const int hosts = Count(message, field::host);
  if (hosts > 1 || (hosts == 0 && message.version() >= 11)) {
    return HttpError(400, "Exactly one Host header is needed.");
  }
  return std::nullopt;
}

// "/a?b", or the absolute form "http://host/a?b" that proxies send.
std::string_view OriginForm(std::string_view target) {
  for (const std::string_view scheme : {"http://", "https://"}) {
    if (!absl::StartsWithIgnoreCase(ToAbsl(target), ToAbsl(scheme))) continue;
    const size_t path = target.find('/', scheme.size());
    return path == std::string_view::npos ? "/" : target.substr(path);
  }
  return target;
}

int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

// Whether the line that begins a chunk with content is whole.
bool HasChunkLine(std::string_view rest) {
  if (rest.starts_with("\r\n")) rest.remove_prefix(2);  // the end of the chunk before
  const size_t digit = rest.find_first_not_of('0');
  return digit != std::string_view::npos && HexDigit(rest[digit]) >= 0 &&
         rest.find("\r\n") != std::string_view::npos;
}

}  // namespace

std::optional<std::string> PercentDecode(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      out += text[i];
      continue;
    }
    if (i + 2 >= text.size()) return std::nullopt;
    const int high = HexDigit(text[i + 1]), low = HexDigit(text[i + 2]);
    if (high < 0 || low < 0) return std::nullopt;
    out += static_cast<char>(high * 16 + low);
    i += 2;
  }
  return out;
}

struct RequestParser::Impl {
  beast_http::request_parser<beast_http::string_body> parser;
  size_t max_header_bytes;
  size_t head_bytes = 0;  // consumed until it is done
  HttpRequest head;
  bool head_done = false;

  std::optional<ApiError> FinishHead();
};

RequestParser::RequestParser(size_t max_header_bytes, size_t max_body_bytes)
    : impl_(std::make_unique<Impl>()) {
  impl_->max_header_bytes = max_header_bytes;
  impl_->parser.header_limit(static_cast<uint32_t>(max_header_bytes));
  impl_->parser.body_limit(max_body_bytes);
}

RequestParser::~RequestParser() = default;

bool RequestParser::head_done() const { return impl_->head_done; }
bool RequestParser::done() const { return impl_->head_done && impl_->parser.is_done(); }
size_t RequestParser::body_bytes() const { return impl_->parser.get().body().size(); }
HttpRequest RequestParser::TakeHead() { return std::move(impl_->head); }
std::string RequestParser::TakeBody() { return std::move(impl_->parser.get().body()); }

std::optional<ApiError> RequestParser::Impl::FinishHead() {
  using beast_http::field;
  const auto& message = parser.get();
  if (std::optional<ApiError> error = CheckFraming(message)) return error;
  const std::string_view target = OriginForm(View(message.target()));
  const size_t question = target.find('?');
  std::optional<std::string> path = PercentDecode(target.substr(0, question));
  if (!path) return HttpError(400, "The request URL is not percent-encoded correctly.");
  head.method = std::string(View(message.method_string()));
  head.path = *std::move(path);
  if (question != std::string_view::npos) head.query = std::string(target.substr(question + 1));
  head.http_1_1 = message.version() >= 11;
  head.keep_alive = message.keep_alive();
  head.expect_continue = boost::beast::iequals(message[field::expect], "100-continue");
  head.has_body = parser.chunked() || parser.content_length().value_or(0) > 0;
  head.request_id = std::string(View(message["x-request-id"]));
  head.authorization = std::string(View(message[field::authorization]));
  head.api_key = std::string(View(message["api-key"]));
  head.content_type = std::string(View(message[field::content_type]));
  head.content_encoding = std::string(View(message[field::content_encoding]));
  head.if_none_match = std::string(View(message[field::if_none_match]));
  head.trace = ParseTraceContext(All(message, "traceparent"), All(message, "tracestate"))
                   .value_or(TraceContext{});
  head_done = true;
  return std::nullopt;
}

std::optional<ApiError> RequestParser::Feed(std::string* input) {
  size_t consumed = 0;
  std::optional<ApiError> refused;
  while (!done()) {
    // Beast 1.81 takes the last chunk of an empty body for a mistake of its caller, and aborts
    // where assertions are on, when it comes again with less than the five bytes that it must have.
    const auto rest = std::string_view(*input).substr(consumed);
    if (impl_->head_done && impl_->parser.chunked() && rest.size() < 5 && rest.starts_with('0') &&
        rest.find("\r\n") != std::string_view::npos) {
      break;
    }
    boost::beast::error_code error;
    const size_t n = impl_->parser.put(
        boost::asio::buffer(input->data() + consumed, input->size() - consumed), error);
    consumed += n;
    if (!impl_->head_done) impl_->head_bytes += n;
    if (error == beast_http::error::need_more) {
      // Beast 1.81 takes the end of the line for part of an extension's open quotes, and the chunk
      // off the body's limit again and again.
      if (impl_->head_done && impl_->parser.chunked() &&
          HasChunkLine(std::string_view(*input).substr(consumed))) {
        refused = ToApiError(beast_http::error::bad_chunk_extension);
        break;
      }
      // A chunk header or trailer without end would otherwise grow the input for ever.
      const size_t bytes = input->size() - consumed + (impl_->head_done ? 0 : impl_->head_bytes);
      if (bytes >= impl_->max_header_bytes) {
        refused = HttpError(impl_->head_done ? 400 : 431, "The request head is too large.");
      }
      break;
    }
    if (error == beast_http::error::bad_version &&
        AsksForOtherVersion(std::string_view(*input).substr(consumed))) {
      refused = HttpError(505, "Only HTTP/1.0 and 1.1 are spoken here.");
      break;
    }
    if (error) {
      refused = ToApiError(static_cast<beast_http::error>(error.value()));
      break;
    }
    if (!impl_->head_done && impl_->parser.is_header_done()) {
      // Beast's own limit leaves the request line out.
      refused = impl_->head_bytes > impl_->max_header_bytes
                    ? HttpError(431, "The request head is too large.")
                    : impl_->FinishHead();
      impl_->parser.eager(true);
      break;
    }
    if (n == 0 || consumed == input->size()) break;
  }
  input->erase(0, consumed);
  return refused;
}

}  // namespace trireme::http
