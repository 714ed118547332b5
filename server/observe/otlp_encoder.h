// Finished requests as OTLP spans: the JSON encoding of ExportTraceServiceRequest
// (opentelemetry-proto 1.x; ids in hexadecimal, 64-bit integers as strings).
//
// A request is one SERVER span, child of the caller's span if there is one, with the children
// `queue`, `prefill` and `decode`. Attributes follow the semantic conventions for HTTP and gRPC
// servers and for generative AI (gen_ai.*, 1.37); no content is in them.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "server/observe/finished_request.h"

namespace trireme {

// `resource`: attributes of the service.
std::string EncodeTraces(const std::vector<std::pair<std::string, std::string>>& resource,
                         const std::vector<std::shared_ptr<const FinishedRequest>>& requests);

}  // namespace trireme
