#include "server/observe/audit_chain.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <sstream>

namespace trireme {
namespace {

using ::testing::HasSubstr;

std::string Log(int records, AuditChain* chain) {
  std::string out;
  for (int i = 0; i < records; ++i) {
    chain->Append(
        "request", absl::FromUnixSeconds(i), [i](JsonWriter* json) { json->Key("n").Int(i); },
        &out);
  }
  return out;
}
std::string Log(int records) {
  AuditChain chain;
  return Log(records, &chain);
}
absl::Status Verify(const std::string& log) {
  std::istringstream file(log);
  return AuditVerifier().Add(file);
}

// sha256sum of the text up to `,"hash"`: made by coreutils, so that the format cannot drift.
TEST(AuditChainTest, TheFormatIsTheDocumentedOne) {
  EXPECT_EQ(Log(1),
            "{\"prev\":\"0000000000000000000000000000000000000000000000000000000000000000\","
            "\"seq\":1,\"time\":\"1970-01-01T00:00:00.000000Z\",\"event\":\"request\",\"n\":0,"
            "\"hash\":\"69d5d91436035e2fe2240b211d4011bc461e0f787540b8fdde4f69ececc8ab51\"}\n");
}

TEST(AuditChainTest, AWholeChainVerifies) {
  std::istringstream file(Log(100));
  AuditVerifier verifier;
  ASSERT_TRUE(verifier.Add(file).ok());
  EXPECT_EQ(verifier.num_records(), 100u);
  EXPECT_EQ(verifier.first_seq(), 1u);
  EXPECT_EQ(verifier.end().seq, 100u);
}

TEST(AuditChainTest, EveryChangeOfAByteIsFound) {
  const std::string log = Log(3);
  for (size_t at = 0; at < log.size(); ++at) {
    for (const char c : {'0', 'f', '"', '\n', '}', ' '}) {
      std::string changed = log;
      if (changed[at] == c) continue;
      changed[at] = c;
      EXPECT_FALSE(Verify(changed).ok()) << "byte " << at << " became " << c;
    }
    EXPECT_FALSE(Verify(log.substr(0, at) + log.substr(at + 1)).ok()) << "byte " << at << " gone";
  }
}

TEST(AuditChainTest, ACutInsideALineIsFoundAndOneBetweenLinesIsAShorterChain) {
  const std::string log = Log(3);
  for (size_t size = 1; size < log.size(); ++size) {
    EXPECT_EQ(Verify(log.substr(0, size)).ok(), log[size - 1] == '\n') << size;
  }
}

TEST(AuditChainTest, LinesOfAnotherChainDoNotFit) {
  AuditChain one, other;
  const std::string first = Log(2, &one);
  other.seq = 2;  // the right number, the wrong hash
  EXPECT_THAT(std::string(Verify(first + Log(1, &other)).message()), HasSubstr("line 3: "));
  AuditChain skipped = one;
  skipped.seq = 3;  // the right hash, the wrong number
  EXPECT_THAT(std::string(Verify(first + Log(1, &skipped)).message()), HasSubstr("has number 4"));
}

TEST(AuditChainTest, FilesAreCheckedAsOneChain) {
  AuditChain chain;
  std::istringstream first(Log(3, &chain)), second(Log(2, &chain)), third(Log(1, &chain));
  AuditVerifier all;
  EXPECT_TRUE(all.Add(first).ok());
  EXPECT_TRUE(all.Add(second).ok());
  EXPECT_TRUE(all.Add(third).ok());
  EXPECT_EQ(all.end().seq, 6u);
  // Without the first: it begins inside; without the second: broken.
  std::istringstream again(third.str()), start(second.str()), beginning(first.str());
  AuditVerifier tail;
  EXPECT_TRUE(tail.Add(start).ok());
  EXPECT_EQ(tail.first_seq(), 4u);
  AuditVerifier gap;
  EXPECT_TRUE(gap.Add(beginning).ok());
  EXPECT_THAT(std::string(gap.Add(again).message()), HasSubstr("line 1: does not follow"));
}

TEST(AuditChainTest, AFileThatBeginsAnewIsARestartAndNoBreak) {
  AuditVerifier verifier;
  std::istringstream first(Log(3)), anew(Log(2)), again(Log(1));
  ASSERT_TRUE(verifier.Add(first).ok());
  EXPECT_TRUE(verifier.Add(anew).ok());
  EXPECT_TRUE(verifier.Add(again).ok());
  EXPECT_EQ(verifier.restarts(), 2);
  EXPECT_EQ(verifier.num_records(), 6u);
  EXPECT_EQ(verifier.end().seq, 1u);
  // Inside a file it is a break, and what is wrong further on is still found.
  EXPECT_THAT(std::string(Verify(Log(3) + Log(2)).message()), HasSubstr("line 4: does not follow"));
  std::istringstream wrong(Log(2) + "x\n");
  EXPECT_FALSE(verifier.Add(wrong).ok());
}

TEST(AuditChainTest, NoiseIsRefusedAndHarmless) {
  std::mt19937 random(1);
  const std::string log = Log(2);
  for (int round = 0; round < 5000; ++round) {
    std::string noise = log;
    for (int changes = 1 + static_cast<int>(random() % 8); changes > 0; --changes) {
      switch (random() % 3) {
        case 0:
          noise[random() % noise.size()] ^= static_cast<char>(1 + random() % 255);
          break;
        case 1:
          noise.erase(random() % noise.size(), 1 + random() % 40);
          break;
        default:
          noise.insert(random() % noise.size(),
                       std::string(random() % 40, static_cast<char>(random())));
      }
      if (noise.empty()) noise = "x";
    }
    if (noise == log || log.starts_with(noise)) continue;
    EXPECT_FALSE(Verify(noise).ok()) << noise;
  }
  EXPECT_FALSE(Verify(std::string(1 << 20, 'x')).ok());
}

}  // namespace
}  // namespace trireme
