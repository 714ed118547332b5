#include "runtime/engine/refusals.h"

#include "runtime/base/status.h"
#include "runtime/base/strings.h"

namespace trireme {

absl::Status Overloaded(std::string_view why) {
  return WithCode(absl::ResourceExhaustedError(ToAbsl(why)), "overloaded");
}

absl::Status Loading() {
  return WithCode(absl::UnavailableError("the model is loading: try again in a moment"), "loading");
}

absl::Status Draining() {
  return WithCode(absl::UnavailableError("the server is draining: send the request to another one"),
                  "draining");
}

absl::Status ShuttingDown() {
  return WithCode(absl::UnavailableError("the server is shutting down"), "shutting_down");
}

}  // namespace trireme
