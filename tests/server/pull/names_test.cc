// Sources, safe names, what of a listing is a model, checksums, AWS's files.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>

#include "server/pull/aws_credentials.h"
#include "server/pull/checksum.h"
#include "server/pull/http.h"
#include "server/pull/listing.h"
#include "server/pull/source.h"
#include "tests/fakes/files.h"

namespace trireme::pull {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::UnorderedElementsAre;

TEST(Source, HuggingFace) {
  const Source source = *ParseSource("hf://org/name@v1.0/sub/file.gguf");
  EXPECT_EQ(source.scheme, Scheme::kHuggingFace);
  EXPECT_EQ(source.root, "org/name");
  EXPECT_EQ(source.revision, "v1.0");
  EXPECT_EQ(source.path, "sub/file.gguf");
  EXPECT_EQ(ParseSource("hf://org/name")->revision, "");
  EXPECT_EQ(ParseSource("hf://org/name/")->path, "");
}

TEST(Source, S3AndHttps) {
  const Source s3 = *ParseSource("s3://my.bucket-1/a b/c+d/");
  EXPECT_EQ(s3.root, "my.bucket-1");
  EXPECT_EQ(s3.path, "a b/c+d/");
  EXPECT_EQ(ParseSource("s3://bucket")->path, "");
  const Source https = *ParseSource("https://host:8443/a/b.gguf?signature=secret#x");
  EXPECT_EQ(https.root, "host:8443");
  EXPECT_EQ(https.path, "a/b.gguf");
  EXPECT_EQ(https.query, "?signature=secret");
  EXPECT_THAT(https.text, Not(HasSubstr("secret"))) << "it stands in messages";
}

TEST(Source, PathsAreNoSources) {
  for (const char* path : {"model.gguf", "./hf", "/s3://x", "http://h/x", ""})
    EXPECT_FALSE(IsSource(path)) << path;
  for (const char* source : {"hf://a/b", "s3://b/k", "https://h/p"}) EXPECT_TRUE(IsSource(source));
}

TEST(Source, WhatCouldLeaveAFolderIsRefused) {
  for (const char* text :
       {"hf://..//x", "hf://a/..", "hf://a/b/../x", "hf://a/b@..", "hf://a/b@", "hf://a/b@x y",
        "hf://.a/b", "hf://a/.b", "s3://../k", "s3://b/../k", "s3://b//k", "https://../x",
        "https://h/..", "https://h/a/../b", "https://u:p@h/x", "https://h/a\\b", "https://h"}) {
    EXPECT_EQ(ParseSource(text).status().code(), absl::StatusCode::kInvalidArgument) << text;
  }
}

TEST(SafePath, Components) {
  for (const char* path : {"a", "a/b.c", "model-00001-of-00002.safetensors", "ä b+c"})
    EXPECT_TRUE(IsSafePath(path)) << path;
  for (const std::string& path :
       {std::string(""), std::string("/a"), std::string("a//b"), std::string("a/"),
        std::string(".."), std::string("a/.."), std::string("./a"), std::string(".hidden"),
        std::string("a\nb"), std::string("a\0b", 3), std::string("a\\b"), std::string(201, 'x'),
        std::string("a\xc2\x9b"
                    "2Jb"),
        std::string("a\u202eb"), std::string("a\u2066b"), std::string("a\u2028b"),
        std::string("a\xff"), std::string("a\xe2\x82"), std::string(600, '/')}) {
    EXPECT_FALSE(IsSafePath(path)) << path;
  }
}

TEST(UrlEncode, UnreservedCharactersStay) {
  EXPECT_EQ(UrlEncodePath("a b+c/é~(1)-_."), "a%20b%2Bc/%C3%A9~%281%29-_.");
  EXPECT_EQ(UrlEncode("refs/pr/1"), "refs%2Fpr%2F1");
}

TEST(Origin, SchemeHostAndPort) {
  EXPECT_EQ(Origin("https://Hub.example/a?b"), "https://hub.example:443");
  EXPECT_EQ(Origin("https://hub.example:443/"), "https://hub.example:443");
  EXPECT_NE(Origin("http://hub.example/"), Origin("https://hub.example/"));
  EXPECT_NE(Origin("https://hub.example:8443/"), Origin("https://hub.example/"));
  EXPECT_EQ(Origin("no url"), "");
  for (const char* url : {"http://127.0.0.1:5/x", "http://localhost", "http://[::1]:80/"})
    EXPECT_TRUE(IsLoopbackUrl(url)) << url;
  for (const char* url :
       {"http://127.0.0.1.evil.example/", "http://10.0.0.1", "http://localhost.evil.example"}) {
    EXPECT_FALSE(IsLoopbackUrl(url)) << url;
  }
}

TEST(RetryPause, GrowsIsBoundedAndObeysTheServer) {
  for (int attempt = 1; attempt <= 40; ++attempt) {
    const absl::Duration most = std::min(
        absl::Seconds(30), absl::Milliseconds(500) * (int64_t{1} << std::min(attempt - 1, 16)));
    for (int i = 0; i < 20; ++i) {
      const absl::Duration pause = RetryPause(attempt, absl::ZeroDuration());
      EXPECT_GE(pause, most / 2);
      EXPECT_LE(pause, most);
    }
  }
  EXPECT_EQ(RetryPause(1, absl::Seconds(77)), absl::Seconds(77));
}

// ---- What of a listing is a model

std::vector<std::string> Selected(const std::vector<std::string>& names,
                                  std::string_view file = "") {
  std::vector<RemoteFile> files;
  for (const std::string& name : names) files.emplace_back().name = name;
  auto selected = SelectModelFiles(files, file);
  if (!selected.ok()) return {std::string(selected.status().message())};
  std::vector<std::string> out;
  for (const RemoteFile& one : *selected) out.push_back(one.name);
  return out;
}

TEST(SelectModelFiles, SafetensorsWithTheirCompanions) {
  EXPECT_THAT(
      Selected({"README.md", "config.json", "tokenizer.json", "model-00001-of-00002.safetensors",
                "model-00002-of-00002.safetensors", "model.safetensors.index.json",
                "pytorch_model.bin", "consolidated.safetensors", "onnx/model.safetensors",
                "model.gguf", "train.py"}),
      UnorderedElementsAre("config.json", "tokenizer.json", "model-00001-of-00002.safetensors",
                           "model-00002-of-00002.safetensors", "model.safetensors.index.json"));
  EXPECT_THAT(Selected({"consolidated.safetensors", "config.json"}),
              UnorderedElementsAre("consolidated.safetensors", "config.json"));
}

TEST(SelectModelFiles, TheOneGguf) {
  EXPECT_THAT(Selected({"README.md", "a.gguf", "config.json"}), ElementsAre("a.gguf"));
  EXPECT_THAT(Selected({"a.gguf", "b/b.gguf"}),
              ElementsAre("there are 2 GGUF files: name one after a slash, of a.gguf, b/b.gguf"));
  EXPECT_THAT(Selected({"a.gguf", "b/b.gguf"}, "b/b.gguf"), ElementsAre("b/b.gguf"));
  EXPECT_THAT(Selected(std::vector<std::string>(20, "x.gguf")),
              ElementsAre(HasSubstr("and 12 more")));
}

TEST(SelectModelFiles, PicklesNever) {
  for (const char* name :
       {"pytorch_model.bin", "model.pt", "model.pth", "a.pkl", "a.pickle", "a.ckpt"}) {
    EXPECT_THAT(Selected({name}), ElementsAre(HasSubstr("only pickles"))) << name;
    EXPECT_THAT(Selected({name}, name), ElementsAre(HasSubstr("is a pickle"))) << name;
  }
  EXPECT_THAT(Selected({"README.md"}), ElementsAre(HasSubstr("neither safetensors nor GGUF")));
}

TEST(SelectModelFiles, ManyFilesAreRefused) {
  std::vector<std::string> names(kMaxModelFiles + 1);
  for (size_t i = 0; i < names.size(); ++i)
    names[i] = "model-" + std::to_string(i) + ".safetensors";
  EXPECT_THAT(Selected(names), ElementsAre(HasSubstr("at most 2000")));
}

// ---- Checksums: what sha256sum, git hash-object and md5sum say of "hello\n"

TEST(Checksum, FilesAreCheckedByEveryKind) {
  fakes::TempDirectory files;
  const std::string path = files.File("hello");
  fakes::WriteFile(path, "hello\n");
  std::atomic<bool> stop = false;
  const auto check = [&](Checksum::Kind kind, const char* hex) {
    return CheckFile(path, *MakeChecksum(kind, hex), &stop);
  };
  using enum Checksum::Kind;
  EXPECT_TRUE(
      check(kSha256, "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03").ok());
  EXPECT_TRUE(
      check(kSha256, "5891B5B522D5DF086D0FF0B110FBD9D21BB4FC7163AF34D08286A2E846F6BE03").ok());
  EXPECT_TRUE(check(kGitBlob, "ce013625030ba8dba906f756967f9e9ca394464a").ok());
  EXPECT_TRUE(check(kMd5, "b1946ac92492d2347c6235b4d2611184").ok());
  EXPECT_TRUE(absl::IsDataLoss(check(kMd5, "00000000000000000000000000000000")));
  EXPECT_TRUE(absl::IsUnavailable(CheckFile(
      files.File("none"), *MakeChecksum(kMd5, "00000000000000000000000000000000"), &stop)));
  stop = true;
  EXPECT_TRUE(absl::IsCancelled(check(kMd5, "b1946ac92492d2347c6235b4d2611184")));
}

// The check value of the catalogue of CRCs; and lengths around the eight bytes of a step.
TEST(Checksum, Crc64Nvme) {
  using enum Checksum::Kind;
  const fakes::TempDirectory files;
  const std::string path = files.File("x");
  const std::atomic<bool> stop = false;
  const auto bitwise = [](const std::string& bytes) {
    uint64_t crc = ~uint64_t{0};
    for (const char c : bytes) {
      crc ^= static_cast<unsigned char>(c);
      for (int bit = 0; bit < 8; ++bit)
        crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0x9a6c9329ac4bc9b5 : 0);
    }
    char hex[17];
    std::snprintf(hex, sizeof hex, "%016lx", ~crc);
    return std::string(hex);
  };
  EXPECT_EQ(bitwise("123456789"), "ae8b14860a799888");
  EXPECT_EQ(ChecksumFromBase64(kCrc64Nvme, "rosUhgp5mIg=")->Text(), "crc64nvme:ae8b14860a799888");
  std::string bytes;
  for (int i = 0; i < 40; ++i) {
    fakes::WriteFile(path, bytes);
    EXPECT_TRUE(CheckFile(path, *MakeChecksum(kCrc64Nvme, bitwise(bytes)), &stop).ok()) << i;
    EXPECT_TRUE(
        absl::IsDataLoss(CheckFile(path, *MakeChecksum(kCrc64Nvme, bitwise(bytes + "x")), &stop)));
    bytes += static_cast<char>(i * 37 + 200);
  }
}

TEST(Checksum, TextThatIsNone) {
  using enum Checksum::Kind;
  EXPECT_FALSE(MakeChecksum(kSha256, "abc").ok());
  EXPECT_FALSE(MakeChecksum(kMd5, "b1946ac92492d2347c6235b4d261118-").ok());
  EXPECT_EQ(
      ChecksumFromBase64(Checksum::Kind::kSha256, "WJG1tSLV3whtD/CxEPvZ0hu0/HFjrzTQgoai6Eb2vgM=")
          ->hex,
      "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03");
  for (const char* text : {"", "WJG1", "WJG1tSLV3whtD/CxEPvZ0hu0/HFjrzTQgoai6Eb2vgM=-3", "!"})
    EXPECT_FALSE(ChecksumFromBase64(Checksum::Kind::kSha256, text).ok()) << text;
}

TEST(IniValue, SectionsAndBlanks) {
  const std::string text =
      "key = none\n[default]\n# key = comment\nkey = one\n[profile work]\n  key=two = 2 "
      "\r\n[default2]\nkey=3\n";
  EXPECT_EQ(IniValue(text, "default", "key"), "one");
  EXPECT_EQ(IniValue(text, "profile work", "key"), "two = 2");
  EXPECT_EQ(IniValue(text, "default", "other"), std::nullopt);
  EXPECT_EQ(IniValue(text, "work", "key"), std::nullopt);
}

}  // namespace
}  // namespace trireme::pull
