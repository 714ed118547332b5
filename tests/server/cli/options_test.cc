#include "server/cli/options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_split.h"
#include "runtime/base/strings.h"
#include "server/cli/commands.h"
#include "tests/fakes/files.h"

extern char** environ;

namespace trireme {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;
using testing::Pair;
using testing::StartsWith;

class OptionsTest : public testing::Test {
 protected:
  void SetUp() override { ClearEnvironment(); }
  void TearDown() override { ClearEnvironment(); }
  // Every TRIREME_* variable of the process.
  static void ClearEnvironment() {
    std::vector<std::string> names;
    for (char** entry = environ; *entry != nullptr; ++entry) {
      const std::string text = *entry;
      if (text.starts_with("TRIREME_")) names.push_back(text.substr(0, text.find('=')));
    }
    for (const std::string& name : names) unsetenv(name.c_str());
  }
  ParsedCommandLine Parse(std::vector<const char*> arguments) {
    arguments.insert(arguments.begin(), "trireme");
    testing::internal::CaptureStderr();
    testing::internal::CaptureStdout();
    ParsedCommandLine parsed =
        ParseCommandLine(static_cast<int>(arguments.size()), arguments.data());
    errors_ = testing::internal::GetCapturedStderr();
    output_ = testing::internal::GetCapturedStdout();
    return parsed;
  }
  Options Accepted(std::vector<const char*> arguments) {
    ParsedCommandLine parsed = Parse(std::move(arguments));
    EXPECT_NE(parsed.command, Command::kExit) << errors_;
    return std::move(parsed.options);
  }
  // What is printed about a mistake.
  std::string Refused(std::vector<const char*> arguments) {
    const ParsedCommandLine parsed = Parse(std::move(arguments));
    EXPECT_EQ(parsed.command, Command::kExit);
    EXPECT_EQ(parsed.exit_code, kExitUsage);
    return errors_;
  }
  std::string RefusedConfig(const std::string& text) {
    return Refused({"serve", "m", "--config", WriteConfig(text).c_str()});
  }
  std::string WriteConfig(const std::string& text) {
    const std::string path = files_.File("config.yaml");
    fakes::WriteFile(path, text);
    return path;
  }

  fakes::TempDirectory files_;  // the cases run as processes side by side
  std::string errors_, output_;
};

TEST_F(OptionsTest, DefaultsServeOnLoopback) {
  const Options options = Accepted({"serve", "model.gguf"});
  EXPECT_EQ(options.load.model, "model.gguf");
  EXPECT_EQ(options.serve.host, "127.0.0.1");
  EXPECT_EQ(options.serve.http_port, 8000);
  EXPECT_EQ(options.serve.grpc_port, 8001);
  EXPECT_TRUE(options.load.scheduler.prefix_cache);
  EXPECT_TRUE(options.serve.page);
  EXPECT_FALSE(Accepted({"serve", "m", "--no-page"}).serve.page);
}

TEST_F(OptionsTest, EnvironmentSetsWhatNoFlagSets) {
  setenv("TRIREME_HTTP_PORT", "9001", 1);
  setenv("TRIREME_HOST", "", 1);  // empty: as if it were not there
  EXPECT_EQ(Accepted({"serve", "m"}).serve.http_port, 9001);
  EXPECT_EQ(Accepted({"serve", "m"}).serve.host, "127.0.0.1");
  EXPECT_EQ(Accepted({"serve", "m", "--http-port", "9002"}).serve.http_port, 9002);
}

TEST_F(OptionsTest, ConfigFileSetsWhatNeitherFlagNorEnvironmentSets) {
  const std::string path = WriteConfig(
      "http-port: 9003\nmax-context: 2048\nserved-model-name: [a, b]\nprefix-cache: "
      "false\nkv-cache-memory: 2GiB\n");
  setenv("TRIREME_MAX_CONTEXT", "1024", 1);
  const Options options = Accepted({"serve", "m", "--config", path.c_str()});
  EXPECT_EQ(options.serve.http_port, 9003);
  EXPECT_EQ(options.load.max_context_tokens, 1024);
  EXPECT_THAT(options.load.served_names, ElementsAre("a", "b"));
  EXPECT_FALSE(options.load.scheduler.prefix_cache);
  EXPECT_EQ(options.load.kv_cache_bytes, int64_t{2} << 30);
  EXPECT_TRUE(Accepted({"serve", "m", "--config", path.c_str(), "--prefix-cache"})
                  .load.scheduler.prefix_cache);
  setenv("TRIREME_CONFIG", path.c_str(), 1);
  EXPECT_EQ(Accepted({"serve", "m"}).serve.http_port, 9003);
}

TEST_F(OptionsTest, ModelComesFromAnySource) {
  const std::string path = WriteConfig("model: from-file\n");
  for (const char* command : {"serve", "generate", "inspect"}) {
    ClearEnvironment();
    EXPECT_EQ(Accepted({command, "--config", path.c_str()}).load.model, "from-file");
    setenv("TRIREME_MODEL", "from-environment", 1);
    EXPECT_EQ(Accepted({command, "--config", path.c_str()}).load.model, "from-environment");
    EXPECT_EQ(Accepted({command, "given", "--config", path.c_str()}).load.model, "given");
  }
  ClearEnvironment();
  EXPECT_THAT(Refused({"serve"}), HasSubstr("TRIREME_MODEL"));
}

TEST_F(OptionsTest, OtherCommandsSettingsComeFromTheSameSources) {
  const std::string path = WriteConfig(
      "prompt: hello\nraw: true\nstop: [\"a,b\", \"[c]\"]\ntemperature: 0.5\nseed: "
      "18446744073709551615\nhttp-port: 9003\n");
  const Options options = Accepted({"generate", "m", "--config", path.c_str()});
  EXPECT_EQ(options.generate.prompt, "hello");
  EXPECT_TRUE(options.generate.raw);
  EXPECT_THAT(options.generate.stop, ElementsAre("a,b", "[c]"));
  EXPECT_EQ(options.generate.temperature, 0.5f);
  EXPECT_EQ(options.generate.seed, UINT64_MAX);
  EXPECT_EQ(options.generate.top_p, std::nullopt);
  EXPECT_EQ(options.serve.http_port, 8000) << "not generate's";
  setenv("TRIREME_MAX_TOKENS", "7", 1);
  setenv("TRIREME_STOP", "x,y", 1);
  EXPECT_EQ(Accepted({"generate", "m"}).generate.max_tokens, 7);
  EXPECT_THAT(Accepted({"generate", "m"}).generate.stop, ElementsAre("x", "y"));
  setenv("TRIREME_JSON", "yes", 1);
  EXPECT_TRUE(Accepted({"inspect", "m"}).json);
  EXPECT_EQ(Accepted({"inspect", "m", "--bandwidth", "100"}).inspect.bandwidth_gb_s, 100.0f);
}

TEST_F(OptionsTest, TextsAreTakenAsTheyAre) {
  const Options options =
      Accepted({"generate", "m", "-p", "-", "--stop", "[x]", "--stop", "a,b", "--system", "{}"});
  EXPECT_EQ(options.generate.prompt, "-");
  EXPECT_THAT(options.generate.stop, ElementsAre("[x]", "a,b"));
  EXPECT_EQ(options.generate.system, "{}");
  EXPECT_EQ(Accepted({"serve", "m", "--grpc-port", "-1"}).serve.grpc_port, -1);
}

TEST_F(OptionsTest, MistakesInTheConfigFileNameFileAndKey) {
  EXPECT_THAT(RefusedConfig("http-prt: 1\n"), HasSubstr("\"http-prt\" is no setting"));
  EXPECT_THAT(RefusedConfig("http-prt: 1\n"), HasSubstr("did you mean \"http-port\"?"));
  EXPECT_THAT(RefusedConfig("max_context: 1\n"), HasSubstr("did you mean \"max-context\"?"));
  EXPECT_THAT(RefusedConfig("\"x\\e[2J\": 1\n"), HasSubstr("x\\x1b[2J"));
  EXPECT_THAT(RefusedConfig("- a\n- b\n"), HasSubstr("a mapping of settings"));
  EXPECT_THAT(RefusedConfig("http-port: {a: 1}\n"), HasSubstr("http-port: a value is wanted"));
  EXPECT_THAT(RefusedConfig("http-port: [1, 2]\n"), HasSubstr("http-port: one value"));
  EXPECT_THAT(RefusedConfig("http-port:\n"), HasSubstr("http-port: a value is wanted"));
  EXPECT_THAT(RefusedConfig("http-port: 99999\n"), HasSubstr("from 0 to 65535"));
  EXPECT_THAT(RefusedConfig("http-port: 1\nhttp-port: 2\n"), HasSubstr("appears twice"));
  EXPECT_THAT(RefusedConfig("config: other.yaml\n"), HasSubstr("no setting"));
  EXPECT_THAT(RefusedConfig("a: [\n"), HasSubstr("not YAML"));
  EXPECT_THAT(RefusedConfig("raw: maybe\nhttp-port: 70000\n"),
              HasSubstr("config.yaml: http-port: "));
  EXPECT_THAT(Refused({"serve", "m", "--config", "/nonexistent.yaml"}),
              HasSubstr("/nonexistent.yaml"));
}

TEST_F(OptionsTest, EmptyConfigFileSetsNothing) {
  for (const char* text : {"", "\n", "# nothing yet\n"}) {
    const std::string path = WriteConfig(text);
    EXPECT_EQ(Accepted({"serve", "m", "--config", path.c_str()}).serve.http_port, 8000);
  }
  EXPECT_EQ(Accepted({"serve", "m", "--config", "/dev/null"}).serve.http_port, 8000);
  for (const char* path : {"/", "/dev/zero"}) {
    EXPECT_THAT(Refused({"serve", "m", "--config", path}),
                HasSubstr(StrCat("--config: ", path, " is not a regular file")));
  }
  EXPECT_THAT(RefusedConfig(std::string(2 << 20, '#')), HasSubstr("is larger than"));
}

TEST_F(OptionsTest, VariablesThatAreNoSettingAreNoticedWithTheClosest) {
  setenv("TRIREME_HTTP_PROT", "9001", 1);
  setenv("TRIREME_PROMPT", "generate's", 1);  // a setting, though of another command
  for (const char* foreign :
       {"TRIREME_TEST_MODEL", "TRIREME_CPU_ISA", "TRIREME_SIMULATION_SEED", "TRIREME_CACHE",
        "TRIREME_SERVICE_HOST", "TRIREME_PORT_8000_TCP", "TRIREMES"}) {
    setenv(foreign, "x", 1);
  }
  setenv("TRIREME_PORT", "tcp://10.0.0.1:8000", 1);
  EXPECT_THAT(Accepted({"serve", "m"}).unknown_variables,
              ElementsAre(Pair("TRIREME_HTTP_PROT", "TRIREME_HTTP_PORT")));
  unsetenv("TRIREMES");
}

TEST_F(OptionsTest, MistakesInTheEnvironmentNameTheVariable) {
  setenv("TRIREME_BLOCK_SIZE", "17", 1);
  EXPECT_THAT(Refused({"serve", "m"}), HasSubstr("TRIREME_BLOCK_SIZE: \"17\" is not one of 8, 16"));
}

TEST_F(OptionsTest, MistakesOnTheCommandLineAreUsageErrors) {
  Refused({});
  Refused({"serve"});
  EXPECT_THAT(Refused({"serve", "m", "--http-port", "x"}), HasSubstr("--http-port: \"x\""));
  EXPECT_THAT(Refused({"serve", "m", "--tls-cert", "c.pem"}), HasSubstr("--tls-key"));
  EXPECT_THAT(Refused({"serve", "m", "--kv-cache-memory", "lots"}), HasSubstr("512MiB"));
  EXPECT_THAT(Refused({"generate", "m", "--temperature", "nan"}), HasSubstr("from 0 to 2"));
  EXPECT_THAT(Refused({"generate", "m", "--seed", "-1"}), HasSubstr("--seed"));
  EXPECT_THAT(Refused({"serve", "m", "--max-waiting", "0"}), HasSubstr("from 1 to"));
  EXPECT_THAT(Refused({"generate", "m", "--raw", "--system", "x"}), HasSubstr("--system"));
  Refused({"inspect", "m", "--http-port", "1"});
}

TEST_F(OptionsTest, UnknownFlagsAndCommandsAreNamedWithWhatWasProbablyMeant) {
  EXPECT_THAT(Refused({"serve", "--htp-port", "4", "m"}),
              StartsWith("trireme serve: there is no --htp-port; did you mean \"--http-port\"?\n"));
  EXPECT_THAT(Refused({"serve", "m", "--htp-port=4"}), HasSubstr("did you mean \"--http-port\"?"));
  EXPECT_THAT(Refused({"serve", "m", "--no-pages"}), HasSubstr("did you mean \"--no-page\"?"));
  EXPECT_THAT(Refused({"generate", "m", "--no-raww"}), Not(HasSubstr("did you mean")));
  EXPECT_THAT(Refused({"serve", "m", "-x"}), StartsWith("trireme serve: there is no -x\n"));
  EXPECT_THAT(Refused({"serve", "m", "n", "o"}), HasSubstr("\"n\" is one argument too many"));
  EXPECT_THAT(Refused({"serve", "m", "--zzzzzz"}), Not(HasSubstr("did you mean")));
  EXPECT_THAT(Refused({"serve", "m", "--http-port"}), StartsWith("trireme serve: --http-port"));
  EXPECT_THAT(Refused({"serv", "m"}),
              StartsWith("trireme: there is no command \"serv\"; did you mean \"serve\"?\n"));
  EXPECT_THAT(Refused({"frobnicate"}),
              StartsWith("trireme: there is no command \"frobnicate\"\nRun with --help"));
  EXPECT_THAT(Refused({"--versoin"}), HasSubstr("did you mean \"--version\"?"));
  EXPECT_THAT(Refused({}), HasSubstr("a command is missing: serve, generate, "));
}

TEST_F(OptionsTest, WhatIsLikeNothingHasNoSuggestion) {
  setenv("TRIREME_FOO", "1", 1);
  EXPECT_THAT(Accepted({"serve", "m"}).unknown_variables, ElementsAre(Pair("TRIREME_FOO", "")));
  unsetenv("TRIREME_FOO");
  EXPECT_THAT(RefusedConfig("a: 1\n"), Not(HasSubstr("did you mean")));
}

TEST_F(OptionsTest, HelpShowsEverySettingOfTheCommand) {
  Options options;
  const std::vector<Setting> schema = Schema(&options);
  for (const auto& [name, bit] :
       {std::pair("serve", Command::kServe), std::pair("generate", Command::kGenerate),
        std::pair("inspect", Command::kInspect), std::pair("bench", Command::kBench),
        std::pair("doctor", Command::kDoctor), std::pair("pull", Command::kPull)}) {
    std::set<std::string> wanted;
    for (const Setting& setting : schema) {
      if ((setting.commands & static_cast<unsigned>(bit)) != 0) wanted.insert(setting.name);
    }
    EXPECT_EQ(Parse({name, "--help"}).exit_code, kExitOk);
    const std::string text = output_.substr(0, output_.find("Every setting"));
    const std::vector<std::string> shown = absl::StrSplit(text, absl::ByAnyChar(" \n"));
    for (const Setting& setting : schema) {
      EXPECT_EQ(std::count(shown.begin(), shown.end(), EnvironmentName(setting.name)),
                wanted.contains(setting.name) ? 1 : 0)
          << name << " " << setting.name;
    }
  }
  Parse({"serve", "--help"});
  EXPECT_THAT(output_, HasSubstr("[8000]"));
  EXPECT_THAT(output_, HasSubstr("split at commas"));
  EXPECT_THAT(output_, HasSubstr("Scheduling:"));
}

TEST_F(OptionsTest, NamesOfTheSchemaAreUniqueInEachCommand) {
  Options options;
  std::map<std::string, unsigned> commands;
  for (const Setting& setting : Schema(&options)) {
    EXPECT_EQ(commands[setting.name] & setting.commands, 0u) << setting.name;
    commands[setting.name] |= setting.commands;
    EXPECT_NE(setting.commands, 0u) << setting.name;
    EXPECT_FALSE(setting.help.empty()) << setting.name;
  }
}

TEST_F(OptionsTest, BenchTakesItsDistributionsAndBounds) {
  const auto bench = Accepted({"bench", "--target", "http://h:1", "--rate", "2.5",
                               "--output-tokens", "uniform:8:16", "--slo", "ttft=300ms,itl=50ms",
                               "--duration", "2m", "--json", "-", "--no-ignore-eos", "--seed", "7"})
                         .bench;
  EXPECT_EQ(bench.rate, 2.5F);
  EXPECT_EQ(bench.workload.output_tokens->text(), "uniform:8:16");
  EXPECT_EQ(bench.slo.itl, absl::Milliseconds(50));
  EXPECT_EQ(bench.duration, absl::Minutes(2));
  EXPECT_EQ(bench.json_file, "-");
  EXPECT_FALSE(bench.workload.ignore_eos);
  EXPECT_EQ(bench.seed, 7u);
}

TEST_F(OptionsTest, BenchMistakesNameTheFlag) {
  EXPECT_THAT(Refused({"bench"}), HasSubstr("--target is missing"));
  EXPECT_THAT(Refused({"bench", "--target", "ftp://h"}), HasSubstr("--target: \"ftp://h\""));
  const auto refused = [&](std::vector<const char*> more) {
    more.insert(more.begin(), {"bench", "--target", "http://h:1"});
    return Refused(std::move(more));
  };
  EXPECT_THAT(refused({"--slo", "tpot=1s"}), HasSubstr("--slo: \"tpot=1s\""));
  EXPECT_THAT(refused({"--prompt-tokens", "normal:1:2"}), HasSubstr("--prompt-tokens"));
  EXPECT_THAT(refused({"--duration", "5"}), HasSubstr("--duration: \"5\" is no time"));
  EXPECT_THAT(refused({"--rate", "1", "--concurrency", "1"}), HasSubstr("give one of them"));
  EXPECT_THAT(refused({"--plot", "x.pdf"}), HasSubstr(".svg or .png"));
  EXPECT_THAT(refused({"--ramp-step", "2"}), HasSubstr("--ramp"));
  EXPECT_THAT(refused({"--api-key", "a b"}), HasSubstr("--api-key"));
}

// `json: true` in a file that other commands share means the same to bench.
TEST_F(OptionsTest, JsonAsASwitchIsStandardOutputForBench) {
  const std::string config = WriteConfig("json: true\ntarget: http://h:1\n");
  EXPECT_EQ(Accepted({"bench", "--config", config.c_str()}).bench.json_file, "-");
}

TEST_F(OptionsTest, DoctorNeedsNoModelAndTakesWhatServeTakes) {
  EXPECT_EQ(Accepted({"doctor"}).load.model, "");
  const Options options = Accepted({"doctor", "m", "--http-port", "9000", "--json"});
  EXPECT_EQ(options.load.model, "m");
  EXPECT_EQ(options.serve.http_port, 9000);
  EXPECT_TRUE(options.json);
}

TEST_F(OptionsTest, PullTakesItsSourceAndItsSettings) {
  setenv("TRIREME_OFFLINE", "1", 1);
  const Options options = Accepted({"pull", "hf://a/b", "--jobs", "3", "--timeout", "5s"});
  EXPECT_EQ(options.pull.source, "hf://a/b");
  EXPECT_EQ(options.pull.jobs, 3);
  EXPECT_EQ(options.pull.timeout, absl::Seconds(5));
  EXPECT_TRUE(options.pull.offline);
  EXPECT_THAT(Refused({"pull"}), HasSubstr("SOURCE is missing"));
  EXPECT_THAT(Refused({"completion"}), HasSubstr("SHELL"));
}

TEST_F(OptionsTest, AModelThatWasPulledIsFoundInTheCacheAndServedByItsName) {
  const std::string cache = files_.File("cache");
  setenv("TRIREME_CACHE", cache.c_str(), 1);
  EXPECT_EQ(Parse({"serve", "hf://org/name"}).exit_code, kExitFailure);
  EXPECT_THAT(errors_, HasSubstr("run `trireme pull hf://org/name` first"));
  EXPECT_THAT(Accepted({"doctor", "hf://org/name"}).model_error, HasSubstr("trireme pull"));
  const std::string folder = cache + "/models/hf/org/name/main";
  std::filesystem::create_directories(folder);
  fakes::WriteFile(folder + "/config.json", "{}");
  fakes::WriteFile(folder + "/model.safetensors", "x");
  const LoadOptions found = Accepted({"serve", "hf://org/name"}).load;
  EXPECT_EQ(found.model, folder);
  EXPECT_THAT(found.served_names, ElementsAre("name"));
  EXPECT_THAT(Accepted({"serve", "hf://org/name", "--served-model-name", "x"}).load.served_names,
              ElementsAre("x"));
}

TEST_F(OptionsTest, VersionExitsWithZero) {
  EXPECT_EQ(Parse({"--help"}).exit_code, kExitOk);
  EXPECT_EQ(Parse({"--version"}).exit_code, kExitOk);
}

TEST(ParseBytes, UnitsAndPlainNumbers) {
  EXPECT_EQ(*ParseBytes("1073741824"), int64_t{1} << 30);
  EXPECT_EQ(*ParseBytes("1GiB"), int64_t{1} << 30);
  EXPECT_EQ(*ParseBytes("1.5gib"), (int64_t{3} << 30) / 2);
  EXPECT_EQ(*ParseBytes("2MB"), 2'000'000);
  EXPECT_EQ(*ParseBytes("512k"), 512 << 10);
}

TEST(ParseBytes, NonsenseIsRefused) {
  for (const char* text : {"", "x", "-1", "1XB", "1e30", "nan", "GiB"})
    EXPECT_FALSE(ParseBytes(text).ok()) << text;
}

}  // namespace
}  // namespace trireme
