#include "server/ranks/step_codec.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <limits>

namespace trireme {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using Step = v1::LeaderMessage::Step;

constexpr StepBounds kBounds = {.max_tokens = 8,
                                .max_sequences = 3,
                                .max_logit_tokens = 2,
                                .vocab_size = 100,
                                .max_context = 64,
                                .block_size = 16,
                                .num_blocks = 10};

// Two sequences: the last two tokens of a prompt of 18, and one of position 40.
Step MakeStep() {
  const std::vector<TokenId> tokens = {5, 99, 0};
  const std::vector<BlockId> first = {3, 9, 1}, second = {0, 2, 4, 6};
  const std::vector<SequenceSlice> sequences = {{0, 2, 16, first}, {2, 1, 40, second}};
  const std::vector<int32_t> logits = {1, 2};
  Step step;
  EncodeStep({tokens, sequences, logits}, kBounds.block_size, &step);
  return step;
}

TEST(StepCodecTest, ABatchComesOutAsItWentIn) {
  DecodedStep decoded;
  for (int pass = 0; pass < 2; ++pass) {  // one object serves all steps
    const Step step = MakeStep();
    ASSERT_TRUE(decoded.Decode(step, kBounds).ok());
    const BatchView batch = decoded.view();
    EXPECT_THAT(batch.tokens, ElementsAre(5, 99, 0));
    EXPECT_THAT(batch.logit_tokens, ElementsAre(1, 2));
    ASSERT_EQ(batch.sequences.size(), 2u);
    EXPECT_EQ(batch.sequences[0].first_token, 0);
    EXPECT_EQ(batch.sequences[0].num_tokens, 2);
    EXPECT_EQ(batch.sequences[0].first_position, 16);
    EXPECT_THAT(batch.sequences[0].blocks, ElementsAre(3, 9)) << "blocks of its context only";
    EXPECT_EQ(batch.sequences[1].first_token, 2);
    EXPECT_EQ(batch.sequences[1].first_position, 40);
    EXPECT_THAT(batch.sequences[1].blocks, ElementsAre(0, 2, 4));
  }
}

TEST(StepCodecTest, WhatIsOutsideTheBoundsIsRefusedByName) {
  constexpr int64_t kHuge = std::numeric_limits<int64_t>::max();
  struct Case {
    const char* says;
    std::function<void(Step&)> spoil;
  };
  const std::vector<Case> cases = {
      {"number of tokens", [](Step& s) { s.Clear(); }},
      {"number of tokens", [](Step& s) { s.mutable_tokens()->Resize(9, 1); }},
      {"number of sequences",
       [](Step& s) {
         for (int i = 0; i < 2; ++i) *s.add_sequences() = s.sequences(1);
       }},
      {"number of logits", [](Step& s) { s.add_logit_tokens(0); }},
      {"a token that", [](Step& s) { s.set_tokens(1, 100); }},
      {"a token that", [](Step& s) { s.set_tokens(1, -1); }},
      {"logits of a token", [](Step& s) { s.set_logit_tokens(1, 3); }},
      {"logits of a token", [](Step& s) { s.set_logit_tokens(0, -1); }},
      {"disorder", [](Step& s) { s.set_logit_tokens(0, 2); }},
      {"without tokens", [](Step& s) { s.mutable_sequences(0)->set_num_tokens(0); }},
      {"without tokens", [](Step& s) { s.mutable_sequences(0)->set_num_tokens(-1); }},
      {"beyond", [](Step& s) { s.mutable_sequences(0)->set_num_tokens(65); }},
      {"beyond", [](Step& s) { s.mutable_sequences(1)->set_first_position(64); }},
      {"beyond", [](Step& s) { s.mutable_sequences(1)->set_first_position(-1); }},
      {"beyond", [](Step& s) { s.mutable_sequences(1)->set_first_position(kHuge); }},
      {"block table", [](Step& s) { s.mutable_sequences(0)->add_blocks(1); }},
      {"block table", [](Step& s) { s.mutable_sequences(0)->clear_blocks(); }},
      {"a block that", [](Step& s) { s.mutable_sequences(0)->set_blocks(1, 10); }},
      {"a block that", [](Step& s) { s.mutable_sequences(0)->set_blocks(1, -1); }},
      {"do not make up", [](Step& s) { s.add_tokens(1); }},
      {"do not make up", [](Step& s) { s.mutable_sequences(0)->set_num_tokens(3); }},
      {"do not make up", [](Step& s) { s.mutable_sequences()->RemoveLast(); }},
  };
  for (size_t i = 0; i < cases.size(); ++i) {
    Step step = MakeStep();
    cases[i].spoil(step);
    const absl::Status status = DecodedStep().Decode(step, kBounds);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << i;
    EXPECT_THAT(std::string(status.message()), HasSubstr(cases[i].says)) << i;
  }
}

}  // namespace
}  // namespace trireme
