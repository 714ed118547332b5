#include "server/http/news_queue.h"

#include "server/http/connection.h"

namespace trireme::http {

void NewsQueue::HandOver() {
  {
    std::lock_guard lock(mu_);
    handed_over_.swap(pushed_);
  }
  for (const std::shared_ptr<Connection>& connection : handed_over_) connection->OnNews();
  handed_over_.clear();
}

}  // namespace trireme::http
