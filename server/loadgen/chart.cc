#include "server/loadgen/chart.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>

namespace trireme::loadgen {
namespace {

constexpr Color kInk{40, 44, 52}, kFaint{222, 226, 230}, kMark{150, 150, 150};
// Told apart by people with any colour vision (Okabe and Ito).
constexpr Color kSeries[] = {{0, 114, 178}, {213, 94, 0}, {0, 158, 115}, {204, 121, 167}};
constexpr double kLeft = 62, kRight = 14, kTop = 40, kBottom = 34;

std::string TickText(double value) {
  char text[32];
  if (std::abs(value) >= 10000) {
    std::snprintf(text, sizeof text, value >= 1e6 ? "%.3gM" : "%.3gk",
                  value / (value >= 1e6 ? 1e6 : 1e3));
  } else {
    std::snprintf(text, sizeof text, "%g", std::round(value * 1e6) / 1e6);
  }
  return text;
}

// From values to places on one axis.
struct Axis {
  bool log = false;
  double low = 0, high = 1;  // values at its ends
  double from = 0, to = 1;   // places

  double Place(double value) const {
    const double share =
        log ? std::log(value / low) / std::log(high / low) : (value - low) / (high - low);
    return from + std::clamp(share, 0.0, 1.0) * (to - from);
  }
  bool Shows(double value) const { return !log || value > 0; }
};

// The axis's ends: round numbers around the data; zero is one of a linear axis.
void Fit(const std::vector<double>& values, Axis* axis) {
  double low = std::numeric_limits<double>::infinity(), high = -low;
  for (const double value : values) {
    if (!axis->Shows(value)) continue;
    low = std::min(low, value);
    high = std::max(high, value);
  }
  if (low > high) low = high = 1;
  if (!axis->log) {
    axis->low = std::min(low, 0.0);
    axis->high = high > axis->low ? high * 1.05 : axis->low + 1;
  } else {
    axis->low = low / 1.2;
    axis->high = high * 1.2;
  }
}

}  // namespace

std::vector<double> Ticks(double low, double high, bool log) {
  std::vector<double> ticks;
  if (log) {
    // Decades; their doubles and fives, too, when there are few of them.
    const bool dense = high / low < 1000;
    for (double decade = std::pow(10, std::floor(std::log10(low))); decade <= high; decade *= 10) {
      for (const double factor : {1.0, 2.0, 5.0}) {
        const double tick = decade * factor;
        if ((factor == 1 || dense) && tick >= low && tick <= high) ticks.push_back(tick);
      }
    }
    return ticks;
  }
  const double rough = (high - low) / 6;
  const double decade = std::pow(10, std::floor(std::log10(rough)));
  double step = decade * 10;
  for (const double factor : {5.0, 2.0, 1.0}) {
    if (decade * factor >= rough) step = decade * factor;
  }
  for (double i = std::ceil(low / step); i * step <= high; ++i) ticks.push_back(i * step);
  return ticks;
}

void DrawChart(const Chart& chart, Point corner, double width, double height, Canvas* canvas) {
  std::vector<double> xs, ys;
  for (const Series& series : chart.series) {
    for (const auto& [x, y] : series.points) {
      xs.push_back(x);
      ys.push_back(y);
    }
  }
  Axis x{.log = chart.log_x, .from = corner.x + kLeft, .to = corner.x + width - kRight};
  Axis y{.log = chart.log_y, .from = corner.y + height - kBottom, .to = corner.y + kTop};
  Fit(xs, &x);
  Fit(ys, &y);

  canvas->Text({corner.x + kLeft, corner.y + 14}, chart.title, Align::kLeft, kInk);
  for (const double tick : Ticks(y.low, y.high, y.log)) {
    canvas->Line({{x.from, y.Place(tick)}, {x.to, y.Place(tick)}}, 1, kFaint);
    canvas->Text({x.from - 6, y.Place(tick) + 3}, TickText(tick), Align::kRight, kInk);
  }
  for (const double tick : Ticks(x.low, x.high, x.log)) {
    canvas->Line({{x.Place(tick), y.from}, {x.Place(tick), y.from + 4}}, 1, kInk);
    canvas->Text({x.Place(tick), y.from + 15}, TickText(tick), Align::kCenter, kInk);
  }
  canvas->Text({(x.from + x.to) / 2, y.from + 28}, chart.x_label, Align::kCenter, kInk);
  canvas->Line({{x.from, y.to}, {x.from, y.from}, {x.to, y.from}}, 1, kInk);
  if (chart.mark_x && x.Shows(*chart.mark_x)) {
    const double place = x.Place(*chart.mark_x);
    canvas->Line({{place, y.from}, {place, y.to}}, 1, kMark);
    canvas->Text({place - 4, y.to + 10}, chart.mark_name, Align::kRight, kInk);
  }

  double legend = x.from;
  for (size_t i = 0; i < chart.series.size(); ++i) {
    const Series& series = chart.series[i];
    const Color color = kSeries[i % std::size(kSeries)];
    std::vector<Point> line;
    for (const auto& [px, py] : series.points) {
      if (x.Shows(px) && y.Shows(py)) line.push_back({x.Place(px), y.Place(py)});
    }
    canvas->Line(line, 1.5, color);
    if (line.size() <= 32) {  // few enough to be seen as points
      for (const Point& p : line) canvas->Rect({p.x - 2, p.y - 2}, 4, 4, color);
    }
    canvas->Rect({legend, corner.y + 24}, 10, 3, color);
    canvas->Text({legend + 14, corner.y + 29}, series.name, Align::kLeft, kInk);
    legend += 30 + static_cast<double>(series.name.size()) * Canvas::kCharWidth;
  }
}

}  // namespace trireme::loadgen
