// Addresses of sockets as text.
#pragma once

#include <string>
#include <string_view>

namespace trireme {

// "127.0.0.1:8000", "[::1]:8000": as URLs (RFC 3986) and gRPC write an address.
std::string HostPort(std::string_view host, int port);

// Whether nobody but this machine can reach what listens there: 127.0.0.0/8, ::1, "localhost".
bool IsLoopback(const std::string& host);

}  // namespace trireme
