#include "server/loadgen/ramp.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <utility>

#include "runtime/base/strings.h"

namespace trireme::loadgen {
namespace {

// Steps are compared over at least this growth of the load: over a smaller one, half of what
// goodput should grow by is no more than what it varies by.
constexpr double kMinLoadGrowth = 1.5;
// Of the best goodput. Levels of a stepping ramp that differ by less are as good as each other.
constexpr double kAsGood = 0.95;

std::string Percent(double share) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f %%", share * 100);
  return text;
}

}  // namespace

Ramp::Ramp(double start, std::optional<double> step, double max, std::string unit, bool whole)
    : step_(step), max_(max), unit_(std::move(unit)), whole_(whole), load_(start) {}

bool Ramp::End(std::string reason) {
  knee_.reason = std::move(reason);
  if (good_.empty()) return false;
  Level knee = good_.back();
  // Small steps go on for a while where goodput has ceased to grow.
  if (step_ && too_much_) {
    double best = 0;
    for (const Level& level : good_) best = std::max(best, level.goodput_per_s);
    for (const Level& level : good_) {
      if (level.goodput_per_s < kAsGood * best) continue;
      knee = level;
      break;
    }
  }
  knee_.load = knee.load;
  knee_.goodput_per_s = knee.goodput_per_s;
  return false;
}

const Ramp::Level* Ramp::Reference() const {
  if (good_.empty()) return nullptr;
  if (!step_) return &good_.back();
  const Level* reference = &good_.front();
  for (const Level& level : good_) {
    if (level.load * kMinLoadGrowth <= load_) reference = &level;
  }
  return reference;
}

std::string Ramp::TooMuch(double goodput_per_s, double good_share) const {
  const std::string here = StrCat(" at ", unit_, " ", load_);
  if (good_share < kMinGoodShare) {
    return StrCat("only ", Percent(good_share), " of the requests", here,
                  " succeeded within the SLO");
  }
  const Level* reference = Reference();
  if (reference == nullptr) return "";
  const double load_growth = load_ / reference->load - 1;
  const double growth = goodput_per_s / reference->goodput_per_s - 1;
  if (growth >= kMinGrowthShare * load_growth) return "";
  return StrCat("goodput changed by ", Percent(growth), here, ", for ", Percent(load_growth),
                " more load than at ", reference->load);
}

bool Ramp::Up() {
  double next = step_ ? load_ + *step_ : load_ * 2;
  if (whole_) next = std::max(std::round(next), load_ + 1);
  if (good_.size() == kMaxLevels) {
    return End(StrCat("goodput still grew after ", good_.size(), " levels"));
  }
  if (next > max_)
    return End(StrCat("goodput still grew; ", max_, " is the most that bench drives"));
  load_ = next;
  return true;
}

bool Ramp::Bisect() {
  const double low = good_.back().load;
  double middle = (low + *too_much_) / 2;
  if (whole_) middle = std::floor(middle);
  if (middle <= low || bisections_++ == kMaxBisections) return End(why_);
  load_ = middle;
  return true;
}

bool Ramp::Next(double goodput_per_s, double good_share) {
  const std::string why = TooMuch(goodput_per_s, good_share);
  if (why.empty()) {
    good_.push_back({load_, goodput_per_s});
    return too_much_ ? Bisect() : Up();
  }
  too_much_ = load_;
  why_ = why;
  return step_ || good_.empty() ? End(why_) : Bisect();
}

}  // namespace trireme::loadgen
