// Every setting of every command, once.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "server/cli/setting.h"
#include "server/loadgen/bench.h"
#include "server/node/load.h"
#include "server/pull/pull.h"

namespace trireme {

// Bits, so that a row of the schema can name the commands that have it.
enum class Command : unsigned {
  kExit = 0,
  kServe = 1,
  kGenerate = 2,
  kInspect = 4,
  kBench = 8,
  kDoctor = 16,
  kPull = 32,
  kCompletion = 64,
  kMan = 128,
  kAuditVerify = 256,
};

// Every default of the commands stands here or in LoadOptions, BenchOptions, PullOptions, nowhere
// else.
struct ServeOptions {
  std::string host = "127.0.0.1";
  int http_port = 8000;
  int grpc_port = 8001;
  int io_threads = 1;
  int max_connections = 4096;
  int64_t max_body_bytes = int64_t{32} << 20;
  bool page = true;
  std::string api_keys_file;
  std::string tls_cert_file, tls_key_file;
  std::string access_log, audit_log, trace_file;
  std::string otlp_endpoint;
  std::optional<float> otlp_sample_ratio;  // not given: OTEL_TRACES_SAMPLER, or all
  int drain_timeout_s = 30;
  std::string log_level = "info";
  std::string log_format = "text";
};

struct GenerateOptions {
  std::optional<std::string> prompt;  // absent or "-": standard input
  bool raw = false;                   // no chat template
  std::string system;
  int max_tokens = 256;
  std::optional<float> temperature, top_p;  // absent: the model's default
  std::optional<int> top_k;
  std::optional<uint64_t> seed;
  std::vector<std::string> stop;
};

struct InspectOptions {
  bool metadata = false;
  std::optional<float> bandwidth_gb_s;  // 10^9 bytes a second; absent: measured
};

struct AuditOptions {
  std::vector<std::string> files;  // oldest first
  std::string last_hash;           // where the chain must end; empty: anywhere
};

struct Options {
  LoadOptions load;
  ServeOptions serve;
  GenerateOptions generate;
  InspectOptions inspect;
  AuditOptions audit;
  loadgen::BenchOptions bench;
  pull::PullOptions pull;
  std::string shell;                 // completion
  std::string model_error;           // doctor: why MODEL names nothing that is here; empty: it does
  std::string weight_cache = "off";  // off, auto or a folder
  std::string cache;                 // folder of pulled models; empty: pull::DefaultCache
  bool json = false;                 // generate, inspect, doctor, pull, audit-verify
  std::string config_file;           // YAML with any of the settings
  // TRIREME_* variables that are no setting, probably misspelt, each with the one that was
  // probably meant, or "".
  std::vector<std::pair<std::string, std::string>> unknown_variables;
};

// The rows, bound to `options`, which outlives them. In the order of --help. A name has one row, or
// one for each command where it means something else (--json is a switch, and a FILE of `bench`).
std::vector<Setting> Schema(Options* options);
bool Has(const Setting& setting, Command command);
std::vector<Setting> BenchRows(loadgen::BenchOptions* options);  // of Schema, those of `bench`

}  // namespace trireme
