#include "server/cli/refusal.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <iostream>
#include <string>

#include "absl/strings/str_join.h"
#include "runtime/base/strings.h"
#include "server/cli/command_text.h"

namespace trireme {
namespace {

// The flags that a command has, without their dashes.
std::vector<std::string> FlagsOf(const std::vector<Setting>& schema, Command command) {
  std::vector<std::string> names = {"help"};
  for (const Setting& row : schema) {
    if (!Has(row, command) || row.positional) continue;
    names.push_back(row.name);
    if (row.value.kind == SettingValue::Kind::kSwitch && row.value.default_text == "true")
      names.push_back("no-" + row.name);
  }
  return names;
}

// The flag, or else the word, that nothing knows what to do with.
std::string FirstStranger(const std::vector<std::string>& rest) {
  const auto flag = std::find_if(rest.begin(), rest.end(),
                                 [](const std::string& word) { return word.starts_with('-'); });
  return flag != rest.end() ? *flag : rest.front();
}

std::string UnknownFlag(std::string_view flag, const std::vector<std::string>& names) {
  flag = flag.substr(0, flag.find('='));
  const size_t begin = std::min(flag.find_first_not_of('-'), flag.size());
  return StrCat("there is no ", Printable(flag), DidYouMean(flag.substr(begin), names, "--"));
}

std::string NoCommand(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CommandText& text : Commands()) names.push_back(text.name);
  const std::vector<std::string> rest = app.remaining();
  if (rest.empty()) return StrCat("a command is missing: ", absl::StrJoin(names, ", "));
  const std::string& word = rest.front();
  if (word.starts_with('-')) return UnknownFlag(word, {"help", "version"});
  return StrCat("there is no command \"", Printable(word), "\"", DidYouMean(word, names));
}

}  // namespace

void PrintRefusal(const CLI::App& app, const CLI::ParseError& error,
                  const std::vector<Setting>& schema) {
  std::string program = "trireme", why = error.what();
  if (app.get_subcommands().empty()) {
    why = NoCommand(app);
  } else {
    const CLI::App& command = *app.get_subcommands().front();
    StrAppend(&program, " ", command.get_name());
    if (const auto rest = command.remaining(); !rest.empty()) {
      const auto text =
          std::find_if(Commands().begin(), Commands().end(),
                       [&](const CommandText& one) { return one.name == command.get_name(); });
      const std::string word = FirstStranger(rest);
      why = word.starts_with('-') ? UnknownFlag(word, FlagsOf(schema, text->command))
                                  : StrCat("\"", Printable(word), "\" is one argument too many");
    }
  }
  std::cerr << program << ": " << why << "\nRun with --help for more information.\n";
}

}  // namespace trireme
