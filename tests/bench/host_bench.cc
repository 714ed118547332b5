// What the host does for a token when the model costs nothing: a real server (engine, HTTP, gRPC)
// with an executor that has every token ready, under load from another process, so that the CPU
// time counted is the server's alone.
//
//   ninja host_bench && build/test/host_bench [OPTION...]
//     --quick        about 10 s; otherwise medians of 5, about a minute
//     --smoke        does it still work? A second or so, figures of no meaning
//     --json         one object a line: {"name":...,"value":...,"unit":...}
//     --model FILE   whose tokenizer to use; default $TRIREME_TEST_MODEL. Without one the
//                    tokenizer's rows are left out: a vocabulary as small as that of tests/golden
//                    says nothing
//     --texts FILE   what the tokenizer reads, script -> text; default host_bench_texts.json
//     --only PART    http, grpc, bare_grpc, requests, scheduler or tokenizer: for a profiler
//
// bare_grpc is the floor under grpc: the library alone, writing the same bytes
// (bare_grpc_server.h).
//
// Streams are paced (kStepsPerS, as a model would): every token is an event of its own, sent alone.
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "runtime/base/check.h"
#include "runtime/base/json_writer.h"
#include "runtime/base/strings.h"
#include "runtime/text/json_fields.h"
#include "server/loadgen/bench.h"
#include "tests/bench/bare_grpc_server.h"
#include "tests/bench/busy_scheduler.h"
#include "tests/bench/host_bench_server.h"

namespace trireme::bench {
namespace {

using SteadyClock = std::chrono::steady_clock;

constexpr int kStepsPerS = 100;

struct Options {
  bool json = false, smoke = false;
  int repetitions = 5;
  int streams = 256, tokens = 400;  // of one answer
  int requests = 20000;             // of one token
  int scheduler_steps = 200;
  size_t text_bytes = 1 << 20;
  std::string model, only;
  std::string texts = TRIREME_SOURCE_DIR "/tests/bench/host_bench_texts.json";

  bool wants(const char* part) const { return only.empty() || only == part; }
};

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

double MedianOf(int repetitions, absl::FunctionRef<double()> measure) {
  std::vector<double> values;
  for (int i = 0; i < repetitions; ++i) values.push_back(measure());
  return Median(std::move(values));
}

double MicrosecondsSince(SteadyClock::time_point begin) {
  return std::chrono::duration<double, std::micro>(SteadyClock::now() - begin).count();
}

class Table {
 public:
  explicit Table(bool json) : json_(json) {}
  void Row(const std::string& name, double value, const char* unit) const {
    if (json_) {
      std::string line;
      JsonWriter(&line)
          .BeginObject()
          .Key("name")
          .String(name)
          .Key("value")
          .Float(static_cast<float>(value))
          .Key("unit")
          .String(unit)
          .EndObject();
      std::printf("%s\n", line.c_str());
    } else {
      std::printf("%-40s %12.2f %s\n", name.c_str(), value, unit);
    }
    std::fflush(stdout);
  }

 private:
  const bool json_;
};

// ---- The client, in a process of its own: this program, run with --client.

struct Answered {
  double seconds = 0;
  long long events = 0, requests = 0;
};

int RunClient(const char* url, int streams, int requests, int tokens) {
  loadgen::BenchOptions options;
  options.target.url = url;
  options.concurrency = streams;
  options.requests = requests;
  options.workload.prompt_tokens = loadgen::LengthDistribution::Fixed(32);
  options.workload.output_tokens = loadgen::LengthDistribution::Fixed(tokens);
  const auto result = loadgen::RunBench(options, {});
  if (!result.ok()) {
    std::fprintf(stderr, "host_bench: %s\n", std::string(result.status().message()).c_str());
    return 1;
  }
  const loadgen::Summary& summary = result->levels.front().summary;
  for (const auto& [kind, error] : summary.errors()) {
    std::fprintf(stderr, "host_bench: %lld requests failed: %s: %s\n",
                 static_cast<long long>(error.count), kind.c_str(), error.example.c_str());
  }
  std::printf("%f %lld %lld\n", summary.duration_s(),
              static_cast<long long>(summary.token_events()),
              static_cast<long long>(summary.completed()));
  return summary.failed() == 0 ? 0 : 1;
}

Answered Ask(const std::string& url, int streams, int requests, int tokens) {
  std::array<char, 4096> self{};
  TRIREME_CHECK(readlink("/proc/self/exe", self.data(), self.size() - 1) > 0);
  const std::string command =
      StrCat("exec '", self.data(), "' --client ", url, " ", streams, " ", requests, " ", tokens);
  FILE* const client = popen(command.c_str(), "r");
  TRIREME_CHECK(client != nullptr);
  Answered answered;
  const int fields =
      std::fscanf(client, "%lf %lld %lld", &answered.seconds, &answered.events, &answered.requests);
  if (pclose(client) != 0 || fields != 3 || answered.events == 0) {
    std::fprintf(stderr, "host_bench: the client failed\n");
    std::exit(1);
  }
  return answered;
}

double CpuMicroseconds() {  // of this process, all threads; children are not in it
  timespec time{};
  TRIREME_CHECK(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time) == 0);
  return static_cast<double>(time.tv_sec) * 1e6 + static_cast<double>(time.tv_nsec) * 1e-3;
}

// ---- What is measured.

void MeasureStreams(const std::string& name, const std::string& url, const Options& options,
                    const Table& table) {
  std::vector<double> costs, shares;
  for (int i = 0; i < options.repetitions; ++i) {
    const double before = CpuMicroseconds();
    const Answered answered = Ask(url, options.streams, options.streams, options.tokens);
    costs.push_back((CpuMicroseconds() - before) / static_cast<double>(answered.events));
    shares.push_back(static_cast<double>(answered.events) / options.streams / options.tokens);
  }
  table.Row(StrCat("cpu_per_event_", name, "_", options.streams, "_streams"), Median(costs), "us");
  // Below 1 tokens have shared events, because the machine had no time for the pace.
  table.Row(StrCat("events_per_token_", name), Median(shares), "");
}

void MeasureDoors(const Options& options, const Table& table) {
  BenchServer server(ReadText(options.model));
  server.set_step_period(std::chrono::nanoseconds(std::chrono::seconds(1)) / kStepsPerS);
  if (options.wants("http")) MeasureStreams("http", server.HttpUrl(), options, table);
  if (options.wants("grpc")) MeasureStreams("grpc", server.GrpcUrl(), options, table);
  if (options.wants("bare_grpc")) {
    const BareGrpcServer bare(std::chrono::nanoseconds(std::chrono::seconds(1)) / kStepsPerS);
    MeasureStreams("bare_grpc", bare.Url(), options, table);
  }
  if (!options.wants("requests")) return;
  server.set_step_period(std::chrono::nanoseconds(0));
  std::vector<double> rates, costs;
  for (int i = 0; i < options.repetitions; ++i) {
    const double before = CpuMicroseconds();
    const Answered answered = Ask(server.HttpUrl(), 64, options.requests, 1);
    rates.push_back(static_cast<double>(answered.requests) / answered.seconds);
    costs.push_back((CpuMicroseconds() - before) / static_cast<double>(answered.requests));
  }
  table.Row("one_token_requests_http", Median(rates), "1/s");
  table.Row("cpu_per_one_token_request_http", Median(costs), "us");
}

void MeasureScheduler(const Options& options, const Table& table) {
  for (const int waiting : {10, 1000, 10000}) {
    BusyScheduler scheduler(waiting);
    std::vector<double> costs, between;
    for (int i = 0; i < options.scheduler_steps; ++i) {
      const auto begin = SteadyClock::now();
      scheduler.Plan();
      const double planned = MicrosecondsSince(begin);
      scheduler.PlanAhead();
      const double planned_ahead = MicrosecondsSince(begin);
      scheduler.Compute();
      const auto computed = SteadyClock::now();
      scheduler.Commit();
      const double committed = MicrosecondsSince(computed);
      costs.push_back(planned_ahead + committed);
      between.push_back(planned + committed);
    }
    const std::string load = StrCat("_1000_running_", waiting, "_waiting");
    table.Row(StrCat("scheduler_step", load), Median(costs), "us");
    table.Row(StrCat("scheduler_between_steps", load), Median(between), "us");
  }
}

// Script -> text.
boost::json::object ReadTexts(const std::string& file) {
  std::stringstream json;
  json << std::ifstream(file).rdbuf();
  boost::system::error_code error;
  const boost::json::value texts = boost::json::parse(json.str(), error);
  if (error || !texts.is_object()) {
    std::fprintf(stderr, "host_bench: %s cannot be read as a JSON object of texts\n", file.c_str());
    std::exit(2);
  }
  for (const auto& [script, text] : texts.as_object()) {
    if (text.is_string() && !text.as_string().empty()) continue;
    std::fprintf(stderr, "host_bench: %s: \"%s\" is not a text, or empty\n", file.c_str(),
                 std::string(script).c_str());
    std::exit(2);
  }
  return texts.as_object();
}

// Each text over and over, to text_bytes.
void MeasureTokenizer(const Options& options, const Table& table) {
  const boost::json::object texts = ReadTexts(options.texts);
  const TextOf text = ReadText(options.model);
  for (const auto& [script, paragraph] : texts) {
    std::string input;
    while (input.size() < options.text_bytes) input += std::string(paragraph.as_string());
    const double us = MedianOf(options.repetitions, [&] {
      const auto begin = SteadyClock::now();
      TRIREME_CHECK(
          !text.tokenizer->Encode(input, Tokenizer::SpecialTokens::kAsText, false).empty());
      return MicrosecondsSince(begin);
    });
    table.Row(StrCat("tokenizer_", std::string(script)), static_cast<double>(input.size()) / us,
              "MB/s");
  }
}

int Main(const Options& options) {
  const Table table(options.json);
  if (options.wants("http") || options.wants("grpc") || options.wants("bare_grpc") ||
      options.wants("requests")) {
    MeasureDoors(options, table);
  }
  if (options.wants("scheduler")) MeasureScheduler(options, table);
  if (options.wants("tokenizer") && (!options.model.empty() || options.smoke)) {
    MeasureTokenizer(options, table);
  }
  return 0;
}

}  // namespace
}  // namespace trireme::bench

int main(int argc, char** argv) {
  if (argc == 6 && std::strcmp(argv[1], "--client") == 0) {
    return trireme::bench::RunClient(argv[2], std::atoi(argv[3]), std::atoi(argv[4]),
                                     std::atoi(argv[5]));
  }
  trireme::bench::Options options;
  if (const char* model = std::getenv("TRIREME_TEST_MODEL")) options.model = model;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    if (argument == "--json") {
      options.json = true;
    } else if (argument == "--model" && i + 1 < argc) {
      options.model = argv[++i];
    } else if (argument == "--texts" && i + 1 < argc) {
      options.texts = argv[++i];
    } else if (argument == "--only" && i + 1 < argc) {
      options.only = argv[++i];
    } else if (argument == "--quick") {
      options.repetitions = 1;
      options.tokens = 200;
      options.requests = 10000;
      options.scheduler_steps = 100;
    } else if (argument == "--smoke") {
      options = {.json = options.json,
                 .smoke = true,
                 .repetitions = 1,
                 .streams = 8,
                 .tokens = 10,
                 .requests = 20,
                 .scheduler_steps = 3,
                 .text_bytes = 4096,
                 .model = options.model,
                 .only = options.only,
                 .texts = options.texts};
    } else {
      std::fprintf(stderr,
                   "usage: host_bench [--quick | --smoke] [--json] [--model FILE] [--texts FILE] "
                   "[--only PART]\n");
      return 2;
    }
  }
  return trireme::bench::Main(options);
}
