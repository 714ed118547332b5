#include "server/cli/shell_texts.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "runtime/base/strings.h"
#include "server/cli/command_text.h"

namespace trireme {
namespace {

using testing::HasSubstr;

// A row that is added to the schema must not be forgotten by any of the texts.
TEST(ShellTexts, EveryRowOfTheSchemaIsInEveryText) {
  Options options;
  const std::string bash = CompletionScript("bash"), zsh = CompletionScript("zsh"),
                    fish = CompletionScript("fish"), man = ManualPage();
  for (const Setting& setting : Schema(&options)) {
    EXPECT_THAT(man, HasSubstr(StrCat("Environment: ", EnvironmentName(setting.name), ".")))
        << setting.name;
    if (setting.positional) continue;
    EXPECT_THAT(bash, HasSubstr(StrCat("--", setting.name))) << setting.name;
    EXPECT_THAT(
        zsh, HasSubstr(StrCat("'", setting.value.kind == SettingValue::Kind::kList ? "*" : "", "--",
                              setting.name)))
        << setting.name;
    EXPECT_THAT(fish, HasSubstr(StrCat(" -l ", setting.name, " "))) << setting.name;
  }
  for (const CommandText& command : Commands()) {
    for (const std::string& text : {bash, zsh, fish}) EXPECT_THAT(text, HasSubstr(command.name));
    std::string in_roff;  // where a hyphen that is typed is "\\-"
    for (const char* c = command.name; *c != '\0'; ++c) {
      if (*c == '-') in_roff += '\\';
      in_roff += *c;
    }
    EXPECT_THAT(man, HasSubstr(StrCat("trireme ", in_roff)));
  }
}

TEST(ShellTexts, OnlyAsciiWithoutControlCharacters) {
  for (const std::string& text : {CompletionScript("bash"), CompletionScript("zsh"),
                                  CompletionScript("fish"), ManualPage()}) {
    for (const char c : text)
      ASSERT_TRUE(c == '\n' || (c >= ' ' && c <= '~')) << static_cast<int>(c);
  }
}

// A line that begins with a dot or an apostrophe would be a request to roff.
TEST(ShellTexts, NoTextOfTheSchemaBecomesARequestOfRoff) {
  size_t begin = 0;
  const std::string man = ManualPage();
  for (size_t end; (end = man.find('\n', begin)) != man.npos; begin = end + 1) {
    const std::string line = man.substr(begin, end - begin);
    if (line.empty() || (line[0] != '.' && line[0] != '\'')) continue;
    const std::string request = line.substr(0, line.find(' '));
    EXPECT_THAT(request, testing::AnyOf(".TH", ".SH", ".SS", ".TP", ".PP", ".br", ".nf", ".fi",
                                        ".nh", ".ad", ".\\\""))
        << line;
  }
}

}  // namespace
}  // namespace trireme
