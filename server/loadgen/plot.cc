#include "server/loadgen/plot.h"

#include <algorithm>

#include "runtime/base/strings.h"
#include "server/loadgen/chart.h"
#include "server/loadgen/report.h"

namespace trireme::loadgen {
namespace {

constexpr int kWidth = 960, kHeight = 360, kTitleHeight = 30;
constexpr size_t kMaxPoints = 400;  // of a line; more than pixels show
constexpr Color kInk{40, 44, 52}, kPaper{255, 255, 255};

// Averages of neighbours, so that hours fit; without the last second, which is none in full.
Series PerSecond(const Summary& summary) {
  Series series{.name = "token events/s"};
  std::vector<int64_t> counts = summary.token_events_by_second();
  if (counts.size() > 1)
    counts.resize(std::min(counts.size(), static_cast<size_t>(summary.duration_s())));
  const size_t group = counts.size() / kMaxPoints + 1;
  for (size_t begin = 0; begin < counts.size(); begin += group) {
    const size_t end = std::min(begin + group, counts.size());
    double sum = 0;
    for (size_t i = begin; i < end; ++i) sum += static_cast<double>(counts[i]);
    series.points.emplace_back(static_cast<double>(begin), sum / static_cast<double>(end - begin));
  }
  return series;
}

Series ByPercentile(const char* name, const Histogram& histogram) {
  Series series{.name = name};
  if (histogram.count() == 0) return series;
  for (int percent = 0; percent <= 100; ++percent) {
    series.points.emplace_back(percent, histogram.PercentileNs(percent) / 1e6);
  }
  return series;
}

std::vector<Chart> RunCharts(const LevelResult& result) {
  const Summary& summary = result.summary;
  return {{.title = "Throughput, " + LevelName(result.level),
           .x_label = "second of the run",
           .series = {PerSecond(summary)}},
          {.title = "Latency in ms (log)",
           .x_label = "percentile",
           .log_y = true,
           .series = {ByPercentile("TTFT", summary.ttft()), ByPercentile("ITL", summary.itl()),
                      ByPercentile("E2E", summary.e2e())}}};
}

std::vector<Chart> RampCharts(const BenchResult& result) {
  const bool open = result.levels.front().level.rate.has_value();
  Series requests{.name = "requests/s"}, good{.name = "goodput"};
  Series ttft50{.name = "TTFT p50"}, ttft99{.name = "TTFT p99"};
  Series itl50{.name = "ITL p50"}, itl99{.name = "ITL p99"};
  // A ramp goes back to find its knee.
  std::vector<std::pair<double, const Summary*>> by_load;
  for (const LevelResult& level : result.levels) {
    by_load.emplace_back(open ? *level.level.rate : level.level.concurrency, &level.summary);
  }
  std::sort(by_load.begin(), by_load.end());
  for (const auto& [load, level] : by_load) {
    const Summary& summary = *level;
    requests.points.emplace_back(load, summary.requests_per_s());
    good.points.emplace_back(load, summary.goodput_per_s());
    ttft50.points.emplace_back(load, summary.ttft().PercentileNs(50) / 1e6);
    ttft99.points.emplace_back(load, summary.ttft().PercentileNs(99) / 1e6);
    itl50.points.emplace_back(load, summary.itl().PercentileNs(50) / 1e6);
    itl99.points.emplace_back(load, summary.itl().PercentileNs(99) / 1e6);
  }
  const std::string x_label = open ? "requests/s sent (log)" : "concurrency (log)";
  std::vector<Chart> charts = {{.title = "Throughput in requests/s",
                                .x_label = x_label,
                                .log_x = true,
                                .series = {requests, good}},
                               {.title = "Latency in ms (log)",
                                .x_label = x_label,
                                .log_x = true,
                                .log_y = true,
                                .series = {ttft50, ttft99, itl50, itl99}}};
  if (result.knee && result.knee->load > 0) {
    for (Chart& chart : charts) {
      chart.mark_x = result.knee->load;
      chart.mark_name = "knee";
    }
  }
  return charts;
}

}  // namespace

std::string Plot(const BenchResult& result, std::string_view path) {
  const auto canvas =
      path.ends_with(".svg") ? MakeSvgCanvas(kWidth, kHeight) : MakePngCanvas(kWidth, kHeight);
  canvas->Rect({0, 0}, kWidth, kHeight, kPaper);
  canvas->Text({16, 20},
               StrCat("trireme bench: ", Printable(result.target.url, 80), ", ",
                      Printable(result.model, 60)),
               Align::kLeft, kInk);
  if (!result.levels.empty()) {
    const std::vector<Chart> charts =
        result.levels.size() > 1 ? RampCharts(result) : RunCharts(result.levels.front());
    const double width = static_cast<double>(kWidth) / static_cast<double>(charts.size());
    for (size_t i = 0; i < charts.size(); ++i) {
      DrawChart(charts[i], {width * static_cast<double>(i), kTitleHeight}, width,
                kHeight - kTitleHeight, canvas.get());
    }
  }
  return canvas->Finish();
}

}  // namespace trireme::loadgen
