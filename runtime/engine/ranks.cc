#include "runtime/engine/ranks.h"

#include <utility>

#include "runtime/base/check.h"
#include "runtime/base/status.h"
#include "runtime/base/strings.h"

namespace trireme {

Ranks::Ranks(std::vector<ModelRank> ranks, std::chrono::nanoseconds timeout,
             std::vector<std::shared_ptr<RemoteNode>> nodes)
    : ranks_(std::move(ranks)),
      nodes_(std::move(nodes)),
      alone_(num_members() == 1 && ranks_.at(0).decoder->shard().num_ranks == 1),
      timeout_(timeout),
      running_(num_members()) {
  if (alone_) return;
  for (size_t member = 1; member < num_members(); ++member) {
    threads_.emplace_back([this, member] { Drive(member); });
  }
  threads_.emplace_back([this] { Watch(); });
}

Ranks::~Ranks() {
  if (under_way_) Wait().IgnoreError();
  {
    std::lock_guard lock(mu_);
    ended_ = true;
  }
  changed_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

std::string Ranks::Name(size_t member) const {
  if (member >= ranks_.size()) return StrCat("node ", member - ranks_.size() + 1);
  return StrCat("rank ", static_cast<size_t>(decoder().shard().rank) + member);
}

void Ranks::Enqueue(size_t rank) const {
  const ModelRank& r = ranks_[rank];
  Tensor logits = logits_;
  if (rank > 0) logits.data = nullptr;
  r.decoder->Forward(batch_, *r.kv, *r.backend, logits);
  if (rank == 0 && !sampling_.requests.empty()) {
    r.backend->Sample(sampling_.requests, sampling_.host_logits);
  }
}

absl::Status Ranks::ForwardOn(size_t member) const {
  if (member >= ranks_.size()) return nodes_[member - ranks_.size()]->Forward(batch_);
  Enqueue(member);
  return ranks_[member].backend->Synchronize();
}

void Ranks::Begin(const BatchView& batch, Tensor logits, const Sampling& sampling) {
  TRIREME_CHECK(!under_way_);
  under_way_ = true;
  {
    std::lock_guard lock(mu_);
    TRIREME_CHECK(num_running_ == 0 && error_.ok());
    batch_ = batch;
    logits_ = logits;
    sampling_ = sampling;
    if (!alone_) {
      running_.assign(num_members(), true);
      num_running_ = static_cast<int>(num_members());
      deadline_ = std::chrono::steady_clock::now() + timeout_;
      ++pass_;
    }
  }
  changed_.notify_all();
  if (backend().computes_by_itself()) Enqueue(0);
}

absl::Status Ranks::Wait() {
  TRIREME_CHECK(under_way_);
  under_way_ = false;
  absl::Status status =
      backend().computes_by_itself() ? backend().Synchronize() : ForwardOn(/*member=*/0);
  if (alone_) return status;
  Finish(0, status);
  std::unique_lock lock(mu_);
  changed_.wait(lock, [this] { return num_running_ == 0; });
  return error_;
}

void Ranks::Finish(size_t member, const absl::Status& status) {
  if (!status.ok()) {
    std::unique_lock lock(mu_);
    Fail(Annotate(status, Name(member)), &lock);
  }
  {
    std::lock_guard lock(mu_);
    running_[member] = false;
    --num_running_;
  }
  changed_.notify_all();
}

void Ranks::Fail(const absl::Status& error, std::unique_lock<std::mutex>* lock) {
  if (!error_.ok()) return;
  error_ = error;  // before the lock is given up: the pass cannot end well any more
  lock->unlock();
  for (const ModelRank& rank : ranks_) rank.backend->Abort();
  for (const auto& node : nodes_) node->Abort();
  lock->lock();
}

void Ranks::Drive(size_t member) {
  for (uint64_t seen = 0;; ++seen) {
    {
      std::unique_lock lock(mu_);
      changed_.wait(lock, [&] { return pass_ > seen || ended_; });
      if (pass_ == seen) return;
    }
    Finish(member, ForwardOn(member));
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
    for (size_t member = 0; member < running_.size(); ++member) {
      if (running_[member]) StrAppend(&late, late.empty() ? "" : ", ", Name(member));
    }
    const auto seconds = std::chrono::duration<double>(timeout_).count();
    Fail(absl::DeadlineExceededError(StrCat(late, " did not end a step within ", seconds, " s")),
         &lock);
  }
}

}  // namespace trireme
