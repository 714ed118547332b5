// Which handler answers which path, and what must hold before the body is read. Internal to
// server/http.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "server/http/exchange.h"

namespace trireme::http {

using Handler = boost::asio::awaitable<void> (*)(Exchange&);

// What must be there before a handler is called.
enum class Needs {
  kNothing,
  kKey,
  kModel,  // loaded; and the key
};

struct Route {
  std::string_view method;  // GET (serves HEAD too), POST or DELETE
  std::string_view path;    // ending in '/': a prefix with something behind it
  std::string_view label;   // of metrics
  Handler handler;
  Needs needs = Needs::kModel;
  bool routine = false;  // see FinishedRequest
};

// Null when the path is none of ours.
const Route* FindRoute(std::string_view path, const HttpServerOptions& options);

struct Refusal {
  openai::ApiError error;
  std::string extra_headers;
};
// Everything that the head alone decides: key, path, method, media type. Sets the exchange's
// tenant.
std::optional<Refusal> CheckHead(Exchange& exchange, const Route* route);

// Handlers. In info_handlers.cc:
boost::asio::awaitable<void> HandleHealth(Exchange& exchange);
boost::asio::awaitable<void> HandleReady(Exchange& exchange);
boost::asio::awaitable<void> HandleVersion(Exchange& exchange);
boost::asio::awaitable<void> HandleMetrics(Exchange& exchange);
boost::asio::awaitable<void> HandleModels(Exchange& exchange);
boost::asio::awaitable<void> HandleModel(Exchange& exchange);
boost::asio::awaitable<void> HandleTokenizerInfo(Exchange& exchange);
boost::asio::awaitable<void> HandleTokenize(Exchange& exchange);
boost::asio::awaitable<void> HandleDetokenize(Exchange& exchange);
boost::asio::awaitable<void> HandleRequests(Exchange& exchange);
boost::asio::awaitable<void> HandleCancelRequest(Exchange& exchange);
// In page_handler.cc:
boost::asio::awaitable<void> HandlePage(Exchange& exchange);
boost::asio::awaitable<void> HandlePageConfig(Exchange& exchange);
// In generate_handler.cc:
boost::asio::awaitable<void> HandleChatCompletions(Exchange& exchange);
boost::asio::awaitable<void> HandleCompletions(Exchange& exchange);

}  // namespace trireme::http
