#include "server/http/routes.h"

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "runtime/base/strings.h"
#include "runtime/engine/refusals.h"

namespace trireme::http {
namespace {

using openai::FromStatus;
using openai::HttpError;

constexpr Route kRoutes[] = {
    {"GET", "/", "/", HandlePage, Needs::kNothing, /*routine=*/true},
    {"GET", "/page/config.json", "/page/config.json", HandlePageConfig, Needs::kNothing,
     /*routine=*/true},
    {"GET", "/page/", "/page/{file}", HandlePage, Needs::kNothing, /*routine=*/true},
    {"GET", "/health", "/health", HandleHealth, Needs::kNothing, /*routine=*/true},
    {"GET", "/ready", "/ready", HandleReady, Needs::kNothing, /*routine=*/true},
    {"GET", "/metrics", "/metrics", HandleMetrics, Needs::kKey, /*routine=*/true},
    {"GET", "/version", "/version", HandleVersion, Needs::kKey},
    {"GET", "/v1/models", "/v1/models", HandleModels},
    {"GET", "/v1/models/", "/v1/models/{id}", HandleModel},
    {"GET", "/v1/requests", "/v1/requests", HandleRequests},
    {"DELETE", "/v1/requests/", "/v1/requests/{id}", HandleCancelRequest},
    {"POST", "/v1/chat/completions", "/v1/chat/completions", HandleChatCompletions},
    {"POST", "/v1/completions", "/v1/completions", HandleCompletions},
    {"POST", "/tokenize", "/tokenize", HandleTokenize},
    {"POST", "/detokenize", "/detokenize", HandleDetokenize},
    {"GET", "/tokenizer_info", "/tokenizer_info", HandleTokenizerInfo},
};

bool IsJson(std::string_view content_type) {
  const std::string_view media_type =
      FromAbsl(absl::StripAsciiWhitespace(ToAbsl(content_type.substr(0, content_type.find(';')))));
  return absl::EqualsIgnoreCase(ToAbsl(media_type), kJson);
}

std::optional<Refusal> CheckKey(Exchange& exchange) {
  const HttpRequest& request = exchange.request();
  absl::StatusOr<Tenant> tenant =
      exchange.context().keys->AuthenticateCaller(request.authorization, request.api_key);
  if (!tenant.ok()) {
    exchange.set_key_refused();
    return Refusal{FromStatus(tenant.status())};
  }
  exchange.set_tenant(*std::move(tenant));
  return std::nullopt;
}

}  // namespace

const Route* FindRoute(std::string_view path, const HttpServerOptions& options) {
  for (const Route& route : kRoutes) {
    const bool prefix = route.path.ends_with('/') && route.path != "/";
    if (path != route.path && !(prefix && path.starts_with(route.path))) continue;
    const bool page = route.handler == HandlePage || route.handler == HandlePageConfig;
    return page && !options.page ? nullptr : &route;
  }
  return nullptr;
}

std::optional<Refusal> CheckHead(Exchange& exchange, const Route* route) {
  const HttpRequest& request = exchange.request();
  const bool open_metrics = !exchange.context().options.metrics_need_key;
  // Unknown paths need a key as well: strangers learn nothing about what exists here.
  const bool open = route != nullptr && (route->needs == Needs::kNothing ||
                                         (route->handler == HandleMetrics && open_metrics));
  if (!open) {
    if (std::optional<Refusal> refusal = CheckKey(exchange)) return refusal;
  }
  if (route == nullptr) return Refusal{HttpError(404, "Unknown request URL.", "unknown_url")};
  const bool get = route->method == "GET";
  if (request.method != route->method && !(get && request.method == "HEAD")) {
    return Refusal{
        HttpError(405, StrCat("This URL takes ", route->method, " only."), "method_not_allowed"),
        StrCat("Allow: ", get ? "GET, HEAD" : route->method, "\r\n")};
  }
  if (route->needs == Needs::kModel && exchange.context().node.load() == nullptr) {
    return Refusal{FromStatus(Loading())};
  }
  if (route->method != "POST") return std::nullopt;
  if (!request.content_type.empty() && !IsJson(request.content_type)) {
    return Refusal{HttpError(415, "The Content-Type must be application/json.")};
  }
  if (!request.content_encoding.empty() &&
      !absl::EqualsIgnoreCase(request.content_encoding, "identity")) {
    return Refusal{HttpError(415, "Compressed bodies are not accepted.")};
  }
  return std::nullopt;
}

}  // namespace trireme::http
