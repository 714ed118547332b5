// How far a ramp goes, and where its knee is.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace trireme::loadgen {

// A ramp ends when a level's goodput is not kMinGrowth above the best before, when fewer than
// kMinGoodShare of a level's requests meet the SLO, or after kMaxLevels.
inline constexpr double kMinGrowth = 0.05;
inline constexpr double kMinGoodShare = 0.9;
inline constexpr int kMaxLevels = 24;

struct Knee {
  double load;           // requests at a time or a second: the last level that was worth it
  double goodput_per_s;  // there
  std::string reason;    // why the ramp went no further
};

class Ramp {
 public:
  // `unit`: of the load, for people ("concurrency", "requests/s").
  // step: added from level to level; absent: levels double. Loads above `max` are not tried.
  Ramp(double start, std::optional<double> step, double max, std::string unit);

  double load() const { return load_; }  // of the level to run now
  // The result of that level. True: run load() now; false: knee() is known.
  bool Next(double goodput_per_s, double good_share);
  const Knee& knee() const { return knee_; }

 private:
  bool End(std::string reason);

  const std::optional<double> step_;
  const double max_;
  const std::string unit_;
  double load_;
  int levels_ = 0;
  Knee knee_{};  // load 0: no level was worth it
};

}  // namespace trireme::loadgen
