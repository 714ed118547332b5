#include "server/cli/options.h"

#include <yaml-cpp/yaml.h>

#include <CLI/CLI.hpp>
#include <cctype>
#include <charconv>
#include <cstdlib>
#include <iostream>
#include <map>

#include "absl/strings/str_join.h"
#include "runtime/base/strings.h"
#include "server/cli/commands.h"

namespace trireme {
namespace {

std::string EnvironmentName(std::string_view flag) {
  std::string name = "TRIREME_";
  for (const char c : flag) name += c == '-' ? '_' : static_cast<char>(std::toupper(c));
  return name;
}

// The --config file as environment variables that are not set yet, so that flag > environment >
// file falls out of CLI11's own order. A flat mapping "flag-name: value"; lists for repeatable
// flags. Keys are checked against `app`.
absl::Status ApplyConfigFile(const CLI::App& app, const std::string& path) {
  YAML::Node root;
  try {
    root = YAML::LoadFile(path);
  } catch (const YAML::BadFile&) {
    return absl::NotFoundError(StrCat("--config: cannot read ", path));
  } catch (const YAML::Exception& e) {
    return absl::InvalidArgumentError(StrCat("--config: ", path, " is not YAML: ", e.what()));
  }
  if (root.IsNull()) return absl::OkStatus();
  if (!root.IsMap())
    return absl::InvalidArgumentError(StrCat("--config: ", path, " must be a mapping of settings"));
  for (const auto& entry : root) {
    const std::string key = entry.first.IsScalar() ? entry.first.Scalar() : "";
    const CLI::Option* option = app.get_option_no_throw("--" + key);
    if (option == nullptr || option->get_envname() != EnvironmentName(key)) {
      return absl::InvalidArgumentError(StrCat("--config: \"", key, "\" is no setting of trireme ",
                                               app.get_name(), "; see --help"));
    }
    std::vector<std::string> values;
    if (entry.second.IsScalar()) values.push_back(entry.second.Scalar());
    if (entry.second.IsSequence()) {
      for (const auto& item : entry.second) values.push_back(item.IsScalar() ? item.Scalar() : "");
    }
    if (values.empty())
      return absl::InvalidArgumentError(StrCat("--config: \"", key, "\" needs a value"));
    setenv(EnvironmentName(key).c_str(), absl::StrJoin(values, ",").c_str(), /*overwrite=*/0);
  }
  return absl::OkStatus();
}

// The file named by --config on the command line, else by TRIREME_CONFIG, else "".
std::string FindConfigFile(int argc, const char* const* argv) {
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    if (argument == "--config" && i + 1 < argc) return argv[i + 1];
    if (argument.starts_with("--config=")) return std::string(argument.substr(9));
  }
  const char* environment = std::getenv("TRIREME_CONFIG");
  return environment == nullptr ? "" : environment;
}

// Adds one setting to a subcommand: flag, environment variable and config key in one go.
template <typename T>
CLI::Option* Add(CLI::App* app, const std::string& group, const std::string& name, T& target,
                 const std::string& help) {
  return app->add_option("--" + name, target, help)
      ->group(group)
      ->envname(EnvironmentName(name))
      ->capture_default_str();
}

CLI::Option* AddBytes(CLI::App* app, const std::string& group, const std::string& name,
                      int64_t& target, const std::string& help) {
  return app
      ->add_option_function<std::string>(
          "--" + name,
          [&target, name](const std::string& text) {
            auto bytes = ParseBytes(text);
            if (!bytes.ok())
              throw CLI::ValidationError("--" + name, std::string(bytes.status().message()));
            target = *bytes;
          },
          help)
      ->group(group)
      ->envname(EnvironmentName(name))
      ->type_name("BYTES");
}

void AddModelOptions(CLI::App* app, LoadOptions& load) {
  app->add_option("MODEL", load.model,
                  "Directory with config.json and *.safetensors (Hugging Face), or a .gguf file")
      ->envname("TRIREME_MODEL")
      ->required();
  const std::string group = "Model";
  Add(app, group, "chat-template", load.chat_template_file,
      "Jinja file used in place of the model's own chat template");
  Add(app, group, "max-context", load.max_context_tokens,
      "Longest prompt plus answer, in tokens (0: what the model was trained for)")
      ->check(CLI::Range(0, 1 << 24));
  Add(app, group, "threads", load.num_threads,
      "Compute threads (0: every core this process may use)")
      ->check(CLI::Range(0, 1024));
  AddBytes(app, group, "kv-cache-memory", load.kv_cache_bytes,
           "Memory for the KV cache, e.g. 2GiB (default: room for 32 full contexts, at most half "
           "of what is free)");
  Add(app, group, "kv-cache-dtype", load.kv_cache_dtype,
      "Type of the KV cache; auto is f16 (f32 for f32 models)")
      ->check(CLI::IsMember({"auto", "f32", "f16", "bf16"}));
}

void AddSchedulerOptions(CLI::App* app, LoadOptions& load) {
  const std::string group = "Scheduling";
  SchedulerOptions& s = load.scheduler;
  Add(app, group, "block-size", s.block_size, "Tokens of one KV block")
      ->check(CLI::IsMember({8, 16, 32, 64}));
  Add(app, group, "max-running", s.max_running, "Sequences that generate at the same time")
      ->check(CLI::Range(1, 65536));
  Add(app, group, "max-step-tokens", s.max_step_tokens,
      "Tokens of one engine step, decode and prefill together")
      ->check(CLI::Range(1, 1 << 20));
  Add(app, group, "max-prefill-chunk", s.max_prefill_chunk,
      "Tokens of one prompt computed in one step: lower keeps running streams smoother")
      ->check(CLI::Range(1, 1 << 20));
  Add(app, group, "max-waiting", s.max_waiting_requests,
      "Requests that may wait; more are refused with 429")
      ->check(CLI::Range(0, 1 << 20));
  Add(app, group, "max-waiting-tokens", s.max_waiting_prompt_tokens,
      "Prompt tokens that may wait; more are refused with 429")
      ->check(CLI::PositiveNumber);
  app->add_flag("--prefix-cache,!--no-prefix-cache", s.prefix_cache,
                "Reuse the KV cache of equal prompt beginnings")
      ->group(group)
      ->envname("TRIREME_PREFIX_CACHE");
}

void AddConfigFile(CLI::App* app) {
  // Read before CLI11 runs (ApplyConfigFile); registered here so that --help shows it and parsing
  // accepts it.
  app->add_option("--config", "YAML file with any of these settings (\"http-port: 9000\")")
      ->envname("TRIREME_CONFIG")
      ->type_name("FILE");
}

void AddServe(CLI::App* app, ServeOptions& o) {
  app->footer(
      "Every setting is also an environment variable (--http-port is TRIREME_HTTP_PORT) and a key "
      "of the --config file.\n"
      "\nExamples:\n"
      "  trireme serve model.gguf\n"
      "  trireme serve ./Llama-3.2-1B-Instruct --served-model-name llama --threads 8\n"
      "  trireme serve model.gguf --host 0.0.0.0 --api-keys keys.txt --tls-cert cert.pem --tls-key "
      "key.pem\n"
      "\nThen: curl http://127.0.0.1:8000/v1/chat/completions -H 'content-type: application/json' "
      "\\\n"
      "        -d '{\"model\": \"NAME\", \"messages\": [{\"role\": \"user\", \"content\": "
      "\"Hello\"}]}'\n"
      "\nSIGTERM drains: /ready turns 503, running requests finish, exit code 0. A second signal "
      "aborts.");
  AddModelOptions(app, o.load);
  Add(app, "Model", "served-model-name", o.load.served_names,
      "Name clients send as `model`; repeat for aliases (default: from the path)")
      ->delimiter(',');
  Add(app, "Network", "host", o.host,
      "Address to listen on; anything but loopback needs --api-keys");
  Add(app, "Network", "http-port", o.http_port, "HTTP port (0: any free one)")
      ->check(CLI::Range(0, 65535));
  Add(app, "Network", "grpc-port", o.grpc_port, "gRPC port (0: any free one, -1: no gRPC)")
      ->check(CLI::Range(-1, 65535));
  Add(app, "Network", "io-threads", o.io_threads, "Threads that read and write sockets")
      ->check(CLI::Range(1, 64));
  Add(app, "Network", "max-connections", o.max_connections,
      "Open HTTP connections; further ones wait to be accepted")
      ->check(CLI::Range(1, 1 << 20));
  AddBytes(app, "Network", "max-body", o.max_body_bytes, "Largest request body (default 32MiB)");
  Add(app, "Security", "api-keys", o.api_keys_file,
      "File of API keys, one a line: KEY or sha256:HEX, then optionally a tenant name; reloaded on "
      "change");
  CLI::Option* cert = Add(app, "Security", "tls-cert", o.tls_cert_file,
                          "PEM certificate chain: HTTP and gRPC speak TLS");
  CLI::Option* key =
      Add(app, "Security", "tls-key", o.tls_key_file, "PEM private key of --tls-cert");
  cert->needs(key);
  key->needs(cert);
  AddSchedulerOptions(app, o.load);
  Add(app, "Process", "drain-timeout", o.drain_timeout_s,
      "Seconds that running requests get after SIGTERM")
      ->check(CLI::Range(0, 86400));
  Add(app, "Process", "log-level", o.log_level, "What is logged")
      ->check(CLI::IsMember({"debug", "info", "warning", "error"}));
  Add(app, "Process", "log-format", o.log_format, "text for people, json for machines")
      ->check(CLI::IsMember({"text", "json"}));
  AddConfigFile(app);
}

void AddGenerate(CLI::App* app, GenerateOptions& o) {
  app->footer(
      "Examples:\n"
      "  trireme generate model.gguf -p 'Why is the sky blue?'\n"
      "  cat notes.txt | trireme generate model.gguf --system 'Summarise.' --max-tokens 200\n"
      "  trireme generate model.gguf --raw -p 'Once upon a time' --temperature 0 --json");
  AddModelOptions(app, o.load);
  const std::string group = "Generation";
  app->add_option("-p,--prompt", o.prompt, "The user's message (default: standard input)")
      ->group(group);
  app->add_flag("--raw", o.raw, "Continue the prompt as it is, without the chat template")
      ->group(group);
  Add(app, group, "system", o.system, "System message");
  Add(app, group, "max-tokens", o.max_tokens, "Longest answer, in tokens")
      ->check(CLI::Range(1, 1 << 24));
  Add(app, group, "temperature", o.temperature, "0 is greedy (default: the model's)")
      ->default_str("");
  Add(app, group, "top-p", o.top_p, "Nucleus sampling (default: the model's)")->default_str("");
  Add(app, group, "top-k", o.top_k, "Sample from the k best (default: the model's)")
      ->default_str("");
  Add(app, group, "seed", o.seed, "Same seed, same answer");
  app->add_option("--stop", o.stop, "Stop at this text; may be repeated")->group(group);
  app->add_flag("--json", o.json, "One JSON object with text, tokens, timing")->group(group);
  AddConfigFile(app);
}

void AddInspect(CLI::App* app, InspectOptions& o) {
  app->footer("Example:\n  trireme inspect model.gguf --kv-cache-memory 4GiB");
  AddModelOptions(app, o.load);
  app->add_flag("--metadata", o.metadata, "Every metadata entry and tensor of the file too")
      ->group("Output");
  app->add_flag("--json", o.json, "For machines")->group("Output");
  AddConfigFile(app);
}

}  // namespace

absl::StatusOr<int64_t> ParseBytes(std::string_view text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  std::string unit(end, text.data() + text.size());
  for (char& c : unit) c = static_cast<char>(std::toupper(c));
  static const std::map<std::string, double> units = {
      {"", 1},         {"B", 1},      {"K", 0x1p10},   {"KB", 1e3},    {"KIB", 0x1p10},
      {"M", 0x1p20},   {"MB", 1e6},   {"MIB", 0x1p20}, {"G", 0x1p30},  {"GB", 1e9},
      {"GIB", 0x1p30}, {"T", 0x1p40}, {"TB", 1e12},    {"TIB", 0x1p40}};
  const auto found = units.find(unit);
  if (error != std::errc() || found == units.end() || !(value >= 0) ||
      value * found->second > 0x1p60) {
    return absl::InvalidArgumentError(
        StrCat("\"", text, "\" is no size; write 512MiB, 2GiB or a number of bytes"));
  }
  return static_cast<int64_t>(value * found->second);
}

ParsedCommandLine ParseCommandLine(int argc, const char* const* argv) {
  ParsedCommandLine parsed;
  CLI::App app("Trireme serves language models over OpenAI-compatible HTTP and gRPC.", "trireme");
  app.set_version_flag("--version", std::string("trireme ") + kVersion);
  app.require_subcommand(1);
  app.footer("trireme COMMAND --help explains a command.");
  CLI::App* serve = app.add_subcommand("serve", "Serve a model over HTTP and gRPC");
  CLI::App* generate = app.add_subcommand("generate", "Answer one prompt and exit");
  CLI::App* inspect =
      app.add_subcommand("inspect", "Show what a model needs: memory, KV blocks, contexts");
  AddServe(serve, parsed.serve);
  AddGenerate(generate, parsed.generate);
  AddInspect(inspect, parsed.inspect);
  const std::string config = FindConfigFile(argc, argv);
  const CLI::App* chosen = nullptr;
  for (const CLI::App* command : {serve, generate, inspect}) {
    if (argc > 1 && command->get_name() == argv[1]) chosen = command;
  }
  if (!config.empty() && chosen != nullptr) {
    if (absl::Status status = ApplyConfigFile(*chosen, config); !status.ok()) {
      std::cerr << "trireme: " << std::string(status.message()) << "\n";
      parsed.exit_code = kExitUsage;
      return parsed;
    }
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    parsed.exit_code = app.exit(e) == 0 ? kExitOk : kExitUsage;
    return parsed;
  }
  parsed.command = *serve ? Command::kServe : *generate ? Command::kGenerate : Command::kInspect;
  return parsed;
}

}  // namespace trireme
