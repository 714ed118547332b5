// trireme serve on a node that follows: no doors, only the leader's steps.
#include <pthread.h>
#include <signal.h>

#include <atomic>
#include <cstdlib>
#include <ctime>
#include <thread>

#include "runtime/base/log.h"
#include "runtime/base/strings.h"
#include "server/cli/commands.h"
#include "server/grpc/library_logs.h"
#include "server/node/follow.h"

namespace trireme {
namespace {

// That the leader takes to answer and to say so, in seconds, when its drain has timed out.
constexpr int kLeaderEndTime = 15;

sigset_t BlockSignals() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGINT);
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  signal(SIGPIPE, SIG_IGN);
  return set;
}

// Whoever stops a group signals all of its nodes at once: the leader still needs this one for the
// requests that it drains, and ends it then.
[[noreturn]] void EndAtSignal(const sigset_t& signals, int drain_timeout_s,
                              const std::atomic<bool>& ready) {
  int number = 0;
  sigwait(&signals, &number);
  if (ready) {
    Log(LogLevel::kInfo, "draining", {{"timeout_s", drain_timeout_s}});
    const timespec limit = {drain_timeout_s + kLeaderEndTime, 0};
    sigtimedwait(&signals, nullptr, &limit);
  }
  Log(LogLevel::kWarning, "aborted by a signal, before the leader has ended");
  std::_Exit(kExitAborted);
}

}  // namespace

int RunFollower(const Options& options) {
  rpc::RouteLibraryLogs();
  const sigset_t signals = BlockSignals();
  static std::atomic<bool> ready = false;  // outlives main: other threads end the process, too
  std::thread([signals, timeout = options.serve.drain_timeout_s] {
    EndAtSignal(signals, timeout, ready);
  }).detach();
  const auto fail = [](const absl::Status& error) {
    Log(LogLevel::kError, ready ? "device_lost" : "cannot serve",
        {{"error", FromAbsl(error.message())}});
    return ready ? kExitDeviceLost : kExitFailure;
  };
  FollowEvents events;
  events.progress = MakeProgressPrinter();
  events.ready = [&] {
    ready = true;
    Log(LogLevel::kInfo, "following", {{"node", options.load.group.node_rank}});
  };
  events.lost = [fail](const absl::Status& error) { std::_Exit(fail(error)); };
  const absl::Status status = Follow(options.load, events);
  if (!status.ok()) return fail(status);
  Log(LogLevel::kInfo, "stopped");
  return kExitOk;
}

}  // namespace trireme
