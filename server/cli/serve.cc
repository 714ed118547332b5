// trireme serve: listen, load, serve, wait for a signal, drain.
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <iostream>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "runtime/base/file.h"
#include "runtime/base/host_port.h"
#include "runtime/base/log.h"
#include "runtime/base/status.h"
#include "runtime/base/strings.h"
#include "runtime/text/utf8.h"
#include "server/admission/keys.h"
#include "server/cli/commands.h"
#include "server/cli/options.h"
#include "server/grpc/grpc_server.h"
#include "server/grpc/library_logs.h"
#include "server/http/http_server.h"
#include "server/observe/telemetry.h"
#include "server/ranks/control_leader.h"

namespace trireme {
namespace {

constexpr absl::Duration kFlushTime = absl::Seconds(2);
constexpr absl::Duration kTelemetryFlushTime = absl::Seconds(3);
constexpr char kHttpFlags[] = "HTTP (--host, --http-port)";
constexpr char kGrpcFlags[] = "gRPC (--host, --grpc-port)";

LogLevel ToLogLevel(const std::string& name) {
  if (name == "debug") return LogLevel::kDebug;
  if (name == "warning") return LogLevel::kWarning;
  if (name == "error") return LogLevel::kError;
  return LogLevel::kInfo;
}

bool ToStandardOutput(const std::string& log) { return log == "-"; }

// These are taken by sigwait on the main thread only; every later thread inherits the mask. Without
// a file to open anew SIGHUP keeps its meaning: the terminal has gone.
sigset_t BlockSignals(const ServeOptions& options) {
  const bool has_files = !options.audit_log.empty() ||
                         (!options.access_log.empty() && !ToStandardOutput(options.access_log));
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGINT);
  if (has_files) sigaddset(&set, SIGHUP);
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  signal(SIGPIPE, SIG_IGN);
  signal(SIGXFSZ, SIG_IGN);  // a log at its size limit is an error of that log
  return set;
}

void PrintBanner(const ServeOptions& options, const ModelInfo& info, int http_port, int grpc_port) {
  const std::string scheme = options.tls_cert_file.empty() ? "http" : "https";
  const std::string key = options.api_keys_file.empty() ? "none" : "YOUR_KEY";
  const std::string root = StrCat(scheme, "://", HostPort(options.host, http_port));
  const std::string base = root + "/v1";
  // Standard output may be the access log, which has nothing but its lines.
  std::ostream& out = ToStandardOutput(options.access_log) ? std::cerr : std::cout;
  out << "\n" << info.id << " is ready at " << base;
  if (grpc_port > 0) out << ", gRPC at " << HostPort(options.host, grpc_port);
  if (options.page) out << "\n\n  To chat, open " << root << "/";
  out << "\n\n  curl " << base << "/chat/completions -H 'content-type: application/json' "
      << (options.api_keys_file.empty() ? "" : "-H 'authorization: Bearer YOUR_KEY' ")
      << "\\\n    -d '{\"model\": \"" << info.id
      << "\", \"messages\": [{\"role\": \"user\", \"content\": \"Why is the sky blue?\"}]}'\n"
      << "\n  from openai import OpenAI\n"
      << "  client = OpenAI(base_url=\"" << base << "\", api_key=\"" << key << "\")\n"
      << "  print(client.chat.completions.create(model=\"" << info.id
      << "\",\n      messages=[{\"role\": \"user\", \"content\": \"Why is the sky "
         "blue?\"}]).choices[0].message.content)\n"
      << "\nCtrl-C or SIGTERM drains and stops.\n"
      << std::endl;
}

int Fail(const absl::Status& status) {
  Log(LogLevel::kError, "cannot serve", {{"error", FromAbsl(status.message())}});
  return kExitFailure;
}

// Everything that lives while the node serves, in order of construction.
struct Service {
  std::unique_ptr<Telemetry> telemetry;
  std::unique_ptr<KeyStore> keys;
  std::unique_ptr<ControlLeader> leader;  // null: no other nodes
  std::unique_ptr<Node> node;
  std::unique_ptr<HttpServer> http;
  std::unique_ptr<GrpcServer> grpc;
};

int GrpcPort(const Service& service) { return service.grpc ? service.grpc->port() : -1; }

// What was answered still has to reach the clients. Streams that never end by themselves (health
// watches, reflection) must not hold us up.
void CloseDoors(Service* service, absl::Time deadline) {
  const absl::Time flush = Clock::Monotonic().Now() + kFlushTime;
  service->http->Shutdown(std::max(deadline, flush));
  if (service->grpc) service->grpc->Shutdown(flush);
}

// A signal that came while loading ends the process: nothing runs that would have to finish.
LoadProgress InterruptibleProgress(Service* service) {
  return [print = MakeProgressPrinter(), service](int64_t done, int64_t total) {
    print(done, total);
    sigset_t pending;
    sigpending(&pending);
    if (sigismember(&pending, SIGTERM) == 0 && sigismember(&pending, SIGINT) == 0) return;
    Log(LogLevel::kInfo, "stopped by a signal while loading");
    CloseDoors(service, absl::InfinitePast());
    service->telemetry->Close(kTelemetryFlushTime);
    std::_Exit(kExitOk);  // the loader is below us on the stack
  };
}

absl::Status OpenTelemetry(const ServeOptions& options, const std::string& model,
                           Service* service) {
  TelemetryOptions telemetry = {.access_log = options.access_log,
                                .audit_log = options.audit_log,
                                .trace_file = options.trace_file};
  TRIREME_ASSIGN_OR_RETURN(
      telemetry.otlp,
      ReadOtlpOptions(options.otlp_endpoint, options.otlp_sample_ratio, ProcessEnvironment));
  TRIREME_ASSIGN_OR_RETURN(service->telemetry,
                           Telemetry::Open(model, telemetry, &Clock::Monotonic()));
  return absl::OkStatus();
}

// Names stand in answers, logs and spans, all of them JSON.
absl::Status CheckNames(const std::string& name, const LoadOptions& load) {
  std::vector<std::string> names = load.served_names;
  names.push_back(name);
  if (std::all_of(names.begin(), names.end(), [](const auto& n) { return IsValidUtf8(n); })) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      "--served-model-name: wants a name in UTF-8; without the flag it is the model file's");
}

// What the doors need and can be wrong about: all of it is tried before they open and a model
// loads, which may take minutes.
struct Doors {
  std::string tls_cert_pem, tls_key_pem;
  std::optional<BoundPort> http, grpc;  // grpc: empty without --grpc-port
};

absl::StatusOr<Doors> PrepareDoors(const ServeOptions& options) {
  if (!IsLoopback(options.host) && options.api_keys_file.empty()) {
    return absl::InvalidArgumentError(
        StrCat("--host ", options.host,
               " is reachable from outside; give --api-keys FILE, or listen on 127.0.0.1"));
  }
  Doors doors;
  if (!options.tls_cert_file.empty()) {
    TRIREME_ASSIGN_OR_RETURN(doors.tls_cert_pem, ReadSetting(options.tls_cert_file, "--tls-cert"));
    TRIREME_ASSIGN_OR_RETURN(doors.tls_key_pem, ReadSetting(options.tls_key_file, "--tls-key"));
    TRIREME_RETURN_IF_ERROR(HttpServer::CheckTls(doors.tls_cert_pem, doors.tls_key_pem));
  }
  auto http = BoundPort::Bind(options.host, options.http_port);
  if (!http.ok()) return Annotate(http.status(), kHttpFlags);
  doors.http = *std::move(http);
  if (options.grpc_port >= 0) {
    auto grpc = BoundPort::Bind(options.host, options.grpc_port);
    if (!grpc.ok()) return Annotate(grpc.status(), kGrpcFlags);
    doors.grpc = *std::move(grpc);
  }
  return doors;
}

absl::Status OpenDoors(const ServeOptions& options, Doors doors, Service* service) {
  HttpServerOptions http;
  http.tls_cert_pem = doors.tls_cert_pem;
  http.tls_key_pem = doors.tls_key_pem;
  http.io_threads = options.io_threads;
  http.max_connections = options.max_connections;
  http.max_body_bytes = options.max_body_bytes;
  http.page = options.page;
  auto server = HttpServer::Start(http, *std::move(doors.http), &Clock::Monotonic(),
                                  service->keys.get(), service->telemetry.get());
  if (!server.ok()) return Annotate(server.status(), kHttpFlags);
  service->http = *std::move(server);
  if (!doors.grpc) return absl::OkStatus();
  GrpcServerOptions grpc;
  grpc.tls_cert_pem = doors.tls_cert_pem;
  grpc.tls_key_pem = doors.tls_key_pem;
  grpc.max_message_bytes =
      static_cast<int>(std::min<int64_t>(static_cast<int64_t>(options.max_body_bytes), INT_MAX));
  auto second = GrpcServer::Start(grpc, *std::move(doors.grpc), &Clock::Monotonic(),
                                  service->keys.get(), service->telemetry.get());
  if (!second.ok()) return Annotate(second.status(), kGrpcFlags);
  service->grpc = *std::move(second);
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<KeyStore>> OpenKeys(const ServeOptions& options,
                                                   Telemetry* telemetry) {
  if (options.api_keys_file.empty()) return KeyStore::Open();
  const auto tell = [telemetry](bool accepted, size_t keys) {
    telemetry->OnKeysReloaded(accepted, keys);
  };
  auto keys = KeyStore::Open(options.api_keys_file, KeyStore::kPollInterval, tell);
  if (!keys.ok()) return Annotate(keys.status(), "--api-keys");
  return keys;
}

// The cheap checks, then the doors, then what takes its time. `node_lost` hears of another node of
// the model that has failed.
absl::Status Start(const ServeOptions& options, const LoadOptions& load,
                   std::function<void(const absl::Status&)> node_lost, Service* service) {
  const std::string name =
      load.served_names.empty() ? DefaultModelName(load.model) : load.served_names.front();
  TRIREME_RETURN_IF_ERROR(CheckNames(name, load));
  TRIREME_ASSIGN_OR_RETURN(Doors doors, PrepareDoors(options));
  if (!load.group.alone()) {
    rpc::RouteLibraryLogs();
    TRIREME_ASSIGN_OR_RETURN(service->leader,
                             ControlLeader::Listen(load.group, std::move(node_lost)));
  }
  TRIREME_RETURN_IF_ERROR(OpenTelemetry(options, name, service));
  Telemetry* const telemetry = service->telemetry.get();
  TRIREME_ASSIGN_OR_RETURN(service->keys, OpenKeys(options, telemetry));
  TRIREME_ASSIGN_OR_RETURN(OpenedModel model, OpenModel(load));
  TRIREME_RETURN_IF_ERROR(OpenDoors(options, std::move(doors), service));
  Log(LogLevel::kInfo, "listening",
      {{"http_port", service->http->port()}, {"grpc_port", GrpcPort(*service)}});
  TRIREME_ASSIGN_OR_RETURN(
      service->node,
      LoadNode(load, std::move(model), &Clock::Monotonic(), telemetry->engine_observer(),
               InterruptibleProgress(service), service->leader.get()));
  TRIREME_RETURN_IF_ERROR(telemetry->OnStart(name));
  telemetry->metrics().Attach(service->node->engine.get());
  service->http->SetNode(service->node.get());
  if (service->grpc) service->grpc->SetNode(service->node.get());
  return absl::OkStatus();
}

// Unready first, then no new requests; running ones finish until the deadline.
void Drain(Service* service, absl::Duration timeout) {
  service->http->SetServing(false);
  if (service->grpc) service->grpc->SetServing(false);
  const absl::Time deadline = Clock::Monotonic().Now() + timeout;
  service->node->engine->Drain(deadline);
  CloseDoors(service, deadline);
  service->telemetry->OnStop();
  service->telemetry->Close(kTelemetryFlushTime);
}

// Returns at SIGTERM or SIGINT; at SIGHUP the logs are opened anew.
void WaitForStop(const sigset_t& signals, Telemetry* telemetry) {
  for (int number = SIGHUP; number == SIGHUP;) {
    sigwait(&signals, &number);
    if (number == SIGHUP) telemetry->ReopenLogs();
  }
}

}  // namespace

int RunServe(const Options& all) {
  const ServeOptions& options = all.serve;
  ConfigureLog(ToLogLevel(options.log_level),
               options.log_format == "json" ? LogFormat::kJson : LogFormat::kText);
  WarnOfUnknownVariables(all);
  if (all.weight_cache != "off" && all.load.packed_weights.empty()) {
    Log(LogLevel::kInfo, "weights are not kept: auto is for models that lie in --cache");
  }
  if (all.load.group.follows()) return RunFollower(all);
  const sigset_t signals = BlockSignals(options);
  // Before the service, whose engine sets it. A device that has failed does not come back to its
  // process: whoever watches it starts another.
  std::atomic<bool> serving = false, device_lost = false, draining = false;
  const auto lose_device = [&] {
    if (device_lost.exchange(true)) return;
    if (!draining) kill(getpid(), SIGTERM);  // while it drains that would mean: abort
  };
  const auto lose_node = [&](const absl::Status& error) {
    if (!serving) std::_Exit(Fail(error));  // the main thread may wait for that node for good
    Log(LogLevel::kError, "node_lost", {{"error", FromAbsl(error.message())}});
    lose_device();
  };
  Service service;
  if (absl::Status status = Start(options, all.load, lose_node, &service); !status.ok()) {
    return Fail(status);
  }
  serving = true;

  const int http_port = service.http->port();
  const int grpc_port = GrpcPort(service);
  Log(LogLevel::kInfo, "serving",
      {{"model", service.node->info.id},
       {"device", service.node->info.device},
       {"http_port", http_port},
       {"grpc_port", grpc_port}});
  if (options.log_format == "text") PrintBanner(options, service.node->info, http_port, grpc_port);

  service.node->engine->WatchDevice(lose_device);
  WaitForStop(signals, service.telemetry.get());
  draining = true;
  Log(LogLevel::kInfo, "draining", {{"timeout_s", options.drain_timeout_s}});
  std::atomic<bool> drained = false;
  std::thread drain([&] {
    Drain(&service, absl::Seconds(options.drain_timeout_s));
    drained = true;
    kill(getpid(), SIGTERM);  // wakes the main thread
  });
  WaitForStop(signals, service.telemetry.get());
  if (!drained) {
    Log(LogLevel::kWarning, "aborted by a second signal");
    std::_Exit(kExitAborted);
  }
  drain.join();
  Log(LogLevel::kInfo, "stopped");
  // What a lost device holds may never be given back: nothing of it is destroyed.
  if (device_lost) std::_Exit(kExitDeviceLost);
  return kExitOk;
}

}  // namespace trireme
