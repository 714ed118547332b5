#include "server/loadgen/lengths.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "absl/strings/str_split.h"
#include "runtime/base/strings.h"
#include "server/loadgen/parse.h"

namespace trireme::loadgen {
namespace {

bool IsLength(std::optional<double> value) {
  return value && *value >= 1 && *value <= kMaxLengthTokens && *value == std::floor(*value);
}

}  // namespace

absl::StatusOr<LengthDistribution> LengthDistribution::Parse(std::string_view text) {
  const std::vector<std::string> parts = absl::StrSplit(ToAbsl(text), ':');
  LengthDistribution out;
  out.text_ = std::string(text);
  if (parts.size() == 1) {
    const auto tokens = ParseNumber(parts[0]);
    if (IsLength(tokens)) {
      out.first_ = *tokens;
      return out;
    }
  } else if (parts.size() == 3) {
    const auto a = ParseNumber(parts[1]), b = ParseNumber(parts[2]);
    out.first_ = a.value_or(0);
    out.second_ = b.value_or(0);
    if (parts[0] == "uniform" && IsLength(a) && IsLength(b) && *a <= *b) {
      out.kind_ = Kind::kUniform;
      return out;
    }
    if (parts[0] == "lognormal" && a && *a >= 1 && *a <= kMaxLengthTokens && b && *b >= 0 &&
        *b <= 5) {
      out.kind_ = Kind::kLognormal;
      return out;
    }
  }
  return absl::InvalidArgumentError(
      StrCat("\"", Printable(text), "\" is no length; write 128, uniform:64:256 or ",
             "lognormal:MEAN:SIGMA (lengths from 1 to ", kMaxLengthTokens, ", sigma from 0 to 5)"));
}

LengthDistribution LengthDistribution::Fixed(int tokens) {
  LengthDistribution out;
  out.first_ = tokens;
  out.text_ = StrCat(tokens);
  return out;
}

int LengthDistribution::longest() const {
  return static_cast<int>(kind_ == Kind::kUniform ? second_ : first_);
}

int LengthDistribution::Draw(Random* random) const {
  switch (kind_) {
    case Kind::kFixed:
      break;
    case Kind::kUniform:
      return static_cast<int>(first_) +
             static_cast<int>(random->Below(static_cast<uint64_t>(second_ - first_) + 1));
    case Kind::kLognormal: {
      // The mean of exp(N(mu, sigma)) is exp(mu + sigma^2 / 2).
      const double mu = std::log(first_) - second_ * second_ / 2;
      const double drawn = std::exp(mu + second_ * random->Normal());
      return static_cast<int>(std::clamp(std::round(drawn), 1.0, double{kMaxLengthTokens}));
    }
  }
  return static_cast<int>(first_);
}

}  // namespace trireme::loadgen
