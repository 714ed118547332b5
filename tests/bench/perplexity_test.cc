#include "tests/bench/perplexity.h"

#include <gmock/gmock.h>

#include <cmath>
#include <string>

#include "runtime/model/model_files.h"
#include "tests/fakes/files.h"
#include "tests/fakes/reference_decoder.h"
#include "tests/fakes/tiny_model.h"

namespace trireme {
namespace {

// As README.md counts it, written down again: windows of 512, of each the last 255 tokens, each
// predicted by the logits of the token before. The tiny models' tokens are bytes.
double ExpectedPerplexity(const ModelFiles& files, const std::string& text) {
  double sum = 0;
  int count = 0;
  for (size_t begin = 0; begin + 512 <= text.size(); begin += 512) {
    std::vector<TokenId> window;
    for (const char c : text.substr(begin, 512)) window.push_back(static_cast<unsigned char>(c));
    const auto logits = fakes::ReferenceLogits(files.spec, *files.checkpoint, window);
    for (size_t at = 257; at < 512; ++at) {
      double total = 0;
      for (const double logit : logits[at - 1]) total += std::exp(logit);
      sum -= logits[at - 1][static_cast<size_t>(window[at])] - std::log(total);
      ++count;
    }
  }
  return std::exp(sum / count);
}

class PerplexityTest : public testing::Test {
 protected:
  void SetUp() override { fakes::WriteTinyHuggingFaceModel({.max_context = 512}, model_); }

  std::string Write(size_t size) {
    std::string text;
    for (size_t i = 0; i < size; ++i) text += static_cast<char>('a' + (i * i + i / 7) % 26);
    fakes::WriteFile(text_, text);
    return text;
  }

  fakes::TempDirectory directory_;
  const std::string model_ = directory_.path(), text_ = directory_.path() + "/text";
};

TEST_F(PerplexityTest, IsThatOfTheSecondHalvesOfWholeWindows) {
  const std::string text = Write(2 * 512 + 300);
  const auto found = MeasurePerplexity(model_, text_, 2);
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(found->num_tokens, 2 * 255);
  const double expected = ExpectedPerplexity(*OpenModelFiles(model_), text);
  EXPECT_NEAR(found->value / expected, 1, 1e-4);  // K and V in 16 bits
  // That every prediction is of its own token shows in a text whose end is another one.
  std::string other = text;
  other[2 * 512 - 1] = other[2 * 512 - 1] == 'a' ? 'b' : 'a';
  fakes::WriteFile(text_, other);
  const auto found_other = MeasurePerplexity(model_, text_, 2);
  ASSERT_TRUE(found_other.ok()) << found_other.status();
  EXPECT_GT(std::abs(found_other->value / found->value - 1), 2e-4);
  EXPECT_NEAR(found_other->value / ExpectedPerplexity(*OpenModelFiles(model_), other), 1, 1e-4);
}

TEST_F(PerplexityTest, ATextShorterThanAWindowIsRefused) {
  Write(511);
  const absl::Status status = MeasurePerplexity(model_, text_, 1).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), testing::HasSubstr("511 tokens are fewer"));
}

}  // namespace
}  // namespace trireme
