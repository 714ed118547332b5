#include "server/loadgen/report.h"

#include <cstdarg>
#include <cstdio>

#include "runtime/base/strings.h"

namespace trireme::loadgen {
namespace {

__attribute__((format(printf, 1, 2))) std::string Format(const char* format, ...) {
  char text[512];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  return text;
}

std::string LatencyLine(const char* name, const Histogram& histogram) {
  const auto ms = [&](double percent) { return histogram.PercentileNs(percent) / 1e6; };
  return Format("  %-6s %9.2f %9.2f %9.2f %9.2f %9.2f\n", name, histogram.mean_ns() / 1e6, ms(50),
                ms(90), ms(99), static_cast<double>(histogram.max_ns()) / 1e6);
}

std::string LevelText(const BenchOptions& options, const LevelResult& result) {
  const Summary& summary = result.summary;
  const long long requests = summary.completed() + summary.failed();
  std::string out = Format(
      "%s: %lld requests in %.2f s, %lld failed\n"
      "  %.2f requests/s   tokens/s: %.1f in, %.1f out\n",
      LevelName(result.level).c_str(), requests, summary.duration_s(),
      static_cast<long long>(summary.failed()), summary.requests_per_s(), summary.tokens_in_per_s(),
      summary.tokens_out_per_s());
  if (options.slo.any()) {
    out += Format("  goodput %.2f requests/s: %.1f %% of the requests met the SLO\n",
                  summary.goodput_per_s(), summary.good_share() * 100);
  }
  out += "  ms          mean       p50       p90       p99       max\n";
  out += LatencyLine("TTFT", summary.ttft());
  out += LatencyLine("ITL", summary.itl());
  out += LatencyLine("E2E", summary.e2e());
  if (summary.resent() > 0) {
    StrAppend(&out, "  resent: ", summary.resent(),
              " requests, whose connection the server had closed before it answered\n");
  }
  for (const auto& [kind, error] : summary.errors()) {
    StrAppend(&out, "  error ", kind, ": ", error.count,
              error.example.empty() ? "" : StrCat(" (", error.example, ")"), "\n");
  }
  return out;
}

}  // namespace

std::string LevelName(const Level& level) {
  return level.rate ? Format("rate %g/s", *level.rate) : StrCat("concurrency ", level.concurrency);
}

std::string TextReport(const BenchOptions& options, const BenchResult& result) {
  std::string out = StrCat(result.target.url, ", model ", Printable(result.model), "\n");
  for (const LevelResult& level : result.levels) out += LevelText(options, level);
  if (result.knee && result.knee->load > 0) {
    out +=
        Format("knee: %s %g, goodput %.2f requests/s; %s\n", options.rate ? "rate" : "concurrency",
               result.knee->load, result.knee->goodput_per_s, result.knee->reason.c_str());
  } else if (result.knee) {
    StrAppend(&out, "no knee: ", result.knee->reason, "\n");
  }
  if (!result.levels.empty()) {
    const Summary& last = result.levels.back().summary;
    out +=
        Format("client: %.2f ms of CPU per 1000 token events; sends %.2f ms late (p99)\n",
               last.client_cpu_s_per_1000_events() * 1e3, last.send_lag().PercentileNs(99) / 1e6);
    if (last.slot_wait().max_ns() > 0) {
      out +=
          Format("  and waits up to %.2f ms before, for fewer than %d in flight (p99 %.2f ms)\n",
                 static_cast<double>(last.slot_wait().max_ns()) / 1e6,
                 result.levels.back().level.max_in_flight, last.slot_wait().PercentileNs(99) / 1e6);
    }
  }
  if (result.interrupted) out += "interrupted: this is what was measured until then\n";
  return out;
}

}  // namespace trireme::loadgen
