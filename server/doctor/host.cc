#include "server/doctor/host.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <sys/socket.h>
#include <sys/timex.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <filesystem>
#include <memory>

#include "absl/strings/ascii.h"
#include "absl/strings/str_split.h"
#include "kernels/cpu/cpu_kernels.h"
#include "runtime/base/file.h"
#include "runtime/base/strings.h"

namespace trireme::doctor {
namespace {

constexpr size_t kMaxReadBytes = 16 << 20;  // /proc/cpuinfo of a large machine

std::optional<ClockState> AskClock() {
  timex state = {};
  const int result = adjtimex(&state);
  if (result < 0) return std::nullopt;
  return ClockState{result != TIME_ERROR && (state.status & STA_UNSYNC) == 0, state.maxerror};
}

absl::Status TryListen(const std::string& address, int port) {
  addrinfo hints = {};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
  addrinfo* list = nullptr;
  const int code = getaddrinfo(address.c_str(), std::to_string(port).c_str(), &hints, &list);
  if (code != 0) return absl::InvalidArgumentError(gai_strerror(code));
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> guard(list, freeaddrinfo);
  const int fd = socket(list->ai_family, list->ai_socktype | SOCK_CLOEXEC, list->ai_protocol);
  if (fd < 0) return absl::UnavailableError(ErrnoText(errno));
  const int on = 1;  // as the server does: a port in TIME_WAIT is free
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  const bool ok = bind(fd, list->ai_addr, list->ai_addrlen) == 0 && ::listen(fd, 1) == 0;
  const int error = errno;
  close(fd);
  return ok ? absl::OkStatus() : absl::UnavailableError(ErrnoText(error));
}

}  // namespace

Host ThisHost() {
  Host host;
  host.kernels = std::string(cpu::BestKernels().name);
  host.clock = AskClock;
  host.listen = TryListen;
  return host;
}

std::optional<std::string> Host::Read(const std::string& path) const {
  const auto text = ReadFile(root + path, kMaxReadBytes);
  return text.ok() ? std::optional<std::string>(absl::StripAsciiWhitespace(*text)) : std::nullopt;
}

std::optional<int64_t> Host::ReadNumber(const std::string& path) const {
  const auto text = Read(path);
  return text ? FirstNumber(*text) : std::nullopt;
}

std::vector<std::string> Host::List(const std::string& path) const {
  std::vector<std::string> names;
  std::error_code error;
  for (std::filesystem::directory_iterator it(root + path, error), end; !error && it != end;
       it.increment(error)) {
    names.push_back(it->path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

bool Host::Exists(const std::string& path) const {
  std::error_code error;
  return std::filesystem::exists(root + path, error);
}

std::optional<std::string> Field(std::string_view text, std::string_view key) {
  for (const absl::string_view line : absl::StrSplit(ToAbsl(text), '\n')) {
    const size_t colon = line.find(':');
    if (colon == line.npos) continue;
    if (absl::StripAsciiWhitespace(line.substr(0, colon)) == ToAbsl(key))
      return std::string(absl::StripAsciiWhitespace(line.substr(colon + 1)));
  }
  return std::nullopt;
}

std::optional<int64_t> FirstNumber(std::string_view text) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() ? std::optional(value) : std::nullopt;
}

}  // namespace trireme::doctor
