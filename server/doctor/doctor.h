// trireme doctor: whether this machine, and a model on it, will serve well. Looks only; the network
// is not asked.
#pragma once

#include <string>

#include "server/doctor/finding.h"
#include "server/doctor/host.h"
#include "server/node/load.h"

namespace trireme::doctor {

// What `trireme serve` would be started with.
struct Settings {
  LoadOptions load;         // load.model empty: no model is checked
  std::string model_error;  // why load.model could not be turned into a path; empty: it could
  std::string address = "127.0.0.1";
  int http_port = 8000;
  int grpc_port = 8001;  // -1: none
  int max_connections = 4096;
  std::string api_keys_file, tls_cert_file, tls_key_file;
};

// Each check looks at one part. Those that need no settings see the host alone.
Findings CheckCpu(const Host& host);
Findings CheckMemory(const Host& host);
Findings CheckHugePages(const Host& host);
Findings CheckLimits(const Host& host, int max_connections);
Findings CheckGpus(const Host& host);
Findings CheckFabric(const Host& host);  // EFA, aws-ofi-nccl
Findings CheckClock(const Host& host);
Findings CheckPorts(const Host& host, const Settings& settings);
Findings CheckKeyFiles(const Host& host, const Settings& settings);
Findings CheckModel(const Host& host, const Settings& settings);

// All of them, in this order.
Findings Examine(const Host& host, const Settings& settings);

// For people: a block for each finding, then a count. ANSI colours when `colour`.
std::string TextReport(const Findings& findings, bool colour);
// {"version", "ok", "counts": {...}, "findings": [{level, check, seen, why, mend}]}
std::string JsonReport(const Findings& findings);

bool HasError(const Findings& findings);

}  // namespace trireme::doctor
