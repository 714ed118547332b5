// Completion scripts. Sources: bash(1) "Programmable Completion", zshcompsys(1) "_arguments",
// fish's complete(1).
#include <vector>

#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "runtime/base/strings.h"
#include "runtime/base/version.h"
#include "server/cli/command_text.h"
#include "server/cli/shell_texts.h"

namespace trireme {
namespace {

// A flag as shells see it: what is typed, and the row that it sets.
struct Flag {
  std::vector<std::string> spellings;  // "-p", "--prompt"
  const Setting* setting;              // null: --help
  std::string help;
  bool takes_value = false;
};

struct CommandLine {
  const CommandText* text;
  std::vector<Flag> flags;
  const Setting* positional = nullptr;
};

std::vector<CommandLine> CommandLines(const std::vector<Setting>& schema) {
  std::vector<CommandLine> lines;
  for (const CommandText& text : Commands()) {
    CommandLine line = {&text};
    line.flags.push_back({{"-h", "--help"}, nullptr, "Explain this command"});
    for (const Setting& setting : schema) {
      if (!Has(setting, text.command)) continue;
      if (setting.positional) {
        line.positional = &setting;
        continue;
      }
      Flag flag = {{StrCat("--", setting.name)}, &setting, setting.help};
      if (!setting.shorthand.empty())
        flag.spellings.insert(flag.spellings.begin(), setting.shorthand);
      flag.takes_value = setting.value.kind != SettingValue::Kind::kSwitch;
      line.flags.push_back(flag);
      if (!flag.takes_value && setting.value.default_text == "true") {
        line.flags.push_back(
            {{StrCat("--no-", setting.name)}, &setting, StrCat("Not: ", setting.help)});
      }
    }
    lines.push_back(std::move(line));
  }
  return lines;
}

// 'text' in single quotes, as all three shells read it (fish alone also unescapes a backslash).
std::string Quoted(std::string_view text, bool fish = false) {
  std::string out(text);
  if (fish) return StrCat("'", absl::StrReplaceAll(out, {{"\\", "\\\\"}, {"'", "\\'"}}), "'");
  return StrCat("'", absl::StrReplaceAll(out, {{"'", "'\\''"}}), "'");
}

// ---- bash

// What completes a value: one statement of _trireme.
std::string BashValue(const SettingValue& value) {
  if (!value.choices.empty())
    return StrCat("_trireme_words ", Quoted(absl::StrJoin(value.choices, " ")));
  return TakesPath(value) ? "_trireme_files" : "return 0";
}

constexpr char kBashHead[] = R"(
_trireme_words() {
    mapfile -t COMPREPLY < <(compgen -W "$1" -- "$cur")
}

_trireme_files() {
    compopt -o filenames 2>/dev/null
    mapfile -t COMPREPLY < <(compgen -f -- "$cur")
}

_trireme() {
    local cur=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD-1]} command='' i
    COMPREPLY=()
    # "--flag=value" reaches us as three words.
    if [[ $cur == = ]]; then
        cur=''
    elif [[ $previous == = ]]; then
        previous=${COMP_WORDS[COMP_CWORD-2]}
    fi
    for ((i = 1; i < COMP_CWORD; ++i)); do
        [[ ${COMP_WORDS[i]} == -* ]] || { command=${COMP_WORDS[i]}; break; }
    done
    case $command in
)";

std::string BashScript(const std::vector<CommandLine>& lines) {
  std::string out = StrCat("# bash completion of trireme ", kVersion,
                           ", written by `trireme completion bash`.\n", kBashHead);
  std::vector<std::string> names;
  for (const CommandLine& line : lines) {
    names.push_back(line.text->name);
    StrAppend(&out, "    ", line.text->name, ")\n        case $previous in\n");
    std::vector<std::string> flags;
    for (const Flag& flag : line.flags) {
      flags.insert(flags.end(), flag.spellings.begin(), flag.spellings.end());
      if (!flag.takes_value) continue;
      StrAppend(&out, "        ", absl::StrJoin(flag.spellings, "|"), ") ",
                BashValue(flag.setting->value), "; return ;;\n");
    }
    StrAppend(&out, "        esac\n        if [[ $cur == -* ]]; then\n            _trireme_words ",
              Quoted(absl::StrJoin(flags, " ")), "\n");
    if (line.positional != nullptr) {
      StrAppend(&out, "        else\n            ", BashValue(line.positional->value), "\n");
    }
    StrAppend(&out, "        fi ;;\n");
  }
  StrAppend(&out, "    '') _trireme_words ",
            Quoted(StrCat(absl::StrJoin(names, " "), " --help --version")),
            " ;;\n    esac\n}\n\ncomplete -F _trireme trireme\n");
  return out;
}

// ---- zsh

// A description within a spec of _arguments, where ':' and brackets have a meaning.
std::string ZshText(std::string_view text) {
  return absl::StrReplaceAll(std::string(text),
                             {{"\\", "\\\\"}, {"[", "\\["}, {"]", "\\]"}, {":", "\\:"}});
}

// ":TYPE:ACTION".
std::string ZshValue(const SettingValue& value) {
  std::string action = " ";
  if (!value.choices.empty()) action = StrCat("(", absl::StrJoin(value.choices, " "), ")");
  if (TakesPath(value)) action = "_files";
  return StrCat(":", ZshText(value.type), ":", action);
}

std::string ZshScript(const std::vector<CommandLine>& lines) {
  std::string out = StrCat("#compdef trireme\n# zsh completion of trireme ", kVersion,
                           ", written by `trireme completion zsh`.\n\n_trireme() {\n"
                           "    local state line\n    local -a commands\n    commands=(\n");
  for (const CommandLine& line : lines) {
    StrAppend(&out, "        ", Quoted(StrCat(line.text->name, ":", ZshText(line.text->summary))),
              "\n");
  }
  StrAppend(&out,
            "    )\n    _arguments -C '(- *)'{-h,--help}'[Explain]' '(- *)--version[Version]' \\\n"
            "        '1:command:->command' '*::argument:->argument'\n    case $state in\n"
            "    command) _describe command commands ;;\n    argument)\n"
            "        case $words[1] in\n");
  for (const CommandLine& line : lines) {
    StrAppend(&out, "        ", line.text->name, ")\n            _arguments -s");
    for (const Flag& flag : line.flags) {
      const bool repeats =
          flag.setting != nullptr && flag.setting->value.kind == SettingValue::Kind::kList;
      for (const std::string& spelling : flag.spellings) {
        StrAppend(&out, " \\\n                ",
                  Quoted(StrCat(repeats ? "*" : "", spelling, flag.takes_value ? "=" : "", "[",
                                ZshText(flag.help), "]",
                                flag.takes_value ? ZshValue(flag.setting->value) : "")));
      }
    }
    if (line.positional != nullptr) {
      const SettingValue& value = line.positional->value;
      StrAppend(&out, " \\\n                ", Quoted(StrCat("1", ZshValue(value))));
    }
    StrAppend(&out, " ;;\n");
  }
  StrAppend(&out,
            "        esac ;;\n    esac\n}\n\nif [ \"$funcstack[1]\" = _trireme ]; then\n"
            "    _trireme \"$@\"\nelse\n    compdef _trireme trireme\nfi\n");
  return out;
}

// ---- fish

std::string FishValue(const SettingValue& value) {
  if (!value.choices.empty())
    return StrCat(" -x -a ", Quoted(absl::StrJoin(value.choices, " "), true));
  return TakesPath(value) ? " -r -F" : " -x";
}

std::string FishScript(const std::vector<CommandLine>& lines) {
  std::string out = StrCat("# fish completion of trireme ", kVersion,
                           ", written by `trireme completion fish`.\ncomplete -c trireme -f\n"
                           "complete -c trireme -n __fish_use_subcommand -s h -l help -d Explain\n"
                           "complete -c trireme -n __fish_use_subcommand -l version -d Version\n");
  for (const CommandLine& line : lines) {
    StrAppend(&out, "complete -c trireme -n __fish_use_subcommand -a ", line.text->name, " -d ",
              Quoted(line.text->summary, true), "\n");
    const std::string begin =
        StrCat("complete -c trireme -n '__fish_seen_subcommand_from ", line.text->name, "'");
    for (const Flag& flag : line.flags) {
      std::string names;
      for (const std::string& spelling : flag.spellings) {
        const bool is_long = spelling.starts_with("--");
        StrAppend(&names, is_long ? " -l " : " -s ", spelling.substr(is_long ? 2 : 1));
      }
      StrAppend(&out, begin, names, flag.takes_value ? FishValue(flag.setting->value) : "", " -d ",
                Quoted(flag.help, true), "\n");
    }
    if (line.positional == nullptr) continue;
    const SettingValue& value = line.positional->value;
    if (!value.choices.empty()) {
      StrAppend(&out, begin, " -a ", Quoted(absl::StrJoin(value.choices, " "), true), "\n");
    } else if (TakesPath(value)) {
      StrAppend(&out, begin, " -F\n");
    }
  }
  return out;
}

}  // namespace

std::string CompletionScript(std::string_view shell) {
  Options options;
  const std::vector<Setting> schema = Schema(&options);
  const std::vector<CommandLine> lines = CommandLines(schema);
  if (shell == "zsh") return ZshScript(lines);
  return shell == "fish" ? FishScript(lines) : BashScript(lines);
}

}  // namespace trireme
