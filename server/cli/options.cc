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

#include "absl/strings/str_split.h"
#include "runtime/base/log.h"
#include "runtime/base/status.h"
#include "runtime/base/strings.h"
#include "runtime/base/version.h"
#include "server/cli/commands.h"
#include "server/cli/config_file.h"

namespace trireme {
namespace {

struct CommandText {
  Command command;
  const char *name, *summary, *footer;
};
constexpr char kSources[] =
    "Every setting is also an environment variable (named above) and a key of the --config file,\n"
    "named like the flag: --http-port 9000, TRIREME_HTTP_PORT=9000, \"http-port: 9000\"; MODEL is\n"
    "TRIREME_MODEL and \"model:\". Flags win over the environment, the environment over the "
    "file.\n"
    "A list is a repeated flag, a YAML list, or, in the environment, split at commas.\n\n";
constexpr CommandText kCommands[] = {
    {Command::kServe, "serve", "Serve a model over HTTP and gRPC",
     "Examples:\n"
     "  trireme serve model.gguf\n"
     "  trireme serve ./Llama-3.2-1B-Instruct --served-model-name llama --threads 8\n"
     "  trireme serve model.gguf --host 0.0.0.0 --api-keys keys.txt --tls-cert cert.pem --tls-key "
     "key.pem\n"
     "\nThen: curl http://127.0.0.1:8000/v1/chat/completions -H 'content-type: application/json' "
     "\\\n"
     "        -d '{\"model\": \"NAME\", \"messages\": [{\"role\": \"user\", \"content\": "
     "\"Hello\"}]}'\n"
     "\nSIGTERM drains: /ready turns 503, running requests finish, exit code 0. A second signal "
     "aborts."},
    {Command::kGenerate, "generate", "Answer one prompt and exit",
     "Examples:\n"
     "  trireme generate model.gguf -p 'Why is the sky blue?'\n"
     "  cat notes.txt | trireme generate model.gguf --system 'Summarise.' --max-tokens 200\n"
     "  trireme generate model.gguf --raw -p 'Once upon a time' --temperature 0 --json"},
    {Command::kInspect, "inspect",
     "Check a model and show what it needs: memory, KV blocks, ceilings",
     "Checks every tensor against the architecture without loading the weights. Ceilings are what\n"
     "reading the weights (and the KV cache) once per token allows, for one stream; a model that "
     "fits\n"
     "the caches can be faster.\n\n"
     "Examples:\n"
     "  trireme inspect model.gguf\n"
     "  trireme inspect model.gguf --kv-cache-memory 4GiB --bandwidth 100 --json"},
    {Command::kBench, "bench", "Put a server under load and measure it: OpenAI over HTTP, or gRPC",
     "A closed loop keeps --concurrency requests in flight. An open loop sends --rate requests a\n"
     "second, however slow the answers are; latency counts from the time a request was due, so\n"
     "waiting for a full server or a busy client is never left out. TTFT: to the first token;\n"
     "ITL: from one token event to the next; E2E: to the end. Goodput counts what met the --slo.\n"
     "Percentiles are exact to 0.4 %.\n\n"
     "Examples:\n"
     "  trireme bench --target http://127.0.0.1:8000 --concurrency 8 --requests 200\n"
     "  trireme bench --target grpc://127.0.0.1:8001 --rate 5 --duration 60s --warmup 10 \\\n"
     "      --prompt-tokens lognormal:512:0.6 --output-tokens uniform:64:256 \\\n"
     "      --slo ttft=500ms,itl=50ms --json report.json --plot report.svg\n"
     "  trireme bench --target http://127.0.0.1:8000 --ramp --duration 20s --slo ttft=1s --plot "
     "ramp.png\n"
     "\nExit code: 0 when a request succeeded, 1 when none did or the target cannot be reached, "
     "2 for\nwrong usage, 3 when interrupted."},
    {Command::kAuditVerify, "audit-verify", "Check the hash chain of an audit log",
     "Names the first line that was changed, removed, added or torn. A log that was cut off at "
     "the\n"
     "end of a line is seen with --last-hash, or by the chain's lacking \"stop\".\n\n"
     "Examples:\n"
     "  trireme audit-verify audit.log\n"
     "  trireme audit-verify audit.log.2 audit.log.1 audit.log --json\n"
     "\nExit code: 0 when the chain is whole, 1 when not, 2 for wrong usage."},
};

bool Has(const Setting& setting, Command command) {
  return (setting.commands & static_cast<unsigned>(command)) != 0;
}

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

absl::Status Resolve(Command command, const std::deque<Argument>& arguments,
                     const std::vector<Setting>& schema, const Options& options) {
  std::vector<const Setting*> open;  // set by neither flag nor environment
  for (const Argument& argument : arguments) {
    TRIREME_ASSIGN_OR_RETURN(const bool is_set, SetFromFlagOrEnvironment(argument));
    if (!is_set) open.push_back(argument.setting);
  }
  if (!options.config_file.empty()) {
    auto values = ReadConfigFile(options.config_file, schema);
    if (!values.ok()) return Annotate(values.status(), "--config");
    for (const Setting* setting : open) {
      const auto found = values->find(setting->name);
      if (found == values->end()) continue;
      TRIREME_RETURN_IF_ERROR(SetFrom(
          StrCat("--config: ", options.config_file, ": ", setting->name), *setting, found->second));
    }
  }
  if (command == Command::kBench) return loadgen::CheckBenchOptions(options.bench);
  if (command == Command::kAuditVerify) {
    if (!options.audit.files.empty()) return absl::OkStatus();
    return absl::InvalidArgumentError(
        "AUDIT-LOG is missing: give the file, or several, oldest first");
  }
  if (options.load.model.empty()) {
    return absl::InvalidArgumentError(
        "MODEL is missing: give a directory or a .gguf file, TRIREME_MODEL, or \"model:\" in the "
        "--config file");
  }
  if (options.generate.raw && !options.generate.system.empty()) {
    return absl::InvalidArgumentError("--raw has no place for a --system message: drop one");
  }
  if (options.serve.tls_cert_file.empty() != options.serve.tls_key_file.empty()) {
    return absl::InvalidArgumentError("--tls-cert and --tls-key go together");
  }
  return absl::OkStatus();
}

// What others than this program read, or set: tests, scripts, and Kubernetes for a service of our
// name.
bool IsForeignVariable(std::string_view name, std::string_view value) {
  for (const char* known : {"TRIREME_TEST_MODEL", "TRIREME_CPU_ISA", "TRIREME_CACHE"})
    if (name == known) return true;
  for (const char* prefix : {"TRIREME_SIMULATION_", "TRIREME_SERVICE_", "TRIREME_PORT_"})
    if (name.starts_with(prefix)) return true;
  return name == "TRIREME_PORT" && value.starts_with("tcp://");
}

std::vector<std::pair<std::string, std::string>> UnknownVariables(
    const std::vector<Setting>& schema) {
  constexpr std::string_view kPrefix = "TRIREME_";
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
    unknown.emplace_back(Printable(name), EnvironmentName(ClosestSetting(key, schema).name));
  }
  return unknown;
}

}  // namespace

ParsedCommandLine ParseCommandLine(int argc, const char* const* argv) {
  ParsedCommandLine parsed;
  const std::vector<Setting> schema = Schema(&parsed.options);
  CLI::App app("Trireme serves language models over OpenAI-compatible HTTP and gRPC.", "trireme");
  app.set_version_flag("--version", std::string("trireme ") + kVersion);
  app.require_subcommand(1);
  app.footer("trireme COMMAND --help explains a command.");
  std::map<Command, std::deque<Argument>> arguments;  // deque: CLI11 keeps pointers into it
  for (const CommandText& text : kCommands) {
    CLI::App* command = app.add_subcommand(text.name, text.summary);
    command->footer(std::string("\n") + kSources + text.footer);
    for (const Setting& setting : schema) {
      if (!Has(setting, text.command)) continue;
      AddArgument(command, &arguments[text.command].emplace_back(Argument{&setting}));
    }
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    parsed.exit_code = app.exit(e) == 0 ? kExitOk : kExitUsage;
    return parsed;
  }
  for (const CommandText& text : kCommands) {
    if (!app.got_subcommand(text.name)) continue;
    const absl::Status status =
        Resolve(text.command, arguments[text.command], schema, parsed.options);
    if (!status.ok()) {
      std::cerr << "trireme " << text.name << ": " << std::string(status.message())
                << "\nRun with --help for more information.\n";
      parsed.exit_code = kExitUsage;
      return parsed;
    }
    parsed.options.unknown_variables = UnknownVariables(schema);
    parsed.command = text.command;
  }
  return parsed;
}

void WarnOfUnknownVariables(const Options& options) {
  for (const auto& [name, closest] : options.unknown_variables) {
    Log(LogLevel::kWarning, "no setting has this environment variable",
        {{"variable", name}, {"did_you_mean", closest}});
  }
}

}  // namespace trireme
