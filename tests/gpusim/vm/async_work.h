// What the machine does by itself while warps run: copies under way. Any of them may be the next to
// end.
#pragma once

#include <cstddef>
#include <functional>
#include <random>
#include <utility>
#include <vector>

namespace trireme::gpusim {

class AsyncWork {
 public:
  void Start(std::function<void()> step) { steps_.push_back(std::move(step)); }
  bool empty() const { return steps_.empty(); }

  // Does one, which may start another; false when there is none.
  bool RunOne(std::mt19937_64& random) {
    if (steps_.empty()) return false;
    std::swap(steps_[random() % steps_.size()], steps_.back());
    const std::function<void()> step = std::move(steps_.back());
    steps_.pop_back();
    step();
    return true;
  }

 private:
  std::vector<std::function<void()>> steps_;
};

}  // namespace trireme::gpusim
