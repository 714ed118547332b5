#include "runtime/engine/ranks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <functional>
#include <thread>

#include "runtime/base/check.h"
#include "runtime/model/model_files.h"
#include "tests/fakes/files.h"
#include "tests/fakes/reference_backend.h"
#include "tests/fakes/tiny_model.h"

namespace trireme {
namespace {

using fakes::TinyModel;
using std::chrono::milliseconds;
using testing::HasSubstr;

// A device whose passes end as they are told to.
class ToldBackend final : public fakes::ReferenceBackend {
 public:
  enum class Ends { kWell, kWithError, kNever };
  explicit ToldBackend(Ends ends, bool by_itself = false) : ends_(ends), by_itself_(by_itself) {}

  bool computes_by_itself() const override { return by_itself_; }
  void Step(const BatchView& batch, absl::FunctionRef<void(int, int)> forward) override {
    ++num_enqueued_;
    ReferenceBackend::Step(batch, forward);
  }
  void Logits(const Weight&, Tensor, Tensor) override {}
  absl::Status Synchronize() override {
    ++num_waits_;
    if (ends_ == Ends::kWithError) return absl::InternalError("a fault");
    if (ends_ == Ends::kWell) return absl::OkStatus();
    aborted_.wait(false);
    return absl::UnavailableError("given up");
  }
  void Abort() override {
    aborted_ = true;
    aborted_.notify_all();
  }
  int num_enqueued() const { return num_enqueued_; }
  int num_waits() const { return num_waits_; }
  bool aborted() const { return aborted_; }
  // What another thread is to bring about.
  static void Await(const std::function<bool()>& done) {
    while (!done()) std::this_thread::yield();
  }

 private:
  const Ends ends_;
  const bool by_itself_;
  std::atomic<int> num_enqueued_ = 0, num_waits_ = 0;
  std::atomic<bool> aborted_ = false;
};

// Another machine, whose passes end as they are told to.
class ToldNode final : public RemoteNode {
 public:
  explicit ToldNode(ToldBackend::Ends ends) : backend_(ends) {}

  absl::Status Forward(const BatchView& batch) override {
    num_tokens_ += static_cast<int>(batch.tokens.size());
    return backend_.Synchronize();
  }
  void Abort() override { backend_.Abort(); }
  int num_tokens() const { return num_tokens_; }
  bool aborted() const { return backend_.aborted(); }

 private:
  ToldBackend backend_;
  std::atomic<int> num_tokens_ = 0;  // of all passes
};

class RanksTest : public testing::Test {
 protected:
  RanksTest() {
    fakes::WriteTinyHuggingFaceModel({.num_layers = 1}, directory_.path());
    files_ = OpenModelFiles(directory_.path());
    TRIREME_CHECK(files_.ok());
  }

  ModelRank Load(std::unique_ptr<Backend> backend, const Shard& shard) {
    constexpr DecoderLimits kLimits = {/*max_step_tokens=*/8, /*max_logit_tokens=*/1};
    auto decoder = Decoder::Load(shard, *files_->checkpoint, *backend, kLimits, nullptr);
    TRIREME_CHECK(decoder.ok());
    auto kv = *KvStorage::Create(KvShape::Of(shard.local, 16, DType::kF32), 2, *backend);
    return {std::move(backend), *std::move(decoder), std::move(kv)};
  }
  // Each computes the whole model: what they say is the first's.
  std::unique_ptr<Ranks> Told(const std::vector<ToldBackend::Ends>& ends, milliseconds timeout,
                              std::vector<std::shared_ptr<RemoteNode>> nodes = {}) {
    std::vector<ModelRank> ranks;
    for (const auto end : ends) {
      ranks.push_back(Load(std::make_unique<ToldBackend>(end), files_->spec));
    }
    return std::make_unique<Ranks>(std::move(ranks), timeout, std::move(nodes));
  }
  std::unique_ptr<Ranks> Sharing(int num_ranks) {
    exchange_ = std::make_unique<fakes::RankExchange>(num_ranks);
    std::vector<ModelRank> ranks;
    for (int rank = 0; rank < num_ranks; ++rank) {
      auto backend = std::make_unique<fakes::ReferenceBackend>(fakes::ReferenceBackend::Options{
          .exchange = num_ranks > 1 ? exchange_.get() : nullptr, .rank = rank});
      ranks.push_back(Load(std::move(backend), *Shard::Of(files_->spec, rank, num_ranks)));
    }
    return std::make_unique<Ranks>(std::move(ranks));
  }

  // The pass of one token.
  void Begin(Ranks& ranks, int position = 0) {
    token_ = position * 31 % TinyModel::kVocabSize;
    slice_ = {0, 1, position, {&kBlock, 1}};
    logits_.assign(TinyModel::kVocabSize, std::nanf(""));
    ranks.Begin({{&token_, 1}, {&slice_, 1}, {&kWanted, 1}},
                {logits_.data(), DType::kF32, 1, TinyModel::kVocabSize});
  }
  absl::Status Forward(Ranks& ranks, int position = 0) {
    Begin(ranks, position);
    return ranks.Wait();
  }

  static constexpr BlockId kBlock = 1;
  static constexpr int32_t kWanted = 0;
  TokenId token_ = 0;
  SequenceSlice slice_;
  fakes::TempDirectory directory_;
  absl::StatusOr<ModelFiles> files_;
  std::unique_ptr<fakes::RankExchange> exchange_;
  std::vector<float> logits_;
};

using Ends = ToldBackend::Ends;

TEST_F(RanksTest, PassAfterPassEqualsThatOfOneRank) {
  const auto one = Sharing(1), three = Sharing(3);
  for (int position = 0; position < 16; ++position) {
    ASSERT_TRUE(Forward(*one, position).ok());
    const std::vector<float> want = logits_;
    ASSERT_TRUE(Forward(*three, position).ok());
    for (size_t i = 0; i < want.size(); ++i) ASSERT_NEAR(logits_[i], want[i], 1e-4) << position;
  }
}

TEST_F(RanksTest, ARankThatFailsEndsThePassForThoseThatWaitForIt) {
  const std::vector<std::vector<Ends>> cases = {{Ends::kNever, Ends::kWithError, Ends::kNever},
                                                {Ends::kNever, Ends::kWell, Ends::kWithError},
                                                {Ends::kWithError, Ends::kNever}};
  for (const std::vector<Ends>& ends : cases) {
    const auto ranks = Told(ends, std::chrono::hours(1));
    const absl::Status status = Forward(*ranks);
    EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
    EXPECT_THAT(std::string(status.message()), HasSubstr("a fault"));
    const auto culprit = std::find(ends.begin(), ends.end(), Ends::kWithError) - ends.begin();
    EXPECT_THAT(std::string(status.message()), HasSubstr("rank " + std::to_string(culprit)));
  }
}

TEST_F(RanksTest, RanksThatHangAreGivenUpAndNamed) {
  const auto ranks = Told({Ends::kNever, Ends::kWell, Ends::kNever}, milliseconds(30));
  const absl::Status status = Forward(*ranks);
  EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_THAT(std::string(status.message()), HasSubstr("rank 0, rank 2 did not end a step"));
}

TEST_F(RanksTest, OneRankMayTakeAsLongAsItLikes) {
  const auto ranks = Told({Ends::kWell}, milliseconds(0));
  EXPECT_TRUE(Forward(*ranks).ok());
}

TEST_F(RanksTest, OtherNodesGetEveryPass) {
  const auto node = std::make_shared<ToldNode>(Ends::kWell);
  const auto ranks = Told({Ends::kWell}, std::chrono::hours(1), {node});
  for (int position = 0; position < 16; ++position) ASSERT_TRUE(Forward(*ranks, position).ok());
  EXPECT_EQ(node->num_tokens(), 16);
}

TEST_F(RanksTest, ANodeThatFailsEndsThePassForAll) {
  const auto ranks = Told(
      {Ends::kNever}, std::chrono::hours(1),
      {std::make_shared<ToldNode>(Ends::kNever), std::make_shared<ToldNode>(Ends::kWithError)});
  const absl::Status status = Forward(*ranks);
  EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
  EXPECT_THAT(std::string(status.message()), HasSubstr("node 2: a fault"));
}

TEST_F(RanksTest, ARankThatFailsEndsThePassOfOtherNodes) {
  const auto ranks =
      Told({Ends::kWithError}, std::chrono::hours(1), {std::make_shared<ToldNode>(Ends::kNever)});
  EXPECT_THAT(std::string(Forward(*ranks).message()), HasSubstr("rank 0: a fault"));
}

TEST_F(RanksTest, ANodeThatHangsIsGivenUpAndNamed) {
  const auto ranks =
      Told({Ends::kWell}, milliseconds(30), {std::make_shared<ToldNode>(Ends::kNever)});
  const absl::Status status = Forward(*ranks);
  EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_THAT(std::string(status.message()), HasSubstr("node 1 did not end a step"));
}

TEST_F(RanksTest, AnotherNodesOnlyRankHasATimeout) {
  std::vector<ModelRank> second;
  second.push_back(Load(std::make_unique<ToldBackend>(Ends::kNever),
                        *Shard::Of(files_->spec, /*rank=*/1, /*num_ranks=*/2)));
  Ranks ranks(std::move(second), milliseconds(30));
  // A token of its part of the vocabulary: it has nobody to exchange with here.
  int position = 0;
  while (position * 31 % TinyModel::kVocabSize < TinyModel::kVocabSize * 3 / 4) ++position;
  EXPECT_THAT(std::string(Forward(ranks, position).message()),
              HasSubstr("rank 1 did not end a step"));
}

TEST_F(RanksTest, ADeviceThatComputesByItselfHasThePassBeforeItIsWaitedFor) {
  for (const bool by_itself : {false, true}) {
    auto owned = std::make_unique<ToldBackend>(Ends::kWell, by_itself);
    const ToldBackend& backend = *owned;
    std::vector<ModelRank> one;
    one.push_back(Load(std::move(owned), files_->spec));
    Ranks ranks(std::move(one));
    for (int pass = 0; pass < 3; ++pass) {
      Begin(ranks, pass);
      EXPECT_EQ(backend.num_enqueued(), by_itself ? pass + 1 : pass);
      EXPECT_EQ(backend.num_waits(), pass);
      ASSERT_TRUE(ranks.Wait().ok());
      EXPECT_EQ(backend.num_enqueued(), pass + 1);
      EXPECT_EQ(backend.num_waits(), pass + 1);
    }
  }
}

TEST_F(RanksTest, OtherRanksAndNodesSetAboutAPassBeforeItIsWaitedFor) {
  auto owned = std::make_unique<ToldBackend>(Ends::kWell);
  const ToldBackend& second = *owned;
  std::vector<ModelRank> two;
  two.push_back(Load(std::make_unique<ToldBackend>(Ends::kWell), files_->spec));
  two.push_back(Load(std::move(owned), files_->spec));
  const auto node = std::make_shared<ToldNode>(Ends::kWell);
  Ranks ranks(std::move(two), std::chrono::hours(1), {node});
  Begin(ranks);
  ToldBackend::Await([&] { return second.num_waits() == 1 && node->num_tokens() == 1; });
  EXPECT_TRUE(ranks.Wait().ok());
}

TEST_F(RanksTest, ThePassIsGivenUpInTimeThoughNobodyWaitsForItYet) {
  const auto node = std::make_shared<ToldNode>(Ends::kNever);
  const auto ranks = Told({Ends::kWell}, milliseconds(30), {node});
  Begin(*ranks);
  ToldBackend::Await([&] { return node->aborted(); });
  EXPECT_EQ(ranks->Wait().code(), absl::StatusCode::kDeadlineExceeded);
}

TEST_F(RanksTest, APassUnderWayIsWaitedForAtTheEnd) {
  const auto node = std::make_shared<ToldNode>(Ends::kWell);
  Begin(*Told({Ends::kWell, Ends::kWell}, std::chrono::hours(1), {node}));
  EXPECT_EQ(node->num_tokens(), 1);
  Begin(*Told({Ends::kWell}, milliseconds(30), {std::make_shared<ToldNode>(Ends::kNever)}));
}

TEST_F(RanksTest, TheTimeoutIsOfAPassAndNotOfAll) {
  const auto ranks = Told({Ends::kWell, Ends::kWell}, std::chrono::seconds(20));
  for (int position = 0; position < 16; ++position) EXPECT_TRUE(Forward(*ranks, position).ok());
}

}  // namespace
}  // namespace trireme
