// Structured logs: an event name and key-value fields, one line each, to stderr. Never prompts,
// keys or paths of users. Thread-safe; the sink is asynchronous-free and line-buffered. Built on
// spdlog, whose headers stay in log.cc.
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include "runtime/base/strings.h"

namespace trireme {

enum class LogLevel { kDebug, kInfo, kWarning, kError };
enum class LogFormat { kText, kJson };

struct LogField {
  std::string_view key;
  std::string value;
  bool quoted;  // strings are quoted in JSON, numbers are not

  template <typename T>
  LogField(std::string_view k, const T& v)
      : key(k), value(StrCat(v)), quoted(!std::is_arithmetic_v<T>) {}
};

// Call once at start, before other threads log.
void ConfigureLog(LogLevel minimum, LogFormat format);

// Log(LogLevel::kInfo, "listening", {{"port", 8000}});
void Log(LogLevel level, std::string_view event, std::initializer_list<LogField> fields = {});

}  // namespace trireme
