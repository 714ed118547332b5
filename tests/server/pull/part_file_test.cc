#include "server/pull/part_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "server/pull/cache.h"
#include "tests/fakes/files.h"

namespace trireme::pull {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kSize = 3 * kMinSegmentBytes + 5;

class PartFileTest : public testing::Test {
 protected:
  // What an earlier run left: 3 bytes of the first segment, 2 of the second.
  void LeaveSome(const PartIdentity& identity) {
    auto part = *PartFile::Open(path_);
    ASSERT_TRUE(part->Begin(identity, false).ok());
    ASSERT_TRUE(part->Write(&part->segments()[0], {"abc", 3}).ok());
    ASSERT_TRUE(part->Write(&part->segments()[1], {"de", 2}).ok());
    ASSERT_TRUE(part->Save().ok());
  }
  int64_t WrittenAfter(const PartIdentity& identity, bool verified = false) {
    auto part = *PartFile::Open(path_);
    EXPECT_TRUE(part->Begin(identity, verified).ok());
    return part->written_bytes();
  }
  void EditState(const std::string& from, const std::string& to) {
    std::string state = fakes::ReadFile(path_ + ".part.json");
    ASSERT_NE(state.find(from), std::string::npos) << state;
    fakes::WriteFile(path_ + ".part.json", state.replace(state.find(from), from.size(), to));
  }

  fakes::TempDirectory folder_;
  const std::string path_ = folder_.File("model.gguf");
  const PartIdentity identity_ = {"https://h/model.gguf", kSize, "\"tag\""};
};

TEST_F(PartFileTest, SegmentsCoverTheFile) {
  auto part = *PartFile::Open(path_);
  ASSERT_TRUE(part->Begin(identity_, false).ok());
  ASSERT_EQ(part->segments().size(), 4u);
  int64_t next = 0;
  for (const Segment& segment : part->segments()) {
    EXPECT_EQ(segment.begin, next);
    next = segment.end;
  }
  EXPECT_EQ(next, kSize);
  EXPECT_FALSE(part->done());
}

TEST_F(PartFileTest, LargeFilesHaveBoundedSegments) {
  auto part = *PartFile::Open(path_);
  ASSERT_TRUE(part->Begin({"k", int64_t{1} << 40, "v"}, false).ok());
  EXPECT_EQ(part->segments().size(), 4096u);
}

TEST_F(PartFileTest, TheSameFileGoesOnWhereItWas) {
  LeaveSome(identity_);
  EXPECT_EQ(WrittenAfter(identity_), 5);
  const auto saved = PartFile::SavedIdentity(path_);
  ASSERT_TRUE(saved.has_value());
  EXPECT_EQ(saved->key, identity_.key);
  EXPECT_EQ(saved->validator, "\"tag\"");
}

TEST_F(PartFileTest, AnotherFileStartsOver) {
  for (const PartIdentity& other : {PartIdentity{"https://h/other", kSize, "\"tag\""},
                                    PartIdentity{identity_.key, kSize + 1, "\"tag\""},
                                    PartIdentity{identity_.key, kSize, "\"new\""}}) {
    LeaveSome(identity_);
    EXPECT_EQ(WrittenAfter(other, true), 0);
    EXPECT_EQ(fs::file_size(path_ + ".part"), 0u);
    EXPECT_FALSE(fs::exists(path_ + ".part.json"));
  }
}

TEST_F(PartFileTest, WithoutAValidatorOnlyAChecksumLetsItGoOn) {
  const PartIdentity bare = {identity_.key, kSize, ""};
  LeaveSome(bare);
  EXPECT_EQ(WrittenAfter(bare, /*verified=*/true), 5);
  EXPECT_EQ(WrittenAfter(bare, /*verified=*/false), 0);
  LeaveSome(identity_);
  EXPECT_EQ(WrittenAfter(bare), 5) << "the saved validator goes out with the next request";
}

TEST_F(PartFileTest, AStateThatLiesIsNotBelieved) {
  for (const auto& [from, to] :
       {std::pair("[3,2,", "[3,-2,"), std::pair("[3,2,", "[3,99999999999,"),
        std::pair("[3,2,", "[3,"), std::pair("[3,2,", "[3,8000000,"),
        std::pair("[3,2,", "[\"3\",2,"), std::pair("{", "[")}) {
    LeaveSome(identity_);
    EditState(from, to);
    EXPECT_EQ(WrittenAfter(identity_), 0) << to;
  }
  LeaveSome(identity_);
  fs::resize_file(path_ + ".part", 2);
  EXPECT_EQ(WrittenAfter(identity_), 0) << "bytes that the state counts are gone";
}

TEST_F(PartFileTest, WhatIsNotSavedDoesNotCount) {
  LeaveSome(identity_);
  {
    auto part = *PartFile::Open(path_);
    ASSERT_TRUE(part->Begin(identity_, false).ok());
    ASSERT_TRUE(part->Write(&part->segments()[0], {"xyz", 3}).ok());
  }
  EXPECT_EQ(WrittenAfter(identity_), 5);
}

TEST_F(PartFileTest, AWholeFileOfUnknownLengthEndsWhereItEnds) {
  auto part = *PartFile::Open(path_);
  ASSERT_TRUE(part->BeginWhole({"k", -1, ""}).ok());
  ASSERT_TRUE(part->Write(&part->segments()[0], {"abc", 3}).ok());
  EXPECT_FALSE(part->done());
  part->SetEnd();
  EXPECT_TRUE(part->done());
  ASSERT_TRUE(CommitPart(path_).ok());
  EXPECT_EQ(fakes::ReadFile(path_), "abc");
  EXPECT_FALSE(fs::exists(path_ + ".part"));
}

TEST_F(PartFileTest, ALinkIsNotWrittenThrough) {
  fakes::WriteFile(folder_.File("victim"), "precious");
  fs::create_symlink(folder_.File("victim"), path_ + ".part");
  EXPECT_FALSE(PartFile::Open(path_).ok());
  EXPECT_EQ(fakes::ReadFile(folder_.File("victim")), "precious");
}

// ---- The cache

class CacheTest : public testing::Test {
 protected:
  void Write(const std::string& name, const std::string& content) {
    const std::string path = target_ + "/" + name;
    fs::create_directories(fs::path(path).parent_path());
    fakes::WriteFile(path, content);
  }
  fakes::TempDirectory cache_;
  const Source source_ = *ParseSource("hf://org/name");
  const std::string target_ = TargetOf(source_, "", cache_.path());
};

TEST_F(CacheTest, EverySourceHasItsPlace) {
  const auto target = [](const char* text, const char* revision = "") {
    return TargetOf(*ParseSource(text), revision, "C");
  };
  EXPECT_EQ(target("hf://org/name"), "C/models/hf/org/name/main");
  EXPECT_EQ(target("hf://org/name@v1/sub/f.gguf"), "C/models/hf/org/name/v1/sub/f.gguf");
  EXPECT_EQ(target("hf://org/name@v1", "refs/pr/1"), "C/models/hf/org/name/refs%2Fpr%2F1");
  EXPECT_EQ(target("s3://b/p/q/"), "C/models/s3/b/p/q");
  EXPECT_EQ(target("s3://b"), "C/models/s3/b");
  EXPECT_EQ(target("https://h:1/p/f.gguf?secret"), "C/models/https/h:1/p/f.gguf");
}

TEST_F(CacheTest, AFolderIsWholeWhenItsManifestSaysSoAndItsFilesAreThere) {
  Write("config.json", "{}");
  Write("model.safetensors", "12345");
  Manifest manifest = {"hf://org/name",
                       "c0ffee",
                       false,
                       {{"config.json", 2, "sha256:x", ""}, {"model.safetensors", 5, "", ""}}};
  ASSERT_TRUE(WriteManifest(ManifestOfFolder(target_), manifest).ok());
  EXPECT_FALSE(FindPulled(source_, target_).ok());
  manifest.complete = true;
  ASSERT_TRUE(WriteManifest(ManifestOfFolder(target_), manifest).ok());
  EXPECT_EQ(FindPulled(source_, target_)->path, target_);
  EXPECT_EQ(FindPulled(source_, target_)->name, "name");
  EXPECT_EQ(ReadManifest(ManifestOfFolder(target_)).files[0].checksum, "sha256:x");
  Write("model.safetensors", "1234");
  EXPECT_FALSE(FindPulled(source_, target_).ok());
}

TEST_F(CacheTest, ADamagedManifestIsNone) {
  for (const char* text : {"", "{", "[]", "{\"complete\":true,\"files\":[{\"name\":\"../x\"}]}",
                           "{\"files\":5,\"complete\":true}"}) {
    Write(".trireme-pull.json", text);
    EXPECT_FALSE(FindPulled(source_, target_).ok()) << text;
  }
}

TEST_F(CacheTest, AFolderOfOneGgufIsThatFile) {
  Write("a.gguf", "GGUF");
  EXPECT_EQ(FindPulled(source_, target_)->path, target_ + "/a.gguf");
  Write("b.gguf.part", "");
  EXPECT_FALSE(FindPulled(source_, target_).ok());
}

TEST_F(CacheTest, WhatIsNotHereNamesTheCommandThatFetchesIt) {
  EXPECT_THAT(std::string(ResolveModel("hf://org/name", cache_.path()).status().message()),
              testing::HasSubstr("run `trireme pull hf://org/name` first"));
  EXPECT_THAT(std::string(ResolveModel("https://h/x?secret", cache_.path()).status().message()),
              testing::Not(testing::HasSubstr("secret")));
}

}  // namespace
}  // namespace trireme::pull
