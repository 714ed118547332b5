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
  double sample_ratio = 1;   // of traces that begin here, 0 to 1; callers' decisions are followed
  size_t max_queued = 2048;  // requests; more are dropped
  size_t max_batch = 512;    // requests of one export
  absl::Duration delay = absl::Seconds(5);  // a batch that is not full waits at most so long
};

// A variable's value; nullopt when it is unset or empty.
using Environment = std::function<std::optional<std::string>(std::string_view name)>;
std::optional<std::string> ProcessEnvironment(std::string_view name);

// `endpoint`: --otlp-endpoint; if empty, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT (the whole URL), then
// OTEL_EXPORTER_OTLP_ENDPOINT. /v1/traces is appended to the first and the last. Also read:
// OTEL_EXPORTER_OTLP_[TRACES_]HEADERS, OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES,
// OTEL_BSP_{SCHEDULE_DELAY,MAX_QUEUE_SIZE,MAX_EXPORT_BATCH_SIZE}; OTEL_SDK_DISABLED=true and
// OTEL_TRACES_EXPORTER=none switch variables off (not the flag). INVALID_ARGUMENT names the
// variable and never its value.
absl::StatusOr<OtlpOptions> ReadOtlpOptions(std::string_view endpoint, double sample_ratio,
                                            const Environment& environment);

}  // namespace trireme
