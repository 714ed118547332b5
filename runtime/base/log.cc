#include "runtime/base/log.h"

#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

namespace trireme {
namespace {

LogFormat g_format = LogFormat::kText;

spdlog::logger& Logger() {
  static const std::shared_ptr<spdlog::logger> logger = [] {
    auto made = spdlog::stderr_color_mt("trireme");  // colours only on a terminal
    made->set_pattern("%Y-%m-%dT%H:%M:%S.%eZ %^%-5l%$ %v", spdlog::pattern_time_type::utc);
    return made;
  }();
  return *logger;
}

spdlog::level::level_enum ToSpdlog(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return spdlog::level::debug;
    case LogLevel::kInfo:
      return spdlog::level::info;
    case LogLevel::kWarning:
      return spdlog::level::warn;
    case LogLevel::kError:
      return spdlog::level::err;
  }
  return spdlog::level::info;
}

// Escapes control characters, so that a value cannot forge a log line.
void AppendEscaped(std::string& out, std::string_view value) {
  for (const char c : value) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (static_cast<unsigned char>(c) < 0x20) {
      StrAppend(&out, "\\u00", absl::Hex(static_cast<unsigned char>(c), absl::kZeroPad2));
    } else {
      out += c;
    }
  }
}

void AppendValue(std::string& out, const LogField& field, bool json) {
  const bool plain =
      !field.value.empty() && field.value.find_first_of(" \"\\=\n\r\t") == std::string::npos;
  if (field.quoted && (json || !plain)) {
    out += '"';
    AppendEscaped(out, field.value);
    out += '"';
  } else {
    AppendEscaped(out, field.value);
  }
}

}  // namespace

void ConfigureLog(LogLevel minimum, LogFormat format) {
  g_format = format;
  spdlog::logger& logger = Logger();
  logger.set_level(ToSpdlog(minimum));
  if (format == LogFormat::kJson) {
    logger.set_pattern(R"({"time":"%Y-%m-%dT%H:%M:%S.%eZ","level":"%l",%v})",
                       spdlog::pattern_time_type::utc);
  }
}

void Log(LogLevel level, std::string_view event, std::initializer_list<LogField> fields) {
  spdlog::logger& logger = Logger();
  if (!logger.should_log(ToSpdlog(level))) return;
  std::string line;
  if (g_format == LogFormat::kJson) {
    line = "\"event\":\"";
    AppendEscaped(line, event);
    line += '"';
    for (const LogField& field : fields) {
      StrAppend(&line, ",\"", field.key, "\":");
      AppendValue(line, field, /*json=*/true);
    }
  } else {
    AppendEscaped(line, event);
    for (const LogField& field : fields) {
      StrAppend(&line, " ", field.key, "=");
      AppendValue(line, field, /*json=*/false);
    }
  }
  logger.log(ToSpdlog(level), spdlog::string_view_t(line.data(), line.size()));
}

}  // namespace trireme
