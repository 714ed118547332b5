// What a check has seen.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace trireme::doctor {

// kOk: as it should be. kNote: good to know. kWarning: it will serve, but slower or less safely
// than it could. kError: `trireme serve` with these settings will not start or not work.
enum class Level { kOk, kNote, kWarning, kError };

std::string_view LevelName(Level level);  // "ok", "note", "warning", "error"

struct Finding {
  Level level = Level::kOk;
  std::string check;  // "memory.limit": a name that stays
  std::string seen;   // what is, with its numbers; Printable once it is reported
  std::string why;    // why it matters; empty for what needs no word
  std::string mend;   // a command, or what to do; empty: nothing to mend. Paths: ShellQuote
};

// A word of a command that may be pasted into bash, whatever it holds: as it is, in quotes, or with
// its control characters escaped ($'a\x1bb').
std::string ShellQuote(std::string_view word);

using Findings = std::vector<Finding>;

}  // namespace trireme::doctor
