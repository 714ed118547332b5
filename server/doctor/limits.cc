// Limits of the process, clock and ports. Sources: proc(5), adjtimex(2).
#include "absl/strings/str_split.h"
#include "runtime/base/host_port.h"
#include "runtime/base/strings.h"
#include "server/doctor/doctor.h"

namespace trireme::doctor {
namespace {

constexpr int64_t kOtherFiles = 256;  // that serve holds besides connections: generous

// The soft limit of /proc/self/limits: "Max open files   1024   4096   files"; -1: unlimited.
std::optional<int64_t> SoftLimit(const std::string& limits, std::string_view name) {
  for (const absl::string_view line : absl::StrSplit(limits, '\n')) {
    if (!FromAbsl(line).starts_with(name)) continue;
    const std::vector<std::string> words =
        absl::StrSplit(line.substr(name.size()), ' ', absl::SkipEmpty());
    if (words.empty()) return std::nullopt;
    return words[0] == "unlimited" ? -1 : FirstNumber(words[0]);
  }
  return std::nullopt;
}

Finding Port(const Host& host, const std::string& address, const char* protocol, const char* flag,
             int port) {
  const std::string where = HostPort(address, port);
  const absl::Status status = host.listen(address, port);
  if (status.ok()) return {Level::kOk, "port", StrCat(protocol, " can listen on ", where)};
  return {Level::kError, "port",
          StrCat(protocol, " cannot listen on ", where, ": ", FromAbsl(status.message())),
          "serve will not start",
          StrCat("ss -ltnp 'sport = :", port, "'    # who has it; or give --", flag, " another")};
}

}  // namespace

Findings CheckLimits(const Host& host, int max_connections) {
  const std::string limits = host.Read("/proc/self/limits").value_or("");
  Findings findings;
  const int64_t files = SoftLimit(limits, "Max open files").value_or(-1);
  const int64_t wanted = max_connections + kOtherFiles;
  Finding open_files = {
      Level::kOk, "limits.open_files",
      files < 0 ? "no limit of open files" : StrCat(files, " open files allowed")};
  if (files >= 0 && files < wanted) {
    open_files.level = Level::kWarning;
    open_files.why = StrCat("--max-connections ", max_connections, " takes up to ", wanted,
                            "; beyond the limit new connections wait");
    open_files.mend = "ulimit -n 65536    # or LimitNOFILE=65536 in the systemd unit";
  }
  findings.push_back(open_files);
  const int64_t locked = SoftLimit(limits, "Max locked memory").value_or(-1);
  Finding memlock = {Level::kOk, "limits.locked_memory",
                     locked < 0 ? "no limit of locked memory"
                                : StrCat(SizeText(locked), " of locked memory allowed")};
  if (locked >= 0 && !host.List("/sys/class/infiniband").empty()) {
    memlock.level = Level::kWarning;
    memlock.why = "EFA and InfiniBand register memory, which must be locked";
    memlock.mend = "ulimit -l unlimited    # or LimitMEMLOCK=infinity, docker --ulimit memlock=-1";
  }
  findings.push_back(memlock);
  return findings;
}

Findings CheckClock(const Host& host) {
  const auto state = host.clock();
  if (!state) {
    return {{Level::kNote, "clock", "the kernel does not tell whether the clock is synchronised",
             "", ""}};
  }
  if (!state->synchronised) {
    return {{Level::kWarning, "clock", "the clock is not synchronised",
             "TLS and signed requests (S3) fail when it is minutes off, and logs of several nodes "
             "do not fit together",
             "timedatectl set-ntp true    # or: apt-get install chrony"}};
  }
  return {
      {Level::kOk, "clock", StrCat("synchronised, to within ", state->max_error_us / 1000, " ms")}};
}

Findings CheckPorts(const Host& host, const Settings& settings) {
  Findings findings;
  if (!IsLoopback(settings.address) && settings.api_keys_file.empty()) {
    findings.push_back(
        {Level::kError, "port",
         StrCat(settings.address, " is reachable from outside, without keys"),
         "serve refuses to start so",
         "echo \"$(openssl rand -hex 24)\" > keys.txt && chmod 600 keys.txt    # and give "
         "--api-keys keys.txt"});
  }
  if (settings.http_port > 0)
    findings.push_back(Port(host, settings.address, "HTTP", "http-port", settings.http_port));
  if (settings.grpc_port > 0)
    findings.push_back(Port(host, settings.address, "gRPC", "grpc-port", settings.grpc_port));
  return findings;
}

}  // namespace trireme::doctor
