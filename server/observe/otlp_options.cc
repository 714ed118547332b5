#include "server/observe/otlp_options.h"

#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <cstring>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "runtime/base/status.h"
#include "runtime/base/strings.h"
#include "runtime/text/utf8.h"

namespace trireme {
namespace {

constexpr std::string_view kPath = "/v1/traces";
constexpr char kExporter[] = "OTEL_TRACES_EXPORTER";
using Pairs = std::vector<std::pair<std::string, std::string>>;

absl::Status Bad(std::string_view variable, std::string_view wanted) {
  return absl::InvalidArgumentError(StrCat(variable, ": wants ", wanted));
}

// Percent-decoded; nullopt for what cannot stand in a header: control characters, a lone "%".
std::optional<std::string> Decode(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    unsigned char c = static_cast<unsigned char>(text[i]);
    if (c == '%') {
      if (text.size() - i < 3) return std::nullopt;
      const char* digits = text.data() + i + 1;
      const auto [end, error] = std::from_chars(digits, digits + 2, c, 16);
      if (error != std::errc() || end != digits + 2) return std::nullopt;
      i += 2;
    }
    if (c < 0x20 || c == 0x7f) return std::nullopt;
    out += static_cast<char>(c);
  }
  return out;
}

// "key1=value1,key2=value2", values percent-encoded (W3C Baggage, without properties).
absl::StatusOr<Pairs> ParsePairs(std::string_view variable, std::string_view text) {
  Pairs out;
  for (absl::string_view item : absl::StrSplit(ToAbsl(text), ',', absl::SkipWhitespace())) {
    const std::pair<absl::string_view, absl::string_view> halves =
        absl::StrSplit(item, absl::MaxSplits('=', 1));
    const absl::string_view key = absl::StripAsciiWhitespace(halves.first);
    const auto value = Decode(FromAbsl(absl::StripAsciiWhitespace(halves.second)));
    const bool sane = !key.empty() && std::all_of(key.begin(), key.end(), [](char c) {
      return absl::ascii_isgraph(static_cast<unsigned char>(c)) && c != ':';
    });
    if (!sane || !value || item.find('=') == absl::string_view::npos) {
      return Bad(variable, "key=value pairs, split at commas, values percent-encoded");
    }
    out.emplace_back(std::string(key), *value);
  }
  return out;
}

absl::StatusOr<Pairs> ReadPairs(const Environment& environment, std::string_view variable) {
  return ParsePairs(variable, environment(variable).value_or(""));
}

absl::StatusOr<int64_t> ReadCount(const Environment& environment, std::string_view variable,
                                  int64_t otherwise) {
  const std::optional<std::string> text = environment(variable);
  if (!text) return otherwise;
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), value);
  if (error != std::errc() || end != text->data() + text->size() || value < 1 ||
      value > 1'000'000) {
    return Bad(variable, "a number from 1 to 1000000");
  }
  return value;
}

// The variable of this signal, or the one of all signals.
std::string OneOf(const Environment& environment, std::string_view what) {
  std::string traces = StrCat("OTEL_EXPORTER_OTLP_TRACES_", what);
  return environment(traces) ? traces : StrCat("OTEL_EXPORTER_OTLP_", what);
}

absl::Status ReadExporter(const Environment& environment, OtlpOptions* options) {
  if (const auto exporter = environment(kExporter);
      exporter && *exporter != "otlp" && *exporter != "none") {
    return Bad(kExporter, "otlp or none");
  }
  const std::string protocol = OneOf(environment, "PROTOCOL");
  if (const auto value = environment(protocol);
      value && *value != "http/json" && *value != "http/protobuf") {
    return Bad(protocol, "http/json; gRPC is not spoken (collectors take OTLP/HTTP at port 4318)");
  }
  TRIREME_ASSIGN_OR_RETURN(options->headers, ReadPairs(environment, OneOf(environment, "HEADERS")));
  const int64_t default_ms = absl::ToInt64Milliseconds(options->timeout);
  TRIREME_ASSIGN_OR_RETURN(const int64_t timeout_ms,
                           ReadCount(environment, OneOf(environment, "TIMEOUT"), default_ms));
  options->timeout = absl::Milliseconds(timeout_ms);
  const std::string certificate = OneOf(environment, "CERTIFICATE");
  options->ca_file = environment(certificate).value_or("");
  if (!options->ca_file.empty() && access(options->ca_file.c_str(), R_OK) != 0) {
    return Bad(certificate, "a PEM file that can be read");
  }
  return absl::OkStatus();
}

// Names of samplers: "Environment Variable Specification", "General SDK Configuration".
absl::Status ReadSampler(const Environment& environment, OtlpOptions* options) {
  constexpr char kSampler[] = "OTEL_TRACES_SAMPLER", kArgument[] = "OTEL_TRACES_SAMPLER_ARG";
  constexpr std::string_view kParentBased = "parentbased_";
  const std::optional<std::string> value = environment(kSampler);
  if (!value) return absl::OkStatus();
  std::string_view name = *value;
  options->follow_callers = name.starts_with(kParentBased);
  if (options->follow_callers) name.remove_prefix(kParentBased.size());
  if (name == "traceidratio") {
    const std::optional<std::string> ratio = environment(kArgument);
    if (ratio && (!absl::SimpleAtod(*ratio, &options->sample_ratio) ||
                  !(options->sample_ratio >= 0 && options->sample_ratio <= 1))) {
      return Bad(kArgument, "a ratio from 0 to 1");
    }
    return absl::OkStatus();
  }
  if (name != "always_on" && name != "always_off") {
    return Bad(kSampler, "always_on, always_off or traceidratio, or one of them with parentbased_");
  }
  options->sample_ratio = name == "always_on" ? 1 : 0;
  return absl::OkStatus();
}

// What a span's resource says must be UTF-8: collectors refuse a whole batch for one bad byte.
absl::Status ReadResource(const Environment& environment, OtlpOptions* options) {
  constexpr char kAttributes[] = "OTEL_RESOURCE_ATTRIBUTES", kName[] = "OTEL_SERVICE_NAME";
  TRIREME_ASSIGN_OR_RETURN(options->resource, ReadPairs(environment, kAttributes));
  for (const auto& [key, value] : options->resource) {
    if (!IsValidUtf8(value)) return Bad(kAttributes, "values in UTF-8");
  }
  const auto is_name = [](const auto& pair) { return pair.first == "service.name"; };
  const auto named = std::find_if(options->resource.begin(), options->resource.end(), is_name);
  std::string name = named == options->resource.end() ? "trireme" : named->second;
  std::erase_if(options->resource, is_name);
  name = environment(kName).value_or(std::move(name));
  if (!IsValidUtf8(name)) return Bad(kName, "a name in UTF-8");
  options->resource.emplace_back("service.name", std::move(name));
  return absl::OkStatus();
}

std::string WithPath(std::string url) {
  while (url.ends_with('/')) url.pop_back();
  return url.ends_with(kPath) ? url : StrCat(url, kPath);
}

struct Endpoint {
  std::string source, url;  // what named it
};

Endpoint FindEndpoint(std::string_view flag, const Environment& environment) {
  if (!flag.empty()) return {"--otlp-endpoint", WithPath(std::string(flag))};
  if (environment(kExporter) == "none") return {};
  if (const auto disabled = environment("OTEL_SDK_DISABLED");
      disabled && absl::EqualsIgnoreCase(*disabled, "true")) {
    return {};
  }
  constexpr char kTraces[] = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
  constexpr char kAll[] = "OTEL_EXPORTER_OTLP_ENDPOINT";
  if (const auto url = environment(kTraces)) return {kTraces, *url};
  if (const auto url = environment(kAll)) return {kAll, WithPath(*url)};
  return {};
}

}  // namespace

std::optional<std::string> ProcessEnvironment(std::string_view name) {
  // NOLINTNEXTLINE(concurrency-mt-unsafe): nobody changes the environment
  const char* value = std::getenv(std::string(name).c_str());
  if (value == nullptr || *value == '\0') return std::nullopt;
  return value;
}

absl::StatusOr<OtlpOptions> ReadOtlpOptions(std::string_view endpoint,
                                            std::optional<double> sample_ratio,
                                            const Environment& environment) {
  OtlpOptions options;
  const Endpoint found = FindEndpoint(endpoint, environment);
  if (found.url.empty()) return options;
  const auto speaks = [&found](const char* scheme) {
    return absl::StartsWithIgnoreCase(found.url, scheme) && found.url.size() > strlen(scheme) &&
           found.url.find_first_of(" \t\r\n") == std::string::npos;
  };
  if (!speaks("http://") && !speaks("https://")) {
    return Bad(found.source,
               "the URL of an OTLP/HTTP receiver, like http://127.0.0.1:4318 (gRPC's port 4317 "
               "does not speak it)");
  }
  options.url = found.url;

  TRIREME_RETURN_IF_ERROR(ReadExporter(environment, &options));
  TRIREME_RETURN_IF_ERROR(ReadSampler(environment, &options));
  if (sample_ratio) options.sample_ratio = *sample_ratio;
  TRIREME_RETURN_IF_ERROR(ReadResource(environment, &options));
  TRIREME_ASSIGN_OR_RETURN(
      const int64_t delay_ms,
      ReadCount(environment, "OTEL_BSP_SCHEDULE_DELAY", absl::ToInt64Milliseconds(options.delay)));
  TRIREME_ASSIGN_OR_RETURN(
      const int64_t max_queued,
      ReadCount(environment, "OTEL_BSP_MAX_QUEUE_SIZE", static_cast<int64_t>(options.max_queued)));
  TRIREME_ASSIGN_OR_RETURN(const int64_t max_batch,
                           ReadCount(environment, "OTEL_BSP_MAX_EXPORT_BATCH_SIZE",
                                     static_cast<int64_t>(options.max_batch)));
  options.delay = absl::Milliseconds(delay_ms);
  options.max_queued = static_cast<size_t>(max_queued);
  options.max_batch = static_cast<size_t>(std::min(max_batch, max_queued));
  return options;
}

}  // namespace trireme
