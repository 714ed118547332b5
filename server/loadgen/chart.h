// Line charts.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "server/loadgen/canvas.h"

namespace trireme::loadgen {

struct Series {
  std::string name;
  std::vector<std::pair<double, double>> points;  // finite; by x
};

struct Chart {
  std::string title, x_label;
  bool log_x = false, log_y = false;  // points that are not positive are left out then
  std::vector<Series> series;
  std::optional<double> mark_x;  // a vertical line, named mark_name
  std::string mark_name;
};

// Where an axis has its numbers: a few round ones from `low` to `high` (low < high; positive for
// log axes).
std::vector<double> Ticks(double low, double high, bool log);

// One chart with axes and legend within the rectangle.
void DrawChart(const Chart& chart, Point corner, double width, double height, Canvas* canvas);

}  // namespace trireme::loadgen
