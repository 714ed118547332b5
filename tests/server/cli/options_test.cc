#include "server/cli/options.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <string>
#include <vector>

#include "server/cli/commands.h"

namespace trireme {
namespace {

class OptionsTest : public testing::Test {
 protected:
  void TearDown() override {
    for (const char* name :
         {"TRIREME_HTTP_PORT", "TRIREME_MAX_CONTEXT", "TRIREME_SERVED_MODEL_NAME",
          "TRIREME_PREFIX_CACHE", "TRIREME_CONFIG", "TRIREME_KV_CACHE_MEMORY"}) {
      unsetenv(name);
    }
  }
  static ParsedCommandLine Parse(std::vector<const char*> arguments) {
    arguments.insert(arguments.begin(), "trireme");
    return ParseCommandLine(static_cast<int>(arguments.size()), arguments.data());
  }
  static std::string WriteConfig(const std::string& text) {
    const std::string path = testing::TempDir() + "trireme_options_test.yaml";
    std::ofstream(path) << text;
    return path;
  }
};

TEST_F(OptionsTest, DefaultsServeOnLoopback) {
  const ParsedCommandLine parsed = Parse({"serve", "model.gguf"});
  ASSERT_EQ(parsed.command, Command::kServe);
  EXPECT_EQ(parsed.serve.load.model, "model.gguf");
  EXPECT_EQ(parsed.serve.host, "127.0.0.1");
  EXPECT_EQ(parsed.serve.http_port, 8000);
  EXPECT_EQ(parsed.serve.grpc_port, 8001);
  EXPECT_TRUE(parsed.serve.load.scheduler.prefix_cache);
}

TEST_F(OptionsTest, EnvironmentSetsWhatNoFlagSets) {
  setenv("TRIREME_HTTP_PORT", "9001", 1);
  EXPECT_EQ(Parse({"serve", "m"}).serve.http_port, 9001);
  EXPECT_EQ(Parse({"serve", "m", "--http-port", "9002"}).serve.http_port, 9002);
}

TEST_F(OptionsTest, ConfigFileSetsWhatNeitherFlagNorEnvironmentSets) {
  const std::string path = WriteConfig(
      "http-port: 9003\nmax-context: 2048\nserved-model-name: [a, b]\nprefix-cache: "
      "false\nkv-cache-memory: 2GiB\n");
  setenv("TRIREME_MAX_CONTEXT", "1024", 1);
  const ServeOptions serve = Parse({"serve", "m", "--config", path.c_str()}).serve;
  EXPECT_EQ(serve.http_port, 9003);
  EXPECT_EQ(serve.load.max_context_tokens, 1024);
  EXPECT_EQ(serve.load.served_names, (std::vector<std::string>{"a", "b"}));
  EXPECT_FALSE(serve.load.scheduler.prefix_cache);
  EXPECT_EQ(serve.load.kv_cache_bytes, int64_t{2} << 30);
}

TEST_F(OptionsTest, MistakesInTheConfigFileAreUsageErrors) {
  for (const char* text : {"no-such-setting: 1\n", "- a\n- b\n", "http-port: {a: 1}\n",
                           "http-port: 99999\n", "a: [\n"}) {
    const ParsedCommandLine parsed = Parse({"serve", "m", "--config", WriteConfig(text).c_str()});
    EXPECT_EQ(parsed.command, Command::kExit) << text;
    EXPECT_EQ(parsed.exit_code, kExitUsage) << text;
    TearDown();
  }
  EXPECT_EQ(Parse({"serve", "m", "--config", "/nonexistent.yaml"}).exit_code, kExitUsage);
}

TEST_F(OptionsTest, MistakesOnTheCommandLineAreUsageErrors) {
  EXPECT_EQ(Parse({}).exit_code, kExitUsage);
  EXPECT_EQ(Parse({"serve"}).exit_code, kExitUsage);
  EXPECT_EQ(Parse({"serve", "m", "--http-port", "x"}).exit_code, kExitUsage);
  EXPECT_EQ(Parse({"serve", "m", "--tls-cert", "c.pem"}).exit_code, kExitUsage);
  EXPECT_EQ(Parse({"serve", "m", "--kv-cache-memory", "lots"}).exit_code, kExitUsage);
  EXPECT_EQ(Parse({"fly"}).exit_code, kExitUsage);
}

TEST_F(OptionsTest, HelpAndVersionExitWithZero) {
  EXPECT_EQ(Parse({"--help"}).exit_code, kExitOk);
  EXPECT_EQ(Parse({"serve", "--help"}).exit_code, kExitOk);
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
