#include <boost/json.hpp>
#include <charconv>
#include <cmath>

#include "runtime/base/strings.h"
#include "runtime/base/version.h"
#include "server/loadgen/report.h"

namespace trireme::loadgen {
namespace {

namespace json = boost::json;

// Shortest digits of six that matter: Boost.JSON would write 2.5E0 for 2.5.
void AppendNumber(double value, std::string* out) {
  if (!std::isfinite(value)) value = 0;
  char text[64];
  const auto end = std::to_chars(text, text + sizeof text, value, std::chars_format::general, 6);
  out->append(text, end.ptr);
}

void AppendIndented(const json::value& value, int depth, std::string* out) {
  const std::string indent(static_cast<size_t>(depth + 1) * 2, ' ');
  const std::string outer(static_cast<size_t>(depth) * 2, ' ');
  const char* separator = "";
  if (const json::object* object = value.if_object(); object != nullptr && !object->empty()) {
    *out += '{';
    for (const auto& [key, member] : *object) {
      StrAppend(out, separator, "\n", indent, json::serialize(key), ": ");
      AppendIndented(member, depth + 1, out);
      separator = ",";
    }
    StrAppend(out, "\n", outer, "}");
  } else if (const json::array* array = value.if_array(); array != nullptr && !array->empty()) {
    const bool flat = !array->front().is_structured();
    *out += '[';
    for (const json::value& item : *array) {
      *out += separator;
      if (!flat) StrAppend(out, "\n", indent);
      AppendIndented(item, depth + 1, out);
      separator = flat ? ", " : ",";
    }
    if (!flat) StrAppend(out, "\n", outer);
    *out += ']';
  } else if (value.is_double()) {
    AppendNumber(value.get_double(), out);
  } else {
    *out += json::serialize(value);
  }
}

json::value Latency(const Histogram& histogram) {
  const auto ms = [&](double percent) { return histogram.PercentileNs(percent) / 1e6; };
  return json::object{{"count", histogram.count()},
                      {"mean", histogram.mean_ns() / 1e6},
                      {"p50", ms(50)},
                      {"p90", ms(90)},
                      {"p99", ms(99)},
                      {"max", static_cast<double>(histogram.max_ns()) / 1e6}};
}

json::object Load(const Level& level) {
  json::object out;
  if (level.rate) {
    out["mode"] = "open";
    out["rate"] = *level.rate;
    out["arrivals"] = level.arrivals == ArrivalKind::kConstant ? "constant" : "poisson";
    out["max_in_flight"] = level.max_in_flight;
  } else {
    out["mode"] = "closed";
    out["concurrency"] = level.concurrency;
  }
  return out;
}

json::object LevelJson(const LevelResult& result) {
  const Summary& summary = result.summary;
  json::object errors, examples;
  for (const auto& [kind, error] : summary.errors()) {
    errors[kind] = error.count;
    examples[kind] = error.example;
  }
  json::array by_second;
  for (const int64_t count : summary.token_events_by_second()) by_second.push_back(count);
  return {
      {"load", Load(result.level)},
      {"duration_s", summary.duration_s()},
      {"requests",
       {{"total", summary.completed() + summary.failed()},
        {"completed", summary.completed()},
        {"failed", summary.failed()},
        {"within_slo", summary.good()},
        {"resent", summary.resent()}}},
      {"errors", errors},
      {"error_examples", examples},
      {"requests_per_s", summary.requests_per_s()},
      {"goodput_requests_per_s", summary.goodput_per_s()},
      {"slo_met_share", summary.good_share()},
      {"tokens_in", summary.tokens_in()},
      {"tokens_in_cached", summary.cached_tokens()},
      {"tokens_in_per_s", summary.tokens_in_per_s()},
      {"tokens_out", summary.tokens_out()},
      {"tokens_out_per_s", summary.tokens_out_per_s()},
      {"tokens_from", summary.usage_complete() ? "usage" : "usage where given, else token events"},
      {"token_events", summary.token_events()},
      {"token_events_per_s", summary.token_events_per_s()},
      {"ttft_ms", Latency(summary.ttft())},
      {"itl_ms", Latency(summary.itl())},
      {"e2e_ms", Latency(summary.e2e())},
      {"client",
       {{"cpu_s", summary.client_cpu_s()},
        {"cpu_s_per_1000_token_events", summary.client_cpu_s_per_1000_events()},
        {"send_lag_ms", Latency(summary.send_lag())},
        {"slot_wait_ms", Latency(summary.slot_wait())}}},
      {"token_events_by_second", by_second},
  };
}

json::object SloJson(const Slo& slo) {
  json::object out;
  if (slo.ttft) out["ttft_ms"] = absl::ToDoubleMilliseconds(*slo.ttft);
  if (slo.itl) out["itl_ms"] = absl::ToDoubleMilliseconds(*slo.itl);
  if (slo.e2e) out["e2e_ms"] = absl::ToDoubleMilliseconds(*slo.e2e);
  return out;
}

json::object WorkloadJson(const BenchOptions& options, const BenchResult& result) {
  const WorkloadOptions& workload = options.workload;
  json::object out;
  if (workload.dataset_file.empty()) {
    out["prompt_tokens"] = workload.prompt_tokens.text();
    out["tokens_per_word"] = result.scale.tokens_per_word;
    out["template_tokens"] = result.scale.overhead_tokens;
  } else {
    out["dataset"] = Printable(workload.dataset_file, 4096);
    out["dataset_prompts"] = result.dataset_prompts;
    out["dataset_skipped"] = result.dataset_skipped;
  }
  out["output_tokens"] =
      workload.output_tokens ? json::value(workload.output_tokens->text()) : json::value("default");
  out["shared_prefix_share"] = workload.shared_prefix_share;
  out["shared_prefix_tokens"] = workload.shared_prefix_tokens;
  out["ignore_eos"] = workload.ignore_eos;
  return out;
}

}  // namespace

std::string JsonReport(const BenchOptions& options, const BenchResult& result) {
  json::object out = {
      {"trireme_bench", kReportFormat},
      {"version", kVersion},
      {"target", result.target.url},
      {"protocol", result.target.grpc ? "grpc" : "http"},
      {"endpoint", options.target.endpoint},
      {"model", Printable(result.model, 256)},
      {"seed", options.seed},
      {"warmup_requests", options.warmup_requests},
      {"workload", WorkloadJson(options, result)},
      {"slo", SloJson(options.slo)},
      {"percentile_relative_error", Histogram::kRelativeError},
      {"interrupted", result.interrupted},
  };
  json::array levels;
  for (const LevelResult& level : result.levels) levels.push_back(LevelJson(level));
  out["levels"] = std::move(levels);
  if (result.knee) {
    out["knee"] = json::object{
        {options.rate ? "rate" : "concurrency",
         result.knee->load > 0 ? json::value(result.knee->load) : json::value(nullptr)},
        {"goodput_requests_per_s", result.knee->goodput_per_s},
        {"reason", result.knee->reason}};
  }
  std::string text;
  AppendIndented(out, 0, &text);
  return text + "\n";
}

}  // namespace trireme::loadgen
