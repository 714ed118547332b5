// What a node says when it cannot take or finish a request: one status for each reason, whoever
// says it, so that every door has the same answer and the same machine-readable code.
#pragma once

#include <string_view>

#include "absl/status/status.h"

namespace trireme {

// RESOURCE_EXHAUSTED, code "overloaded": something bounded is full, the same request may succeed a
// moment later. `why` is the message.
absl::Status Overloaded(std::string_view why);
// UNAVAILABLE, code "loading": the model is not there yet, the same request may succeed later.
absl::Status Loading();
// UNAVAILABLE, code "draining": nothing new is taken any more, what runs may finish.
absl::Status Draining();
// UNAVAILABLE, code "shutting_down": ends what was running when the time to drain was over.
absl::Status ShuttingDown();

}  // namespace trireme
