#include "server/observe/otlp_options.h"

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <cstring>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_split.h"
#include "runtime/base/status.h"
#include "runtime/base/strings.h"

namespace trireme {
namespace {

constexpr std::string_view kPath = "/v1/traces";
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

std::string WithPath(std::string url) {
  while (url.ends_with('/')) url.pop_back();
  return url.ends_with(kPath) ? url : StrCat(url, kPath);
}

struct Endpoint {
  std::string source, url;  // what named it
};

Endpoint FindEndpoint(std::string_view flag, const Environment& environment) {
  if (!flag.empty()) return {"--otlp-endpoint", WithPath(std::string(flag))};
  if (environment("OTEL_TRACES_EXPORTER") == "none") return {};
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

absl::StatusOr<OtlpOptions> ReadOtlpOptions(std::string_view endpoint, double sample_ratio,
                                            const Environment& environment) {
  OtlpOptions options;
  options.sample_ratio = sample_ratio;
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

  constexpr char kTracesHeaders[] = "OTEL_EXPORTER_OTLP_TRACES_HEADERS";
  const char* headers = environment(kTracesHeaders) ? kTracesHeaders : "OTEL_EXPORTER_OTLP_HEADERS";
  TRIREME_ASSIGN_OR_RETURN(options.headers, ReadPairs(environment, headers));
  TRIREME_ASSIGN_OR_RETURN(options.resource, ReadPairs(environment, "OTEL_RESOURCE_ATTRIBUTES"));
  const auto is_name = [](const auto& pair) { return pair.first == "service.name"; };
  const auto named = std::find_if(options.resource.begin(), options.resource.end(), is_name);
  std::string name = named == options.resource.end() ? "trireme" : named->second;
  std::erase_if(options.resource, is_name);
  options.resource.emplace_back("service.name",
                                environment("OTEL_SERVICE_NAME").value_or(std::move(name)));

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
