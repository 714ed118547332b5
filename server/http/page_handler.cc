// The built-in page. It holds no secret, so it needs no key; what it calls does.
#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/str_split.h"
#include "runtime/base/strings.h"
#include "server/http/routes.h"
#include "server/page/page.h"

namespace trireme::http {
namespace {

namespace asio = boost::asio;

constexpr std::string_view kFolder = "/page/";
// Nothing from elsewhere, nothing inline, nobody's frame.
constexpr std::string_view kPageHeaders =
    "Content-Security-Policy: default-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'\r\n"
    "X-Content-Type-Options: nosniff\r\n"
    "Referrer-Policy: no-referrer\r\n"
    "Cross-Origin-Opener-Policy: same-origin\r\n";

// RFC 9110, section 13.1.2: a list of tags, compared weakly.
bool Matches(std::string_view if_none_match, std::string_view etag) {
  for (absl::string_view tag : absl::StrSplit(ToAbsl(if_none_match), ',')) {
    tag = absl::StripAsciiWhitespace(tag);
    if (tag == "*") return true;
    if (absl::StartsWith(tag, "W/")) tag.remove_prefix(2);
    if (FromAbsl(tag) == etag) return true;
  }
  return false;
}

}  // namespace

asio::awaitable<void> HandlePage(Exchange& exchange) {
  const std::string_view path = exchange.request().path;
  const std::string_view name = path == "/" ? "index.html" : path.substr(kFolder.size());
  const PageFile* file = FindPageFile(name);
  if (file == nullptr) {
    const openai::ApiError unknown = openai::HttpError(404, "Unknown request URL.", "unknown_url");
    co_await exchange.RespondError(unknown);
    co_return;
  }
  // The names stay the same from version to version: a cached file is asked for again, cheaply.
  const std::string headers =
      StrCat(kPageHeaders, "Cache-Control: no-cache\r\nETag: ", file->etag, "\r\n");
  const bool unchanged = Matches(exchange.request().if_none_match, file->etag);
  const std::string_view body = unchanged ? "" : file->bytes;
  const std::string_view type = PageContentType(name);
  co_await exchange.Respond(unchanged ? 304 : 200, type, body, headers);
}

asio::awaitable<void> HandlePageConfig(Exchange& exchange) {
  const std::string body =
      StrCat("{\"key_required\":", exchange.context().keys->required() ? "true" : "false", "}");
  const std::string headers = StrCat(kPageHeaders, "Cache-Control: no-store\r\n");
  co_await exchange.Respond(200, kJson, body, headers);
}

}  // namespace trireme::http
