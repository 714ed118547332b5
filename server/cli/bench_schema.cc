// The rows of `trireme bench`.
#include "server/cli/schema.h"
#include "server/loadgen/parse.h"

namespace trireme {
namespace {

using loadgen::LengthDistribution;
using loadgen::ParseTime;
using loadgen::Slo;

constexpr unsigned kBench = static_cast<unsigned>(Command::kBench);
constexpr int kMaxCount = 1 << 30;

// Other commands have a switch of this name. Where one --config file or environment serves them
// all, "on" means the same here: JSON on standard output.
absl::StatusOr<std::string> ParseReportFile(std::string_view text) {
  bool on = false;
  if (Switch(&on).set({std::string(text)}).ok()) return std::string(on ? "-" : "");
  return std::string(text);
}

std::vector<Setting> LoadRows(loadgen::BenchOptions& o) {
  return {
      {"target", kBench, "Target", Text(&o.target.url, "URL"),
       "http://HOST:PORT, https://HOST:PORT (OpenAI-compatible), grpc://HOST:PORT or "
       "grpcs://HOST:PORT (trireme.v1)"},
      {"endpoint", kBench, "Target", OneOf(&o.target.endpoint, {"chat", "completions"}),
       "chat applies the model's template, completions does not"},
      {"model-name", kBench, "Target", Text(&o.target.model, "NAME"),
       "Sent as `model` (default: the first that the server names)"},
      {"api-key", kBench, "Target", Text(&o.target.api_key, "KEY"),
       "Sent as bearer token; the environment keeps it out of the process list"},
      {"ca-file", kBench, "Target", Text(&o.target.ca_file, "FILE"),
       "PEM certificates that TLS trusts in place of the system's"},
      {"timeout", kBench, "Target",
       Parsed(&o.timeout, "TIME", absl::FormatDuration(o.timeout), ParseTime),
       "For one request, from its sending"},
      {"concurrency", kBench, "Load", Integer(&o.concurrency, 1, 65536),
       "Closed loop: requests in flight, each followed by the next (default: 1)"},
      {"rate", kBench, "Load", Number(&o.rate, 1e-3F, 1e6F),
       "Open loop: requests a second, sent whether or not answers come"},
      {"arrivals", kBench, "Load", OneOf(&o.arrivals, {"poisson", "constant"}),
       "Open loop: independent of each other, or evenly spaced"},
      {"max-in-flight", kBench, "Load", Integer(&o.max_in_flight, 1, 65536),
       "Open loop: further requests wait in bench, and their latency counts the wait"},
      {"requests", kBench, "Load", Integer(&o.requests, 0, kMaxCount),
       "Stop after so many (0: no limit; without --duration: 100, or 10 s for each level of a "
       "ramp)"},
      {"duration", kBench, "Load", Parsed(&o.duration, "TIME", "", ParseTime),
       "Stop sending after this time, then wait for what is in flight; what --max-in-flight has "
       "kept "
       "waiting counts as the error not_sent"},
      {"warmup", kBench, "Load", Integer(&o.warmup_requests, 0, kMaxCount),
       "Requests of the same kind before the measured ones"},
      {"ramp", kBench, "Load", Switch(&o.ramp),
       "Raise the load, level by level, until goodput grows by less than half of what the load "
       "does "
       "or the SLO breaks; name the knee"},
      {"ramp-step", kBench, "Load", Number(&o.ramp_step, 0.01F, 1e5F),
       "Added to the load of each level (default: levels double, then close in on the knee)"},
      {"seed", kBench, "Load", WholeNumber(&o.seed), "Same seed, same requests at the same times"},
  };
}

std::vector<Setting> WorkloadRows(loadgen::WorkloadOptions& o) {
  constexpr const char* kLength = "N|uniform:A:B|lognormal:MEAN:SIGMA";
  return {
      {"prompt-tokens", kBench, "Workload",
       Parsed(&o.prompt_tokens, kLength, o.prompt_tokens.text(), LengthDistribution::Parse),
       "Lengths of made-up prompts; the server's tokens are measured with two requests first"},
      {"output-tokens", kBench, "Workload",
       Parsed(&o.output_tokens, kLength, "", LengthDistribution::Parse),
       "Lengths of answers (default: the dataset's output_tokens, else 128)"},
      {"ignore-eos", kBench, "Workload", Switch(&o.ignore_eos),
       "Answers run to their full length; off for servers that do not know `ignore_eos`"},
      {"dataset", kBench, "Workload", Text(&o.dataset_file, "FILE"),
       "Prompts in random order: .json or .jsonl, an array or one object a line, of {\"prompt\"}, "
       "{\"messages\"} or ShareGPT's {\"conversations\"}; any other file: one a line"},
      {"shared-prefix-share", kBench, "Workload", Number(&o.shared_prefix_share, 0, 1),
       "Share of prompts that begin with the same text"},
      {"shared-prefix-tokens", kBench, "Workload", Integer(&o.shared_prefix_tokens, 1, 1 << 20),
       "Length of that text, on top of the prompt's own"},
  };
}

std::vector<Setting> ReportRows(loadgen::BenchOptions& o) {
  return {
      {"slo", kBench, "Report", Parsed(&o.slo, "BOUNDS", "", Slo::Parse),
       "What counts as good: ttft=500ms,itl=50ms,e2e=10s, any of them; itl bounds a request's "
       "mean"},
      {"json", kBench, "Report", Parsed(&o.json_file, "FILE", "", ParseReportFile),
       "Write the report as JSON; -: to standard output, in place of the table"},
      {"plot", kBench, "Report", Text(&o.plot_file, "FILE"),
       "Draw the run, or the ramp: .svg or .png"},
  };
}

}  // namespace

std::vector<Setting> BenchRows(loadgen::BenchOptions* options) {
  std::vector<Setting> rows = LoadRows(*options);
  for (const auto& part : {WorkloadRows(options->workload), ReportRows(*options)}) {
    rows.insert(rows.end(), part.begin(), part.end());
  }
  return rows;
}

}  // namespace trireme
