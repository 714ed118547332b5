// Hands the news of a step over from the engine thread to the calls: one task of the pump for as
// many calls as have news by the time it runs, where a task for each would cost the engine an
// allocation, a lock and perhaps a wake-up each.
#pragma once

#include <limits>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "runtime/base/check.h"
#include "runtime/base/worker_pool.h"
#include "server/grpc/generate_call.h"

namespace trireme::rpc {

class NewsQueue {
 public:
  // Any thread. `call` gets OnNews, on the pump.
  void Push(std::shared_ptr<GenerateCall::Handle> call) {
    bool is_first;
    {
      std::lock_guard lock(mu_);
      is_first = pushed_.empty();
      pushed_.push_back(std::move(call));
    }
    if (is_first) Post([this] { HandOver(); });
  }
  // Any thread. `work` runs on the pump; it must not block.
  void Post(absl::AnyInvocable<void()> work) { TRIREME_CHECK(pump_.TrySubmit(std::move(work))); }

 private:
  void HandOver();

  std::mutex mu_;
  std::vector<std::shared_ptr<GenerateCall::Handle>> pushed_;       // guarded by mu_
  std::vector<std::shared_ptr<GenerateCall::Handle>> handed_over_;  // pump only; keeps its capacity

  WorkerPool pump_{1,
                   std::numeric_limits<size_t>::max()};  // last: its thread uses the members above
};

}  // namespace trireme::rpc
