#include "server/doctor/doctor.h"

#include <algorithm>
#include <boost/json.hpp>

#include "absl/strings/ascii.h"
#include "runtime/base/strings.h"
#include "runtime/base/version.h"

namespace trireme::doctor {
namespace {

constexpr size_t kMaxSeenBytes = 2048;
constexpr Level kLevels[] = {Level::kError, Level::kWarning, Level::kNote, Level::kOk};

const char* Colour(Level level) {
  switch (level) {
    case Level::kOk:
      return "\033[32m";
    case Level::kNote:
      return "\033[36m";
    case Level::kWarning:
      return "\033[33m";
    case Level::kError:
      break;
  }
  return "\033[31m";
}

int64_t Count(const Findings& findings, Level level) {
  return std::count_if(findings.begin(), findings.end(),
                       [&](const Finding& finding) { return finding.level == level; });
}

}  // namespace

std::string ShellQuote(std::string_view word) {
  const auto plain = [](char c) {
    return absl::ascii_isalnum(static_cast<unsigned char>(c)) ||
           std::string_view("@%+=:,./_-").find(c) != std::string_view::npos;
  };
  if (!word.empty() && std::all_of(word.begin(), word.end(), plain)) return std::string(word);
  // Printable doubles backslashes, which bash's $'...' undoes as it does \x1b.
  const std::string printable = Printable(word, word.size());
  const bool escapes = printable != word;
  std::string out = escapes ? "$'" : "'";
  for (const char c : printable) {
    if (c == '\'') {
      out += escapes ? "\\'" : "'\\''";
    } else {
      out += c;
    }
  }
  return out + "'";
}

std::string_view LevelName(Level level) {
  switch (level) {
    case Level::kOk:
      return "ok";
    case Level::kNote:
      return "note";
    case Level::kWarning:
      return "warning";
    case Level::kError:
      break;
  }
  return "error";
}

Findings Examine(const Host& host, const Settings& settings) {
  Findings all;
  for (Findings& part :
       std::vector<Findings>{CheckCpu(host), CheckMemory(host), CheckHugePages(host),
                             CheckLimits(host, settings.max_connections), CheckGpus(host),
                             CheckFabric(host), CheckClock(host), CheckPorts(host, settings),
                             CheckKeyFiles(host, settings), CheckModel(host, settings)}) {
    all.insert(all.end(), part.begin(), part.end());
  }
  for (Finding& finding : all) finding.seen = Printable(finding.seen, kMaxSeenBytes);
  return all;
}

std::string TextReport(const Findings& findings, bool colour) {
  std::string out;
  for (const Finding& finding : findings) {
    std::string level(LevelName(finding.level));
    level.resize(8, ' ');
    StrAppend(&out, colour ? Colour(finding.level) : "", level, colour ? "\033[0m" : "",
              finding.check, ": ", finding.seen, "\n");
    if (!finding.why.empty()) StrAppend(&out, "        why:  ", finding.why, "\n");
    if (!finding.mend.empty()) StrAppend(&out, "        mend: ", finding.mend, "\n");
  }
  std::string counts;
  for (const Level level : kLevels) {
    const int64_t count = Count(findings, level);
    if (count == 0) continue;
    const bool plural = count > 1 && level != Level::kOk;
    StrAppend(&counts, counts.empty() ? "" : ", ", count, " ", LevelName(level), plural ? "s" : "");
  }
  StrAppend(&out, counts, "\n");
  return out;
}

std::string JsonReport(const Findings& findings) {
  namespace json = boost::json;
  json::object counts;
  for (const Level level : kLevels) counts[std::string(LevelName(level))] = Count(findings, level);
  json::array list;
  for (const Finding& finding : findings) {
    list.push_back({{"level", std::string(LevelName(finding.level))},
                    {"check", finding.check},
                    {"seen", finding.seen},
                    {"why", finding.why},
                    {"mend", finding.mend}});
  }
  return json::serialize(json::object{{"version", kVersion},
                                      {"ok", !HasError(findings)},
                                      {"counts", std::move(counts)},
                                      {"findings", std::move(list)}}) +
         "\n";
}

bool HasError(const Findings& findings) { return Count(findings, Level::kError) > 0; }

}  // namespace trireme::doctor
