// How long prompts and answers are.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "server/loadgen/random.h"

namespace trireme::loadgen {

inline constexpr int kMaxLengthTokens = 1 << 20;

// "128" (always), "uniform:64:256" (both ends included), "lognormal:200:0.8" (mean of the lengths
// in tokens, sigma of their logarithm; cut to 1..kMaxLengthTokens).
class LengthDistribution {
 public:
  static absl::StatusOr<LengthDistribution> Parse(std::string_view text);
  static LengthDistribution Fixed(int tokens);

  int Draw(Random* random) const;
  int longest() const;                               // of a lognormal, which has no end: its mean
  const std::string& text() const { return text_; }  // as it was parsed

 private:
  enum class Kind { kFixed, kUniform, kLognormal };
  Kind kind_ = Kind::kFixed;
  double first_ = 1, second_ = 1;
  std::string text_;
};

}  // namespace trireme::loadgen
