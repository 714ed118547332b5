// Where traces go: the standard environment variables of OpenTelemetry ("OpenTelemetry Protocol
// Exporter", "Environment Variable Specification", 1.50), under what the command line says.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace trireme {

struct OtlpOptions {
  std::string url;  // of the collector's /v1/traces; empty: nothing is exported
  std::vector<std::pair<std::string, std::string>> headers;   // may hold secrets: never logged
  std::vector<std::pair<std::string, std::string>> resource;  // attributes; has service.name
  std::string ca_file;      // PEM; whom to trust instead of the system's authorities; empty: those
  double sample_ratio = 1;  // of traces that begin here, 0 to 1
  bool follow_callers = true;                  // a caller's sampling decision beats the ratio
  size_t max_queued = 2048;                    // requests; more are dropped
  size_t max_batch = 512;                      // requests of one export
  absl::Duration delay = absl::Seconds(5);     // a batch that is not full waits at most so long
  absl::Duration timeout = absl::Seconds(10);  // of one export
};

// A variable's value; nullopt when it is unset or empty.
using Environment = std::function<std::optional<std::string>(std::string_view name)>;
std::optional<std::string> ProcessEnvironment(std::string_view name);

// `endpoint`: --otlp-endpoint; if empty, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT (the whole URL), then
// OTEL_EXPORTER_OTLP_ENDPOINT. /v1/traces is appended to the first and the last. Also read, and
// nothing else:
//
//   OTEL_SDK_DISABLED=true, OTEL_TRACES_EXPORTER=none     switch the variables off (not the flag);
//                                                         the latter's other value is otlp
//   OTEL_EXPORTER_OTLP_[TRACES_]PROTOCOL                  http/json, or http/protobuf: JSON is sent
//                                                         all the same; grpc is refused
//   OTEL_EXPORTER_OTLP_[TRACES_]HEADERS                   key=value,...
//   OTEL_EXPORTER_OTLP_[TRACES_]TIMEOUT                   milliseconds
//   OTEL_EXPORTER_OTLP_[TRACES_]CERTIFICATE               a PEM file
//   OTEL_TRACES_SAMPLER, OTEL_TRACES_SAMPLER_ARG          [parentbased_]always_on, _always_off,
//                                                         _traceidratio
//   OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES           UTF-8
//   OTEL_BSP_SCHEDULE_DELAY, OTEL_BSP_MAX_QUEUE_SIZE, OTEL_BSP_MAX_EXPORT_BATCH_SIZE
//
// `sample_ratio`: --otlp-sample-ratio; nullopt: not given, the sampler's variables decide.
// INVALID_ARGUMENT names the variable and never its value.
absl::StatusOr<OtlpOptions> ReadOtlpOptions(std::string_view endpoint,
                                            std::optional<double> sample_ratio,
                                            const Environment& environment);

}  // namespace trireme
