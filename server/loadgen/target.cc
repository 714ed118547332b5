#include "server/loadgen/target.h"

#include <algorithm>
#include <cctype>
#include <charconv>

#include "runtime/base/strings.h"

namespace trireme::loadgen {
namespace {

struct Scheme {
  std::string_view prefix;
  bool grpc, tls;
  int port;  // 0: must be given
};
constexpr Scheme kSchemes[] = {{"http://", false, false, 80},
                               {"https://", false, true, 443},
                               {"grpc://", true, false, 0},
                               {"grpcs://", true, true, 0}};

// Of names, IPv4 addresses and, with ':', IPv6 addresses: nothing that could end a header line.
bool IsHost(std::string_view host) {
  return !host.empty() && std::all_of(host.begin(), host.end(), [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '.' || c == '-' || c == '_' ||
           c == ':' || c == '%';
  });
}

absl::Status Refused(std::string_view url, std::string_view why) {
  return absl::InvalidArgumentError(
      StrCat("\"", Printable(url), "\": ", why,
             "; write http://HOST:PORT, https://HOST:PORT, grpc://HOST:PORT or grpcs://HOST:PORT"));
}

}  // namespace

std::string Target::authority() const {
  const bool v6 = host.find(':') != std::string::npos;
  return v6 ? StrCat("[", host, "]:", port) : StrCat(host, ":", port);
}

absl::StatusOr<Target> ParseTarget(std::string_view url) {
  const auto* scheme = std::find_if(std::begin(kSchemes), std::end(kSchemes),
                                    [&](const Scheme& s) { return url.starts_with(s.prefix); });
  if (scheme == std::end(kSchemes)) return Refused(url, "not a URL that bench knows");
  Target target{.grpc = scheme->grpc, .tls = scheme->tls, .url = std::string(url)};
  std::string_view rest = url.substr(scheme->prefix.size());
  std::string_view authority = rest.substr(0, rest.find('/'));
  std::string_view path = rest.substr(authority.size());

  std::string_view port;
  if (authority.starts_with('[')) {
    const size_t end = authority.find(']');
    if (end == std::string_view::npos) return Refused(url, "the address has no closing bracket");
    target.host = authority.substr(1, end - 1);
    port = authority.substr(end + 1);
    if (!port.empty() && port.front() != ':') return Refused(url, "the port is missing");
  } else {
    const size_t colon = authority.find(':');
    target.host = authority.substr(0, colon);
    port = colon == std::string_view::npos ? "" : authority.substr(colon);
  }
  if (!IsHost(target.host)) return Refused(url, "no host");
  target.port = scheme->port;
  if (!port.empty()) {
    const auto [end, error] =
        std::from_chars(port.data() + 1, port.data() + port.size(), target.port);
    if (error != std::errc() || end != port.data() + port.size()) target.port = -1;
  }
  if (target.port < 1 || target.port > 65535) return Refused(url, "no port from 1 to 65535");

  while (path.ends_with('/')) path.remove_suffix(1);
  if (path.ends_with("/v1")) path.remove_suffix(3);
  if (target.grpc && !path.empty()) return Refused(url, "a gRPC target has no path");
  if (std::any_of(path.begin(), path.end(), [](char c) { return c <= ' ' || c >= 0x7f; })) {
    return Refused(url, "the path has characters that need escapes");
  }
  target.path = path;
  return target;
}

}  // namespace trireme::loadgen
