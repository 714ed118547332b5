// What the checkers find.
#pragma once

#include <cstdint>
#include <functional>
#include <mutex>
#include <set>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

namespace trireme::gpusim {

enum class FindingKind : uint8_t {
  kOutOfBounds,
  kMisaligned,
  kUninitializedRegister,
  kUninitializedShared,
  kUninitializedGlobal,
  kUninitializedTensor,
  kRaceShared,
  kRaceGlobal,
  kMissingStreamOrder,
  kRaceTensor,
  kMissingProxyFence,
  kMissingWgmmaFence,
  kMissingTensorFence,
  kInFlight,
  kBarrierMisuse,
  kDeadlock,
  kDivergence,
  kBadOperand,
  kAssert,
  kCount,
};
std::string_view NameOf(FindingKind kind);

struct Finding {
  FindingKind kind = FindingKind::kBadOperand;
  std::string kernel, instruction, file;  // without instruction: a call of a library
  uint32_t line = 0, ptx_line = 0;
  int ctaid[3] = {0, 0, 0};
  int warp = 0, lane = 0;
  std::string what;

  std::string ToString() const;
};

// Thread-safe. Keeps the first finding of each kind and instruction, and counts the rest.
class Report {
 public:
  // `sink` gets each finding that is kept, at once.
  explicit Report(std::function<void(const Finding&)> sink = {}) : sink_(std::move(sink)) {}
  void Add(Finding finding);
  std::vector<Finding> Take();
  uint64_t total() const;

 private:
  const std::function<void(const Finding&)> sink_;
  mutable std::mutex mu_;
  std::vector<Finding> findings_;
  std::set<std::tuple<FindingKind, std::string, uint32_t>> known_;
  uint64_t total_ = 0;
};

}  // namespace trireme::gpusim
