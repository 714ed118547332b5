// A node that computes some of the ranks of a model that another node serves.
#pragma once

#include <functional>

#include "absl/status/status.h"
#include "server/node/load.h"

namespace trireme {

struct FollowEvents {
  LoadProgress progress;
  std::function<void()> ready;  // every step from now on is computed
  // From another thread: the leader is gone, and Follow may never return.
  std::function<void(const absl::Status& error)> lost;
};

// Joins the leader of options.group, loads, and computes steps until the leader stops: OK then.
// Nothing that the leader sends is trusted: what is outside the model's bounds is an error, and so
// is a step that fails or takes too long.
absl::Status Follow(const LoadOptions& options, const FollowEvents& events);

}  // namespace trireme
