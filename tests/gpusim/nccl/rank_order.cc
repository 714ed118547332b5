#include "tests/gpusim/nccl/rank_order.h"

#include <map>
#include <mutex>

namespace trireme::gpusim {
namespace {

struct Ranks {
  std::mutex mu;
  std::map<std::string, StreamClock> known;  // by communicator

  static Ranks& Get() {
    static Ranks* const ranks = new Ranks();
    return *ranks;
  }
};

}  // namespace

void RankBegins(const std::string& communicator, const StreamOperation& operation) {
  Ranks& ranks = Ranks::Get();
  const StreamClock clock = operation.Clock();
  std::lock_guard lock(ranks.mu);
  ranks.known[communicator].Join(clock);
}

void RankEnds(const std::string& communicator, StreamOperation* operation) {
  Ranks& ranks = Ranks::Get();
  std::lock_guard lock(ranks.mu);
  operation->Learn(ranks.known[communicator]);
}

}  // namespace trireme::gpusim
