#include "runtime/base/host_port.h"

#include "runtime/base/strings.h"

namespace trireme {

std::string HostPort(std::string_view host, int port) {
  const bool v6 = host.find(':') != host.npos;
  return v6 ? StrCat("[", host, "]:", port) : StrCat(host, ":", port);
}

}  // namespace trireme
