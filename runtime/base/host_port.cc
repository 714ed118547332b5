#include "runtime/base/host_port.h"

#include <arpa/inet.h>

#include "runtime/base/strings.h"

namespace trireme {

std::string HostPort(std::string_view host, int port) {
  const bool v6 = host.find(':') != host.npos;
  return v6 ? StrCat("[", host, "]:", port) : StrCat(host, ":", port);
}

bool IsLoopback(const std::string& host) {
  in_addr v4;
  in6_addr v6;
  if (inet_pton(AF_INET, host.c_str(), &v4) == 1) return (ntohl(v4.s_addr) >> 24) == 127;
  if (inet_pton(AF_INET6, host.c_str(), &v6) == 1) return IN6_IS_ADDR_LOOPBACK(&v6);
  return host == "localhost";
}

}  // namespace trireme
