#include "runtime/engine/ranks.h"

#include <utility>

#include "runtime/base/check.h"
#include "runtime/base/status.h"
#include "runtime/base/strings.h"

namespace trireme {

Ranks::Ranks(std::vector<ModelRank> ranks, std::chrono::nanoseconds timeout)
    : ranks_(std::move(ranks)), timeout_(timeout), running_(ranks_.size()) {
  TRIREME_CHECK(!ranks_.empty());
  if (ranks_.size() == 1) return;
  for (size_t rank = 1; rank < ranks_.size(); ++rank) {
    threads_.emplace_back([this, rank] { Drive(rank); });
  }
  threads_.emplace_back([this] { Watch(); });
}

Ranks::~Ranks() {
  {
    std::lock_guard lock(mu_);
    ended_ = true;
  }
  changed_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

absl::Status Ranks::ForwardOn(size_t rank) const {
  const ModelRank& r = ranks_[rank];
  Tensor logits = logits_;
  if (rank > 0) logits.data = nullptr;
  r.decoder->Forward(*batch_, *r.kv, *r.backend, logits);
  return r.backend->Synchronize();
}

absl::Status Ranks::Forward(const BatchView& batch, Tensor logits) {
  if (ranks_.size() == 1) {
    batch_ = &batch;
    logits_ = logits;
    return ForwardOn(0);
  }
  {
    std::lock_guard lock(mu_);
    TRIREME_CHECK(num_running_ == 0 && error_.ok());
    batch_ = &batch;
    logits_ = logits;
    running_.assign(ranks_.size(), true);
    num_running_ = static_cast<int>(ranks_.size());
    deadline_ = std::chrono::steady_clock::now() + timeout_;
    ++pass_;
  }
  changed_.notify_all();
  Finish(0, ForwardOn(0));
  std::unique_lock lock(mu_);
  changed_.wait(lock, [this] { return num_running_ == 0; });
  return error_;
}

void Ranks::Finish(size_t rank, const absl::Status& status) {
  if (!status.ok()) Fail(Annotate(status, StrCat("rank ", rank)));
  {
    std::lock_guard lock(mu_);
    running_[rank] = false;
    --num_running_;
  }
  changed_.notify_all();
}

void Ranks::Fail(const absl::Status& error) {
  {
    std::lock_guard lock(mu_);
    if (!error_.ok()) return;
    error_ = error;
  }
  for (const ModelRank& rank : ranks_) rank.backend->Abort();
}

void Ranks::Drive(size_t rank) {
  for (uint64_t seen = 0;; ++seen) {
    {
      std::unique_lock lock(mu_);
      changed_.wait(lock, [&] { return pass_ > seen || ended_; });
      if (pass_ == seen) return;
    }
    Finish(rank, ForwardOn(rank));
  }
}

void Ranks::Watch() {
  std::unique_lock lock(mu_);
  while (!ended_) {
    if (num_running_ == 0 || !error_.ok()) {
      changed_.wait(lock);
      continue;
    }
    if (changed_.wait_until(lock, deadline_) != std::cv_status::timeout) continue;
    if (num_running_ == 0 || std::chrono::steady_clock::now() < deadline_) continue;
    std::string late;
    for (size_t rank = 0; rank < running_.size(); ++rank) {
      if (running_[rank]) StrAppend(&late, late.empty() ? "" : ", ", rank);
    }
    const auto seconds = std::chrono::duration<double>(timeout_).count();
    lock.unlock();
    Fail(absl::DeadlineExceededError(
        StrCat("ranks ", late, " did not end a step within ", seconds, " s")));
    lock.lock();
  }
}

}  // namespace trireme
