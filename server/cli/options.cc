#include "server/cli/options.h"

#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <deque>
#include <iostream>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "runtime/base/log.h"
#include "runtime/base/status.h"
#include "runtime/base/strings.h"
#include "runtime/base/version.h"
#include "server/cli/command_text.h"
#include "server/cli/commands.h"
#include "server/cli/config_file.h"
#include "server/cli/refusal.h"
#include "server/cli/weight_cache.h"
#include "server/pull/cache.h"
#include "server/pull/environment.h"
#include "server/pull/source.h"
#include "server/ranks/group_environment.h"

namespace trireme {
namespace {

// A row of the schema on one command's line: what CLI11 found there, as text.
struct Argument {
  const Setting* setting;
  CLI::Option* option = nullptr;
  std::string text;                // kOne, kSwitch
  std::vector<std::string> texts;  // kList
};

// " 0..65535 [8000] TRIREME_HTTP_PORT"
std::string HelpColumn(const Setting& setting) {
  const SettingValue& value = setting.value;
  std::string column = value.type;
  if (!value.default_text.empty()) StrAppend(&column, " [", value.default_text, "]");
  if (value.kind == SettingValue::Kind::kList) StrAppend(&column, " ...");
  StrAppend(&column, column.empty() ? "" : "  ", EnvironmentName(setting.name));
  return column;
}

void AddArgument(CLI::App* app, Argument* argument) {
  const Setting& setting = *argument->setting;
  const std::string flag = StrCat("--", setting.name);
  CLI::Option* option = nullptr;
  switch (setting.value.kind) {
    case SettingValue::Kind::kSwitch:
      option = app->add_flag(
          setting.value.default_text == "true" ? StrCat(flag, ",!--no-", setting.name) : flag,
          argument->text, setting.help);
      break;
    case SettingValue::Kind::kList:
      option = app->add_option(setting.positional ? PositionalName(setting.name) : flag,
                               argument->texts, setting.help)
                   ->allow_extra_args(setting.positional);
      break;
    case SettingValue::Kind::kOne: {
      const std::string names = setting.shorthand.empty() ? flag : setting.shorthand + "," + flag;
      option = app->add_option(setting.positional ? PositionalName(setting.name) : names,
                               argument->text, setting.help);
      break;
    }
  }
  if (!setting.positional) option->group(setting.group);
  argument->option = option->option_text(HelpColumn(setting));
}

absl::Status SetFrom(const std::string& source, const Setting& setting,
                     const std::vector<std::string>& texts) {
  return Annotate(setting.value.set(texts), source);
}

// The flag's value, else the environment's; true when either was there.
absl::StatusOr<bool> SetFromFlagOrEnvironment(const Argument& argument) {
  const Setting& setting = *argument.setting;
  const bool is_list = setting.value.kind == SettingValue::Kind::kList;
  if (argument.option->count() > 0) {
    const std::string source =
        setting.positional ? PositionalName(setting.name) : StrCat("--", setting.name);
    TRIREME_RETURN_IF_ERROR(SetFrom(
        source, setting, is_list ? argument.texts : std::vector<std::string>{argument.text}));
    return true;
  }
  const std::string variable = EnvironmentName(setting.name);
  // NOLINTNEXTLINE(concurrency-mt-unsafe): no thread runs yet
  const char* value = std::getenv(variable.c_str());
  if (value == nullptr || *value == '\0') return false;
  std::vector<std::string> texts = {value};
  if (is_list) texts = absl::StrSplit(value, ',', absl::SkipEmpty());
  TRIREME_RETURN_IF_ERROR(SetFrom(variable, setting, texts));
  return true;
}

absl::Status CheckModelCommand(Command command, Options* options) {
  if (options->load.model.empty() && command != Command::kDoctor) {
    return absl::InvalidArgumentError(
        "MODEL is missing: give a directory, a .gguf file or what was pulled (hf://...), "
        "TRIREME_MODEL, or \"model:\" in the --config file");
  }
  if (options->generate.raw && !options->generate.system.empty()) {
    return absl::InvalidArgumentError("--raw has no place for a --system message: drop one");
  }
  if (options->serve.tls_cert_file.empty() != options->serve.tls_key_file.empty()) {
    return absl::InvalidArgumentError("--tls-cert and --tls-key go together");
  }
  LoadOptions& load = options->load;
  if (command != Command::kServe) return absl::OkStatus();
  // One GPU in a job of several machines is not theirs.
  if (load.num_ranks > 1) {
    TRIREME_RETURN_IF_ERROR(UseGroupEnvironment(pull::Environment, &load.group));
  }
  return CheckRankGroup(load.num_ranks, &load.group);
}

// What no row can tell by itself.
absl::Status CheckTogether(Command command, Options* options) {
  const auto missing = [](const char* name) {
    return absl::InvalidArgumentError(StrCat(name, " is missing"));
  };
  switch (command) {
    case Command::kBench:
      return loadgen::CheckBenchOptions(options->bench);
    case Command::kPull:
      return options->pull.source.empty() ? missing("SOURCE") : absl::OkStatus();
    case Command::kAuditVerify:
      return options->audit.files.empty() ? missing("AUDIT-LOG (several: oldest first)")
                                          : absl::OkStatus();
    case Command::kCompletion:
      return options->shell.empty() ? missing("SHELL (bash, zsh or fish)") : absl::OkStatus();
    case Command::kMan:
    case Command::kExit:
      return absl::OkStatus();
    default:
      return CheckModelCommand(command, options);
  }
}

absl::Status Resolve(Command command, const std::deque<Argument>& arguments,
                     const std::vector<Setting>& schema, Options* options) {
  std::vector<const Setting*> open;  // set by neither flag nor environment
  for (const Argument& argument : arguments) {
    TRIREME_ASSIGN_OR_RETURN(const bool is_set, SetFromFlagOrEnvironment(argument));
    if (!is_set) open.push_back(argument.setting);
  }
  if (!options->config_file.empty()) {
    auto values = ReadConfigFile(options->config_file, schema);
    if (!values.ok()) return Annotate(values.status(), "--config");
    for (const Setting* setting : open) {
      const auto found = values->find(setting->name);
      if (found == values->end()) continue;
      TRIREME_RETURN_IF_ERROR(
          SetFrom(StrCat("--config: ", options->config_file, ": ", setting->name), *setting,
                  found->second));
    }
  }
  return CheckTogether(command, options);
}

// hf://ORG/NAME and the like become the path that they were pulled to.
absl::Status FindModel(Options* options) {
  if (!pull::IsSource(options->load.model)) return absl::OkStatus();
  TRIREME_ASSIGN_OR_RETURN(pull::PulledModel found,
                           pull::ResolveModel(options->load.model, options->cache));
  options->load.model = std::move(found.path);
  if (options->load.served_names.empty() && !found.name.empty())
    options->load.served_names = {std::move(found.name)};
  return absl::OkStatus();
}

// What others than this program read, or set: tests, scripts, and Kubernetes for a service of our
// name.
bool IsForeignVariable(std::string_view name, std::string_view value) {
  for (const char* known : {"TRIREME_TEST_MODEL", "TRIREME_CPU_ISA"})
    if (name == known) return true;
  for (const char* prefix : {"TRIREME_SIMULATION_", "TRIREME_SERVICE_", "TRIREME_PORT_"})
    if (name.starts_with(prefix)) return true;
  return name == "TRIREME_PORT" && value.starts_with("tcp://");
}

std::vector<std::pair<std::string, std::string>> UnknownVariables(
    const std::vector<Setting>& schema) {
  constexpr std::string_view kPrefix = "TRIREME_";
  std::vector<std::string> names;
  for (const Setting& row : schema) names.push_back(row.name);
  std::vector<std::pair<std::string, std::string>> unknown;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string_view text = *entry;
    const std::string_view name = text.substr(0, text.find('='));
    if (!name.starts_with(kPrefix) || name.size() == text.size()) continue;
    const auto is_it = [&](const Setting& row) { return EnvironmentName(row.name) == name; };
    if (std::any_of(schema.begin(), schema.end(), is_it)) continue;
    if (IsForeignVariable(name, text.substr(name.size() + 1))) continue;
    std::string key;  // as settings are named
    for (const char c : name.substr(kPrefix.size()))
      key += c == '_' ? '-' : static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    const auto closest = ClosestName(key, names);
    unknown.emplace_back(Printable(name), closest ? EnvironmentName(*closest) : "");
  }
  return unknown;
}

}  // namespace

ParsedCommandLine ParseCommandLine(int argc, const char* const* argv) {
  ParsedCommandLine parsed;
  const std::vector<Setting> schema = Schema(&parsed.options);
  CLI::App app(kProgramSummary, "trireme");
  app.set_version_flag("--version", std::string("trireme ") + kVersion);
  app.require_subcommand(1);
  app.footer("trireme COMMAND --help explains a command.");
  std::map<Command, std::deque<Argument>> arguments;  // deque: CLI11 keeps pointers into it
  for (const CommandText& text : Commands()) {
    CLI::App* command = app.add_subcommand(text.name, text.summary);
    const bool settings = std::any_of(schema.begin(), schema.end(), [&](const Setting& row) {
      return row.name == "config" && Has(row, text.command);
    });
    command->footer(StrCat("\n", settings ? kSources : "", text.footer));
    for (const Setting& setting : schema) {
      if (!Has(setting, text.command)) continue;
      AddArgument(command, &arguments[text.command].emplace_back(Argument{&setting}));
    }
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    if (e.get_exit_code() == 0) {  // --help, --version
      app.exit(e);
      parsed.exit_code = kExitOk;
    } else {
      PrintRefusal(app, e, schema);
      parsed.exit_code = kExitUsage;
    }
    return parsed;
  }
  for (const CommandText& text : Commands()) {
    if (!app.got_subcommand(text.name)) continue;
    const absl::Status status =
        Resolve(text.command, arguments[text.command], schema, &parsed.options);
    if (!status.ok()) {
      std::cerr << "trireme " << text.name << ": " << std::string(status.message())
                << "\nRun with --help for more information.\n";
      parsed.exit_code = kExitUsage;
      return parsed;
    }
    if (const absl::Status found = FindModel(&parsed.options); !found.ok()) {
      parsed.options.model_error = std::string(found.message());
      if (text.command != Command::kDoctor) {  // which makes a finding of it
        std::cerr << "trireme " << text.name << ": " << parsed.options.model_error << "\n";
        parsed.exit_code = kExitFailure;
        return parsed;
      }
    }
    auto packed_weights = PackedWeightsFile(parsed.options.weight_cache, parsed.options.load.model,
                                            parsed.options.cache);
    if (!packed_weights.ok()) {
      std::cerr << "trireme " << text.name << ": " << std::string(packed_weights.status().message())
                << "\n";
      parsed.exit_code = kExitUsage;
      return parsed;
    }
    parsed.options.load.packed_weights = *std::move(packed_weights);
    parsed.options.unknown_variables = UnknownVariables(schema);
    parsed.command = text.command;
  }
  return parsed;
}

void WarnOfUnknownVariables(const Options& options) {
  for (const auto& [name, closest] : options.unknown_variables) {
    if (closest.empty()) {
      Log(LogLevel::kWarning, "no setting has this environment variable", {{"variable", name}});
    } else {
      Log(LogLevel::kWarning, "no setting has this environment variable",
          {{"variable", name}, {"did_you_mean", closest}});
    }
  }
}

}  // namespace trireme
