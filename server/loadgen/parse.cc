#include "server/loadgen/parse.h"

#include <charconv>
#include <cmath>

#include "runtime/base/strings.h"

namespace trireme::loadgen {

std::optional<double> ParseNumber(std::string_view text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !std::isfinite(value)) {
    return std::nullopt;
  }
  return value;
}

absl::StatusOr<absl::Duration> ParseTime(std::string_view text) {
  absl::Duration time;
  if (absl::ParseDuration(ToAbsl(text), &time) && time > absl::ZeroDuration() &&
      time <= absl::Hours(24 * 30)) {
    return time;
  }
  return absl::InvalidArgumentError(
      StrCat("\"", Printable(text), "\" is no time; write 250ms, 1.5s or 2m"));
}

}  // namespace trireme::loadgen
