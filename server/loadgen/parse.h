// Numbers and times as people write them on the command line.
#pragma once

#include <optional>
#include <string_view>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace trireme::loadgen {

// nullopt unless all of `text` is one finite number.
std::optional<double> ParseNumber(std::string_view text);

// "250ms", "1.5s", "2m"; positive and at most 30 days.
absl::StatusOr<absl::Duration> ParseTime(std::string_view text);

}  // namespace trireme::loadgen
