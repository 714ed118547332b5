// Where the load goes.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace trireme::loadgen {

struct Target {
  bool grpc = false;
  bool tls = false;
  std::string host;  // without the brackets of an IPv6 address
  int port = 0;
  std::string path;  // before /v1/..., HTTP only: "" or "/some/prefix"
  std::string url;   // as it was given

  std::string authority() const;  // "host:port", "[::1]:8000"
};

// http://HOST[:PORT][/PREFIX], https://, grpc://HOST:PORT, grpcs://. Without a port: 80 and 443. A
// prefix may end in /v1, as the base URLs of OpenAI's clients do.
absl::StatusOr<Target> ParseTarget(std::string_view url);

struct TargetOptions {
  std::string url;                // required
  std::string endpoint = "chat";  // "chat" or "completions"; HTTP only
  std::string model;              // empty: the first that the server names
  std::string api_key;
  std::string ca_file;  // PEM that TLS trusts in place of the system's
};

}  // namespace trireme::loadgen
