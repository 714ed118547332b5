// The command line, the environment (TRIREME_*) and YAML files, from one schema.
//
// Precedence: flag, then environment, then --config file, then default. `--kv-cache-memory 2GiB`,
// TRIREME_KV_CACHE_MEMORY=2GiB and `kv-cache-memory: 2GiB` are the same setting.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "runtime/base/log.h"
#include "server/node/load.h"

namespace trireme {

struct ServeOptions {
  LoadOptions load;
  std::string host = "127.0.0.1";
  int http_port = 8000;
  int grpc_port = 8001;
  int io_threads = 1;
  int max_connections = 4096;
  int64_t max_body_bytes = int64_t{32} << 20;
  std::string api_keys_file;
  std::string tls_cert_file, tls_key_file;
  int drain_timeout_s = 30;
  std::string log_level = "info";
  std::string log_format = "text";
};

struct GenerateOptions {
  LoadOptions load;
  std::string prompt;  // empty: read standard input
  bool raw = false;    // no chat template
  std::string system;
  int max_tokens = 256;
  float temperature = -1;  // below 0: the model's default
  float top_p = -1;
  int top_k = -1;
  std::string seed;
  std::vector<std::string> stop;
  bool json = false;
};

struct InspectOptions {
  LoadOptions load;
  bool metadata = false;
  bool json = false;
};

enum class Command { kServe, kGenerate, kInspect, kExit };

struct ParsedCommandLine {
  Command command = Command::kExit;
  int exit_code =
      0;  // for kExit: help and version give 0, mistakes 2; everything has been printed already
  ServeOptions serve;
  GenerateOptions generate;
  InspectOptions inspect;
};

ParsedCommandLine ParseCommandLine(int argc, const char* const* argv);

// "2GiB", "512M", "1073741824" -> bytes. Shared by the schema and its tests.
absl::StatusOr<int64_t> ParseBytes(std::string_view text);

}  // namespace trireme
