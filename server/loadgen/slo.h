// What counts as a good answer.
#pragma once

#include <optional>
#include <string_view>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace trireme::loadgen {

// "ttft=500ms,itl=50ms,e2e=10s"; each part once, at least one. A request meets it when it
// succeeded, its first token came within ttft, the mean of its gaps between tokens is at most itl,
// and its end came within e2e.
struct Slo {
  std::optional<absl::Duration> ttft, itl, e2e;

  static absl::StatusOr<Slo> Parse(std::string_view text);
  bool any() const { return ttft || itl || e2e; }
};

}  // namespace trireme::loadgen
