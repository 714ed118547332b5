#include "server/admission/keys.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstdio>
#include <fstream>

#include "absl/time/clock.h"
#include "runtime/base/status.h"
#include "runtime/base/strings.h"

namespace trireme {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

// SHA-256 of "secret".
constexpr char kSecretDigest[] =
    "sha256:2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";

class KeyFile {
 public:
  explicit KeyFile(std::string_view text) { Write(text); }
  ~KeyFile() { std::remove(path_.c_str()); }
  // As editors and Kubernetes do it: a new file renamed over the old one.
  void Write(std::string_view text) {
    const std::string next = path_ + ".next";
    std::ofstream(next) << text;
    chmod(next.c_str(), 0600);
    std::rename(next.c_str(), path_.c_str());
  }
  const std::string& path() const { return path_; }

 private:
  const std::string path_ = StrCat(testing::TempDir(), "trireme_keys_", getpid(), "_",
                                   testing::UnitTest::GetInstance()->current_test_info()->name());
};

std::unique_ptr<KeyStore> OpenOrDie(const std::string& path) {
  auto store = KeyStore::Open(path, absl::InfiniteDuration());
  EXPECT_TRUE(store.ok()) << store.status();
  return *std::move(store);
}

TEST(ParseKeysTest, CommentsBlanksAndWindowsLineEndsAreTolerated) {
  auto keys = ParseKeys("# staff\r\n\r\n  plain-key\r\nother team-a\n\n");
  ASSERT_TRUE(keys.ok()) << keys.status();
  ASSERT_EQ(keys->size(), 2u);
  EXPECT_EQ((*keys)[0].tenant, "default");
  EXPECT_EQ((*keys)[1].tenant, "team-a");
}

TEST(ParseKeysTest, ShortKeysAreToldByTheirLines) {
  std::vector<int> lines;
  ASSERT_TRUE(ParseKeys(StrCat("# comment\nshort\n0123456789abcdef\n", kSecretDigest,
                               " team\n0123456789abcde team-b\n"),
                        &lines)
                  .ok());
  EXPECT_THAT(lines, testing::ElementsAre(2, 5));
}

TEST(ParseKeysTest, ErrorsNameTheLineButNeverTheKey) {
  for (const std::string& bad :
       {std::string("good\nsupersecret a b"), std::string("good\nsupersecret te/am"),
        std::string("good\nsha256:supersecret"), "good\nsha256:" + std::string(63, 'a'),
        "good\nsha256:" + std::string(64, 'g'), "good\nsupersecret " + std::string(65, 't'),
        "good\nsupersecret" + std::string(5000, 'x')}) {
    auto keys = ParseKeys(bad);
    ASSERT_FALSE(keys.ok()) << bad;
    EXPECT_THAT(std::string(keys.status().message()), HasSubstr("line 2"));
    EXPECT_THAT(std::string(keys.status().message()), Not(HasSubstr("supersecret")));
  }
}

TEST(ParseKeysTest, TheRightToPriorityFollowsTheTenantAndNothingElseDoes) {
  auto keys = ParseKeys("a team-a\nb team-b priority\nc default\tpriority\r\n");
  ASSERT_TRUE(keys.ok()) << keys.status();
  EXPECT_FALSE((*keys)[0].may_raise_priority);
  EXPECT_TRUE((*keys)[1].may_raise_priority);
  EXPECT_EQ((*keys)[1].tenant, "team-b");
  EXPECT_TRUE((*keys)[2].may_raise_priority);
  // Without its tenant the word would name one, and the right would silently be missing.
  for (const char* bad : {"a priority", "a priority priority", "a team Priority", "a team prio",
                          "a team priority priority"}) {
    EXPECT_FALSE(ParseKeys(bad).ok()) << bad;
  }
}

TEST(ParseKeysTest, AFileWithoutAnyKeyIsRefused) {
  EXPECT_FALSE(ParseKeys("").ok());
  EXPECT_FALSE(ParseKeys("# only a comment\n").ok());
}

TEST(ParseKeysTest, TheSameKeyTwiceIsRefusedAlsoAsADigest) {
  EXPECT_FALSE(ParseKeys(StrCat("secret a\n", kSecretDigest, " b\n")).ok());
}

TEST(ParseKeysTest, TooManyKeysAreRefused) {
  std::string text;
  for (size_t i = 0; i <= KeyStore::kMaxKeys; ++i) StrAppend(&text, "key-", i, "\n");
  EXPECT_FALSE(ParseKeys(text).ok());
}

TEST(KeyStoreTest, WithoutAFileEverybodyIsAnonymous) {
  auto store = KeyStore::Open();
  EXPECT_FALSE(store->required());
  EXPECT_EQ(store->Authenticate("")->id, "");
  EXPECT_EQ(store->Authenticate("anything")->id, "");
}

TEST(KeyStoreTest, PlainAndDigestedKeysAuthenticateAsTheirTenant) {
  KeyFile file(StrCat("plain team-a\n", kSecretDigest, " team-b\n"));
  auto store = OpenOrDie(file.path());
  EXPECT_TRUE(store->required());
  EXPECT_EQ(store->Authenticate("plain")->id, "team-a");
  EXPECT_EQ(store->Authenticate("secret")->id, "team-b");
  for (const std::string& wrong : {std::string(), std::string("Plain"), std::string("plain "),
                                   std::string(kSecretDigest), std::string(1 << 20, 'k')}) {
    EXPECT_FALSE(store->Authenticate(wrong).has_value()) << wrong.substr(0, 20);
  }
}

TEST(KeyStoreTest, OpeningNothingReadableFails) {
  EXPECT_EQ(KeyStore::Open(testing::TempDir() + "no_such_file").status().code(),
            absl::StatusCode::kNotFound);
  EXPECT_EQ(KeyStore::Open(testing::TempDir()).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(KeyStore::Open("/dev/zero").status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(KeyStoreTest, AChangedFileReplacesTheKeys) {
  KeyFile file("old\n");
  auto store = OpenOrDie(file.path());
  EXPECT_FALSE(store->ReloadIfChanged());
  file.Write("new team-n\n");
  EXPECT_TRUE(store->ReloadIfChanged());
  EXPECT_FALSE(store->Authenticate("old").has_value());
  EXPECT_EQ(store->Authenticate("new")->id, "team-n");
}

TEST(KeyStoreTest, TheRightToPriorityBelongsToTheKeyAndIsReloadedWithIt) {
  KeyFile file("a team\nb team priority\n");
  auto store = OpenOrDie(file.path());
  EXPECT_FALSE(store->Authenticate("a")->may_raise_priority);
  EXPECT_TRUE(store->Authenticate("b")->may_raise_priority);
  file.Write("a team priority\nb team\n");
  EXPECT_TRUE(store->ReloadIfChanged());
  EXPECT_TRUE(store->Authenticate("a")->may_raise_priority);
  EXPECT_FALSE(store->Authenticate("b")->may_raise_priority);
  EXPECT_FALSE(KeyStore::Open()->Authenticate("")->may_raise_priority);
}

TEST(KeyStoreTest, ACallerPresentsABearerTokenOrAnApiKey) {
  KeyFile file("secret team\n");
  auto store = OpenOrDie(file.path());
  EXPECT_EQ(store->AuthenticateCaller("Bearer secret", "")->id, "team");
  EXPECT_EQ(store->AuthenticateCaller("bEARER secret", "other")->id, "team");
  EXPECT_EQ(store->AuthenticateCaller("", "secret")->id, "team");
  EXPECT_EQ(store->AuthenticateCaller("Basic x", "secret")->id, "team");
  for (const auto& [authorization, api_key] : {std::pair("secret", ""),
                                               {"Basic secret", ""},
                                               {"Bearer other", "secret"},
                                               {"Bearer ", ""},
                                               {"Bearersecret", ""},
                                               {"", ""},
                                               {"", "Bearer secret"}}) {
    const absl::Status status = store->AuthenticateCaller(authorization, api_key).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kUnauthenticated) << authorization << api_key;
    EXPECT_EQ(ErrorCode(status), "invalid_api_key");
  }
}

TEST(KeyStoreTest, ABrokenOrMissingFileKeepsTheOldKeysUntilItIsRepaired) {
  KeyFile file("old\n");
  auto store = OpenOrDie(file.path());
  file.Write("a b c\n");
  EXPECT_FALSE(store->ReloadIfChanged());
  EXPECT_TRUE(store->Authenticate("old").has_value());
  std::remove(file.path().c_str());
  EXPECT_FALSE(store->ReloadIfChanged());
  EXPECT_TRUE(store->Authenticate("old").has_value());
  file.Write("repaired\n");
  EXPECT_TRUE(store->ReloadIfChanged());
  EXPECT_TRUE(store->Authenticate("repaired").has_value());
}

TEST(KeyStoreTest, TheWatcherPicksUpAChange) {
  KeyFile file("old\n");
  auto store = KeyStore::Open(file.path(), absl::Milliseconds(1));
  ASSERT_TRUE(store.ok());
  file.Write("new\n");
  while (!(*store)->Authenticate("new").has_value()) absl::SleepFor(absl::Milliseconds(1));
  EXPECT_FALSE((*store)->Authenticate("old").has_value());
}

}  // namespace
}  // namespace trireme
