// How far a ramp goes, and where its knee is.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace trireme::loadgen {

// A level is too much when fewer than kMinGoodShare of its requests meet the SLO, or when goodput
// grew by less than kMinGrowthShare of what the load grew by: 0.5 of +100 % is +50 %.
inline constexpr double kMinGrowthShare = 0.5;
inline constexpr double kMinGoodShare = 0.9;
inline constexpr int kMaxLevels = 24;  // of doubling or stepping
inline constexpr int kMaxBisections =
    3;  // after doubling: between the last good level and too much

struct Knee {
  double load;           // requests at a time or a second: the last level that was worth it
  double goodput_per_s;  // there
  std::string reason;    // why it is not higher: names the lowest load that was too much
};

class Ramp {
 public:
  // `unit`: of the load, for people ("concurrency", "requests/s"). `whole`: loads are whole
  // numbers. step: added from level to level; absent: levels double until one is too much, then
  // halve the distance to the last good one. Loads above `max` are not tried.
  Ramp(double start, std::optional<double> step, double max, std::string unit, bool whole);

  double load() const { return load_; }  // of the level to run now
  // The result of that level. True: run load() now; false: knee() is known.
  bool Next(double goodput_per_s, double good_share);
  const Knee& knee() const { return knee_; }

 private:
  struct Level {
    double load, goodput_per_s;
  };
  // Why load() is too much; empty: it is not.
  std::string TooMuch(double goodput_per_s, double good_share) const;
  // What load() is compared with; null: nothing yet.
  const Level* Reference() const;
  bool Up();
  bool Bisect();
  bool End(std::string reason);

  const std::optional<double> step_;
  const double max_;
  const std::string unit_;
  const bool whole_;
  double load_;
  std::vector<Level> good_;         // by load
  std::optional<double> too_much_;  // the lowest that was
  std::string why_;
  int bisections_ = 0;
  Knee knee_{};  // load 0: no level was worth it
};

}  // namespace trireme::loadgen
