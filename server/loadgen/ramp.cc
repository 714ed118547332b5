#include "server/loadgen/ramp.h"

#include <cstdio>
#include <utility>

#include "runtime/base/strings.h"

namespace trireme::loadgen {
namespace {

std::string Percent(double share) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f %%", share * 100);
  return text;
}

}  // namespace

Ramp::Ramp(double start, std::optional<double> step, double max, std::string unit)
    : step_(step), max_(max), unit_(std::move(unit)), load_(start) {}

bool Ramp::End(std::string reason) {
  knee_.reason = std::move(reason);
  return false;
}

bool Ramp::Next(double goodput_per_s, double good_share) {
  const std::string here = StrCat("at ", unit_, " ", load_);
  if (good_share < kMinGoodShare) {
    return End(StrCat("only ", Percent(good_share), " of the requests ", here,
                      " succeeded within the SLO"));
  }
  const double best = knee_.goodput_per_s;
  if (goodput_per_s < best * (1 + kMinGrowth)) {
    return End(StrCat("goodput changed by ", Percent(goodput_per_s / best - 1), " ", here));
  }
  knee_.load = load_;
  knee_.goodput_per_s = goodput_per_s;
  const double next = step_ ? load_ + *step_ : load_ * 2;
  if (++levels_ == kMaxLevels) return End(StrCat("goodput still grew after ", levels_, " levels"));
  if (next > max_)
    return End(StrCat("goodput still grew; ", max_, " is the most that bench drives"));
  load_ = next;
  return true;
}

}  // namespace trireme::loadgen
