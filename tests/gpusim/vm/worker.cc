#include "tests/gpusim/vm/worker.h"

#include <algorithm>
#include <string>
#include <utility>

#include "runtime/base/strings.h"
#include "tests/gpusim/vm/cluster.h"
#include "tests/gpusim/vm/grid.h"

namespace trireme::gpusim {
namespace {

// Operations that a warp runs before another may: between these, at random.
constexpr int kMinQuantum = 1, kMaxQuantum = 64;
constexpr uint64_t kMostResident = 2;  // clusters of an ordinary launch at the same time
// After so many polls: was there more to do than to poll? A loop that reads a flag has a few
// operations beside it. Who is taken for waiting by mistake loses a moment, nothing else.
constexpr uint64_t kPolls = 256, kMostOperationsAPoll = 64;

}  // namespace

Worker::Worker(Grid* grid, uint64_t seed, std::vector<Share> clusters)
    : grid_(grid),
      random_(seed),
      clusters_(std::move(clusters)),
      most_(grid->config().all_resident ? clusters_.size() : 1 + random_() % kMostResident) {}

Worker::~Worker() = default;

void Worker::Round() {
  const auto start = std::chrono::steady_clock::now();
  Admit();
  if (!RunWarps()) ReportDeadlock();
  if (!grid_->aborted()) Retire();
  if (polls_ >= kPolls) JudgePolls();
  if (done()) idle_ = true;
  time_ += std::chrono::steady_clock::now() - start;
}

bool Worker::done() const {
  return grid_->aborted() || (next_ == clusters_.size() && resident_.empty());
}

void Worker::Resume() {
  idle_ = false;
  polls_ = 0;
  instructions_before_ = counters_.total();
}

void Worker::JudgePolls() {
  const uint64_t instructions = counters_.total();
  idle_ = instructions - instructions_before_ < polls_ * kMostOperationsAPoll;
  polls_ = 0;
  instructions_before_ = instructions;
}

void Worker::Admit() {
  for (; next_ < clusters_.size() && resident_.size() < most_; ++next_) {
    const Share& share = clusters_[next_];
    resident_.push_back(std::make_unique<Cluster>(grid_, this, share.first_cta, share.first_agent));
    for (const auto& cta : resident_.back()->ctas()) {
      for (const auto& warp : cta->warps()) warps_.push_back(warp.get());
    }
  }
}

// False: nothing could be run.
bool Worker::RunWarps() {
  std::uniform_int_distribution<int> quantum(kMinQuantum, kMaxQuantum);
  std::shuffle(warps_.begin(), warps_.end(), random_);
  bool ran = warps_.empty();
  for (Warp* warp : warps_) {
    ran |= warp->Run(quantum(random_));
    AsyncWork& async = warp->cta().cluster().async;
    if (!async.empty() && random_() % 2 == 0) ran |= async.RunOne(random_);
  }
  for (size_t i = 0; !ran && !grid_->aborted() && i < resident_.size(); ++i) {
    ran = resident_[i]->async.RunOne(random_);
  }
  return ran || grid_->aborted();
}

void Worker::Retire() {
  std::erase_if(warps_, [](const Warp* warp) { return warp->finished(); });
  std::erase_if(resident_, [&](const auto& cluster) {
    if (!cluster->finished()) return false;
    while (!grid_->aborted() && cluster->async.RunOne(random_)) {
    }
    return true;
  });
}

// That another worker still runs does not help: warps wait for their own cluster only. Who waits
// for another one polls.
void Worker::ReportDeadlock() {
  explaining_ = true;
  std::string who;
  for (Warp* warp : warps_) {
    warp->Run(1);
    who += StrCat(who.empty() ? "" : "; ", "CTA rank ", warp->cta().rank(), " warp ", warp->index(),
                  " waits for ", warp->waits_for.empty() ? "its other lanes" : warp->waits_for);
  }
  Warp* const first = warps_.front();
  first->ReportAt(grid_->program().ops[first->pc()], 0, FindingKind::kDeadlock,
                  StrCat("nothing can go on: ", who));
  grid_->Abort();
}

}  // namespace trireme::gpusim
