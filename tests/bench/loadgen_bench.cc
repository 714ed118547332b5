// What `trireme bench` costs by itself: token events per second that one core can take, over HTTP
// and gRPC, from stub servers in another process that send each event alone, as servers that decode
// do. Exit code 1 below the 50,000 a second that we promise.
//
//   ninja loadgen_bench && build/test/loadgen_bench [STREAMS] [EVENTS_PER_S_OF_A_STREAM]
//   build/test/loadgen_bench --quick    does it still work? A few short streams, no rate promised
#include <arpa/inet.h>
#include <grpcpp/grpcpp.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>

#include "runtime/base/check.h"
#include "runtime/base/strings.h"
#include "server/loadgen/bench.h"
#include "trireme/v1/inference.grpc.pb.h"

namespace trireme {
namespace {

using std::chrono::steady_clock;

constexpr double kPromisedEventsPerS = 50000;

struct Load {
  int streams, events_per_s, tokens;  // events of a second of one stream, tokens of one answer
  bool quick;
};

// Sleeps between the events of one stream, so that it keeps its rate.
class Pace {
 public:
  explicit Pace(int events_per_s) : gap_(std::chrono::nanoseconds(1000000000 / events_per_s)) {}
  void Wait() { std::this_thread::sleep_until(next_ += gap_); }

 private:
  const std::chrono::nanoseconds gap_;
  steady_clock::time_point next_ = steady_clock::now();
};

bool SendAll(int fd, const std::string& bytes) {
  return send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(bytes.size());
}

std::string Chunk(const std::string& payload) {
  return StrCat(absl::Hex(payload.size()), "\r\n", payload, "\r\n");
}

// One connection: request, stream, request, stream, ...
void ServeHttp(int fd, int events_per_s) {
  const std::string event = Chunk(
      "data: {\"id\":\"chatcmpl-0123456789abcdef0123456789abcdef\",\"object\":\"chat.completion."
      "chunk\",\"created\":1700000000,\"model\":\"stub\",\"system_fingerprint\":\"fp_0123\","
      "\"choices\":[{\"index\":0,\"delta\":{\"content\":\" token\"},\"logprobs\":null,"
      "\"finish_reason\":null}],\"usage\":null}\n\n");
  std::string received(1 << 16, '\0');
  for (;;) {
    std::string request;
    // The body ends with the conversation: }]}
    while (!request.ends_with("}]}")) {
      const ssize_t count = recv(fd, received.data(), received.size(), 0);
      if (count <= 0) {
        close(fd);
        return;
      }
      request.append(received, 0, static_cast<size_t>(count));
    }
    const size_t at = request.find("\"max_tokens\":");
    const int tokens = std::atoi(request.c_str() + at + std::strlen("\"max_tokens\":"));
    SendAll(fd,
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
            "Transfer-Encoding: chunked\r\n\r\n");
    Pace pace(events_per_s);
    for (int i = 0; i < tokens; ++i) {
      pace.Wait();
      if (!SendAll(fd, event)) break;
    }
    SendAll(fd, Chunk("data: [DONE]\n\n") + "0\r\n\r\n");
  }
}

// Returns the port.
int StartHttpStub(int events_per_s) {
  const int listener = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
  socklen_t size = sizeof address;
  TRIREME_CHECK(bind(listener, reinterpret_cast<sockaddr*>(&address), size) == 0);
  TRIREME_CHECK(listen(listener, 4096) == 0);
  TRIREME_CHECK(getsockname(listener, reinterpret_cast<sockaddr*>(&address), &size) == 0);
  std::thread([=] {
    for (;;) {
      const int fd = accept(listener, nullptr, nullptr);
      std::thread(ServeHttp, fd, events_per_s).detach();
    }
  }).detach();
  return ntohs(address.sin_port);
}

class GrpcStub final : public v1::Inference::Service {
 public:
  explicit GrpcStub(int events_per_s) : events_per_s_(events_per_s) {}

  grpc::Status Generate(grpc::ServerContext*, const v1::GenerateRequest* request,
                        grpc::ServerWriter<v1::GenerateResponse>* writer) override {
    v1::GenerateResponse event;
    event.set_request_id("0123456789abcdef0123456789abcdef");
    event.set_text(" token");
    event.add_token_ids(1234);
    Pace pace(events_per_s_);
    for (int i = 0; i < request->max_tokens(); ++i) {
      pace.Wait();
      if (!writer->Write(event)) break;
    }
    return grpc::Status::OK;
  }
  grpc::Status GetModelInfo(grpc::ServerContext*, const v1::GetModelInfoRequest*,
                            v1::GetModelInfoResponse* response) override {
    response->set_id("stub");
    return grpc::Status::OK;
  }

 private:
  const int events_per_s_;
};

int StartGrpcStub(int events_per_s) {
  auto* const service = new GrpcStub(events_per_s);  // until the process ends
  grpc::ServerBuilder builder;
  int port = 0;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
  builder.RegisterService(service);
  TRIREME_CHECK(builder.BuildAndStart().release() != nullptr);
  return port;
}

// The stubs run in a child, so that this process's CPU time is the client's alone.
struct Ports {
  int http, grpc;
};
Ports StartStubs(int events_per_s) {
  int ends[2];
  TRIREME_CHECK(pipe(ends) == 0);
  if (fork() == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    const Ports ports{StartHttpStub(events_per_s), StartGrpcStub(events_per_s)};
    TRIREME_CHECK(write(ends[1], &ports, sizeof ports) == sizeof ports);
    for (;;) pause();
  }
  Ports ports{};
  TRIREME_CHECK(read(ends[0], &ports, sizeof ports) == sizeof ports);
  return ports;
}

// Every thread of this process, gRPC's too, on the first core it may use.
void StayOnOneCore() {
  cpu_set_t allowed;
  TRIREME_CHECK(sched_getaffinity(0, sizeof allowed, &allowed) == 0);
  int core = 0;
  while (!CPU_ISSET(core, &allowed)) ++core;
  CPU_ZERO(&allowed);
  CPU_SET(core, &allowed);
  TRIREME_CHECK(sched_setaffinity(0, sizeof allowed, &allowed) == 0);
}

bool Measure(const char* name, const std::string& target, const Load& load) {
  loadgen::BenchOptions options;
  options.target.url = target;
  options.target.model = "stub";
  options.concurrency = load.streams;
  options.requests = 2 * load.streams;
  options.workload.prompt_tokens = loadgen::LengthDistribution::Fixed(32);
  options.workload.output_tokens = loadgen::LengthDistribution::Fixed(load.tokens);
  const auto result = loadgen::RunBench(options, {});
  if (!result.ok()) {
    std::printf("%s: %s\n", name, std::string(result.status().message()).c_str());
    return false;
  }
  const loadgen::Summary& summary = result->levels.front().summary;
  const double one_core = 1000 / summary.client_cpu_s_per_1000_events();
  std::printf(
      "%s: %d streams, %.0f events/s came, %lld failed; %.2f ms of CPU per 1000 events: "
      "%.0f events/s on one core, %.2f of the promised %.0f\n",
      name, load.streams, summary.token_events_per_s(), static_cast<long long>(summary.failed()),
      summary.client_cpu_s_per_1000_events() * 1e3, one_core, one_core / kPromisedEventsPerS,
      kPromisedEventsPerS);
  const bool whole =
      summary.failed() == 0 && summary.token_events() == int64_t{options.requests} * load.tokens;
  return whole && (load.quick || one_core >= kPromisedEventsPerS);
}

}  // namespace
}  // namespace trireme

int main(int argc, char** argv) {
  trireme::Load load{.streams = 256, .events_per_s = 200, .tokens = 600, .quick = false};
  if (argc > 1 && std::strcmp(argv[1], "--quick") == 0) {
    load = {.streams = 8, .events_per_s = 200, .tokens = 20, .quick = true};
  } else {
    if (argc > 1) load.streams = std::atoi(argv[1]);
    if (argc > 2) load.events_per_s = std::atoi(argv[2]);
  }
  const trireme::Ports ports = trireme::StartStubs(load.events_per_s);
  trireme::StayOnOneCore();  // before gRPC makes threads, which inherit it
  bool enough = trireme::Measure("http", trireme::StrCat("http://127.0.0.1:", ports.http), load);
  enough &= trireme::Measure("grpc", trireme::StrCat("grpc://127.0.0.1:", ports.grpc), load);
  return enough ? 0 : 1;
}
