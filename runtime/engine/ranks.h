// The ranks of a model: one forward pass on all of them at a time.
//
// Each rank of this machine is driven by a thread of its own, the first by the caller's; so is each
// other machine. A device computes while the caller does something else (Begin, Wait). Whoever
// fails, or takes longer than the timeout, ends the pass for all: ranks wait for each other inside
// the device's collectives, and would wait for good.
#pragma once

#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "runtime/backend/backend.h"
#include "runtime/model/decoder.h"
#include "runtime/model/kv_storage.h"

namespace trireme {

struct ModelRank {
  std::unique_ptr<Backend> backend;  // before what it has made
  std::unique_ptr<const Decoder> decoder;
  std::unique_ptr<const KvStorage> kv;
};

// Ranks on another machine.
class RemoteNode {
 public:
  virtual ~RemoteNode() = default;
  // Their part of the batch. Called by one thread at a time; an error is final.
  virtual absl::Status Forward(const BatchView& batch) = 0;
  // Any thread: Forward, running or to come, returns an error.
  virtual void Abort() = 0;
};

// How long ranks may take for a step before it is given up: a collective that hangs says nothing.
inline constexpr std::chrono::seconds kDefaultRankTimeout{10};

// Used by one thread.
class Ranks {
 public:
  // `ranks`: this machine's, at least one, in order. `nodes`: the other machines from number 1 on,
  // given to that of the first rank only. A model's only rank has no timeout: there is nobody to
  // wait for.
  explicit Ranks(std::vector<ModelRank> ranks,
                 std::chrono::nanoseconds timeout = kDefaultRankTimeout,
                 std::vector<std::shared_ptr<RemoteNode>> nodes = {});
  // Waits for a pass that is under way.
  ~Ranks();

  // What the first rank does with its logits behind the pass: nothing by default.
  struct Sampling {
    absl::Span<const SampleRequest> requests;  // not empty: Backend::Sample
    Tensor host_logits;
  };
  // Begins to compute the batch; `logits` are the model's first rank's, as Decoder::Forward has
  // them (their data is null where that is another machine's). What batch and requests point to
  // stays as it is until Wait has returned. The other ranks set about it at once, the first one,
  // too, where its backend computes by itself; else Wait computes its part.
  void Begin(const BatchView& batch, Tensor logits, const Sampling& sampling);
  void Begin(const BatchView& batch, Tensor logits) { Begin(batch, logits, Sampling()); }
  // Waits until the pass has ended on all ranks: once behind each Begin. An error is that of the
  // rank that failed first, or DEADLINE_EXCEEDED, the clock having run from Begin on; nothing but
  // the destructor may follow it.
  absl::Status Wait();

  const Decoder& decoder() const { return *ranks_[0].decoder; }
  Backend& backend() { return *ranks_[0].backend; }  // of the first

 private:
  // `member`: first this machine's ranks, then the other machines.
  size_t num_members() const { return ranks_.size() + nodes_.size(); }
  std::string Name(size_t member) const;
  void Enqueue(size_t rank) const;
  absl::Status ForwardOn(size_t member) const;
  void Finish(size_t member, const absl::Status& status);
  void Drive(size_t member);
  void Watch();
  // Notes the pass's first error and ends it for all ranks. `lock` holds mu_, and not meanwhile.
  void Fail(const absl::Status& error, std::unique_lock<std::mutex>* lock);

  const std::vector<ModelRank> ranks_;
  const std::vector<std::shared_ptr<RemoteNode>> nodes_;
  const bool alone_;  // nobody to wait for
  const std::chrono::nanoseconds timeout_;

  bool under_way_ = false;  // between Begin and Wait; the caller's thread

  std::mutex mu_;
  std::condition_variable changed_;
  // Guarded by mu_; batch_, logits_ and sampling_ stay as they are while a pass is under way.
  uint64_t pass_ = 0;
  BatchView batch_;
  Tensor logits_;
  Sampling sampling_;
  std::vector<bool> running_;  // of the pass, by member
  int num_running_ = 0;
  std::chrono::steady_clock::time_point deadline_;
  absl::Status error_;
  bool ended_ = false;

  std::vector<std::thread> threads_;
};

}  // namespace trireme
