// The thread that brings calls their news and does what must not run in gRPC's own callbacks.
#pragma once

#include <limits>
#include <memory>
#include <utility>

#include "absl/functional/any_invocable.h"
#include "runtime/base/check.h"
#include "runtime/base/worker_pool.h"
#include "server/grpc/generate_call.h"
#include "server/node/news_queue.h"

namespace trireme::rpc {

class CallPump {
 public:
  // Any thread. `call` gets OnNews, on the pump.
  void PushNews(std::shared_ptr<GenerateCall::Handle> call) { news_.Push(std::move(call)); }
  // Any thread. `work` runs on the pump; it must not block.
  void Post(absl::AnyInvocable<void()> work) { TRIREME_CHECK(thread_.TrySubmit(std::move(work))); }

 private:
  NewsQueue<GenerateCall::Handle> news_{
      [this](auto* queue) { Post([queue] { queue->Deliver(); }); }};
  WorkerPool thread_{1, std::numeric_limits<size_t>::max()};  // last: it uses the members above
};

}  // namespace trireme::rpc
