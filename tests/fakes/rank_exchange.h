// What the ranks of a model exchange when each is a thread of this process.
#pragma once

#include <barrier>
#include <utility>
#include <vector>

namespace trireme::fakes {

class RankExchange {
 public:
  explicit RankExchange(int num_ranks)
      : barrier_(num_ranks), values_(static_cast<size_t>(num_ranks)) {}

  // Of all ranks, in order. Every rank calls it as often as the others.
  std::vector<std::vector<float>> All(int rank, std::vector<float> mine) {
    values_[static_cast<size_t>(rank)] = std::move(mine);
    barrier_.arrive_and_wait();
    std::vector<std::vector<float>> all = values_;
    barrier_.arrive_and_wait();  // before anyone's next value
    return all;
  }

 private:
  std::barrier<> barrier_;
  std::vector<std::vector<float>> values_;
};

}  // namespace trireme::fakes
