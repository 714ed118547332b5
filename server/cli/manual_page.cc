// trireme(1). Sources: man(7), groff_man(7); groff_char(7) for the characters that need a name.
#include <vector>

#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "runtime/base/strings.h"
#include "runtime/base/version.h"
#include "server/cli/command_text.h"
#include "server/cli/shell_texts.h"

namespace trireme {
namespace {

// Text as it should look: no character of it is a request or an escape, none becomes a typographic
// one (what stands there is often copied to a shell).
std::string Roff(std::string_view text) {
  std::string out;
  bool line_begins = true;
  for (const char c : text) {
    if (line_begins && (c == '.' || c == '\'')) out += "\\&";
    line_begins = c == '\n';
    switch (c) {
      case '\\':
        out += "\\(rs";
        break;
      case '-':
        out += "\\-";
        break;
      case '\'':
        out += "\\(aq";
        break;
      case '`':
        out += "\\(ga";
        break;
      case '^':
        out += "\\(ha";
        break;
      case '~':
        out += "\\(ti";
        break;
      default:
        out += c;
    }
  }
  return out;
}

std::string Bold(std::string_view text) { return StrCat("\\fB", Roff(text), "\\fR"); }
std::string Italic(std::string_view text) { return StrCat("\\fI", Roff(text), "\\fR"); }

// Lines as they stand.
std::string Verbatim(std::string_view text) { return StrCat(".PP\n.nf\n", Roff(text), "\n.fi\n"); }

// "serve, inspect"
std::string CommandsOf(const Setting& setting) {
  std::vector<std::string> names;
  for (const CommandText& text : Commands()) {
    if (Has(setting, text.command)) names.push_back(Italic(text.name));
  }
  return absl::StrJoin(names, ", ");
}

std::string Entry(const Setting& setting) {
  const SettingValue& value = setting.value;
  std::string head;
  if (setting.positional) {
    head = Bold(PositionalName(setting.name));
  } else {
    if (!setting.shorthand.empty()) head = StrCat(Bold(setting.shorthand), ", ");
    StrAppend(&head, Bold(StrCat("--", setting.name)));
    if (value.kind == SettingValue::Kind::kSwitch && value.default_text == "true")
      StrAppend(&head, ", ", Bold(StrCat("--no-", setting.name)));
  }
  if (!value.type.empty()) StrAppend(&head, " ", Italic(value.type));
  if (value.kind == SettingValue::Kind::kList) StrAppend(&head, " ...");
  std::string out = StrCat(".TP\n", head, "\n", Roff(setting.help), ".\n.br\n");
  if (!value.default_text.empty()) StrAppend(&out, "Default: ", Roff(value.default_text), ". ");
  StrAppend(&out, "Environment: ", Roff(EnvironmentName(setting.name)),
            ". Commands: ", CommandsOf(setting), ".\n");
  return out;
}

std::string Synopsis(const std::vector<Setting>& schema) {
  std::string out = ".SH SYNOPSIS\n";
  for (const CommandText& text : Commands()) {
    StrAppend(&out, text.command == Commands().front().command ? "" : ".br\n", "\\fBtrireme ",
              Roff(text.name), "\\fR");
    for (const Setting& setting : schema) {
      if (setting.positional && Has(setting, text.command))
        StrAppend(&out, " ", Italic(PositionalName(setting.name)));
    }
    StrAppend(&out, " [", Italic("OPTION"), "]...\n");
  }
  return out;
}

}  // namespace

std::string ManualPage() {
  Options options;
  const std::vector<Setting> schema = Schema(&options);
  std::string out =
      StrCat(".\\\" Written by `trireme man`.\n.TH TRIREME 1 \"\" \"trireme ", kVersion,
             "\" \"User Commands\"\n.nh\n.ad l\n.SH NAME\n"
             "trireme \\- serve language models over HTTP and gRPC\n",
             Synopsis(schema), ".SH DESCRIPTION\n", Roff(kProgramSummary), "\n");
  StrAppend(&out, ".SH COMMANDS\n");
  for (const CommandText& text : Commands()) {
    StrAppend(&out, ".SS ", Roff(text.name), "\n", Roff(text.summary), ".\n",
              Verbatim(text.footer));
  }
  StrAppend(&out, ".SH OPTIONS\n", Roff(kSources));
  // Groups in the order in which the schema first names them.
  std::vector<std::string> groups;
  for (const Setting& setting : schema) {
    if (std::find(groups.begin(), groups.end(), setting.group) == groups.end())
      groups.push_back(setting.group);
  }
  for (const std::string& group : groups) {
    StrAppend(&out, ".SS ", Roff(group), "\n");
    for (const Setting& setting : schema) {
      if (setting.group == group) StrAppend(&out, Entry(setting));
    }
  }
  StrAppend(&out, ".SH ENVIRONMENT\n.TP\n", Bold("TRIREME_CPU_ISA"),
            "\nportable, avx2 or avx512: lowers the choice of kernels, for comparisons.\n"
            ".SH \"EXIT STATUS\"\n0: done. 1: could not start or run, or (",
            Italic("doctor"), ") an error was found. 2: wrong usage. 3: aborted by a signal.\n");
  return out;
}

}  // namespace trireme
