#include "server/grpc/news_queue.h"

namespace trireme::rpc {

void NewsQueue::HandOver() {
  {
    std::lock_guard lock(mu_);
    handed_over_.swap(pushed_);
  }
  for (const std::shared_ptr<GenerateCall::Handle>& call : handed_over_) call->OnNews();
  handed_over_.clear();
}

}  // namespace trireme::rpc
