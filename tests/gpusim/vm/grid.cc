#include "tests/gpusim/vm/grid.h"

#include <algorithm>
#include <chrono>
#include <ctime>
#include <random>
#include <thread>
#include <utility>

#include "runtime/base/check.h"
#include "tests/gpusim/vm/cluster.h"
#include "tests/gpusim/vm/tcgen05.h"
#include "tests/gpusim/vm/wgmma.h"
#include "tests/gpusim/vm/worker.h"

namespace trireme::gpusim {
namespace {

// What fills memory that nobody has written: a NaN in every float format.
constexpr std::byte kPoison{0xff};
constexpr size_t kWorkers = 2;

// What this thread has computed: a busy machine does not show.
double ThreadSeconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

}  // namespace

// ---- Cta

Cta::Cta(Grid* grid, Cluster* cluster, uint32_t rank, std::array<int, 3> id)
    : grid_(grid), cluster_(cluster), rank_(rank), id_(id) {
  const Program& program = grid->program();
  shared_.assign(program.static_shared_bytes + grid->config().dynamic_shared_bytes, kPoison);
  shadow.Reset(shared_bytes());
  local_.assign(size_t{program.local_bytes} * static_cast<size_t>(num_threads()), kPoison);
  const int num_warps = (num_threads() + kWarpSize - 1) / kWarpSize;
  for (int i = 0; i < num_warps; ++i) {
    warps_.push_back(std::make_unique<Warp>(this, i));
    warps_.back()->registers = grid->RegistersPerThread();
  }
  for (int i = 0; i + 4 <= num_warps; i += 4) {
    warpgroups.push_back(std::make_unique<Warpgroup>(cluster->NewAgent()));
  }
}

Cta::~Cta() = default;

int Cta::num_threads() const { return Volume(grid_->config().block); }

std::byte* Cta::local(int thread, uint64_t at) {
  return local_.data() + static_cast<size_t>(thread) * grid_->program().local_bytes + at;
}

bool Cta::finished() const {
  return std::all_of(warps_.begin(), warps_.end(), [](const auto& w) { return w->finished(); });
}

// ---- Grid

Grid::Grid(const Program* program, const LaunchConfig& config, std::vector<char> params,
           DeviceMemory* memory, Report* report)
    : program_(program),
      config_(config),
      params_(std::move(params)),
      memory_(memory),
      report_(report),
      operation_(config_.operation != nullptr ? config_.operation
                                              : std::make_shared<StreamOperation>(program->name)),
      launch_(operation_->number()) {
  std::vector<std::array<int, 3>> clusters;
  for (int z = 0; z < config_.grid[2]; z += config_.cluster[2]) {
    for (int y = 0; y < config_.grid[1]; y += config_.cluster[1]) {
      for (int x = 0; x < config_.grid[0]; x += config_.cluster[0]) clusters.push_back({x, y, z});
    }
  }
  TRIREME_CHECK(clusters.size() <= UINT32_MAX / Cluster::kMaxAgents);
  std::mt19937_64 random(config_.seed);
  std::shuffle(clusters.begin(), clusters.end(), random);
  // The shares do not depend on how many threads there are: nor does what a cluster does.
  for (size_t i = 0; i < std::min(kWorkers, clusters.size()); ++i) {
    std::vector<Worker::Share> share;
    for (size_t at = i; at < clusters.size(); at += kWorkers) {
      share.push_back({clusters[at], static_cast<uint32_t>(at) * Cluster::kMaxAgents});
    }
    workers_.push_back(std::make_unique<Worker>(this, random(), std::move(share)));
  }
}

Grid::~Grid() = default;

int Grid::RegistersPerThread() const {
  if (config_.registers_per_thread > 0) return config_.registers_per_thread;
  constexpr int kOfMultiprocessor = 65536, kMost = 255;
  return std::min(kOfMultiprocessor / Volume(config_.block), kMost) / 8 * 8;
}

absl::Status Grid::Run() {
  while (!RunSlice()) std::this_thread::yield();
  return status();
}

bool Grid::RunSlice() {
  const double start = ThreadSeconds();
  double of_second = 0;
  for (const auto& worker : workers_) {
    if (!worker->done()) worker->Resume();
  }
  // While one works on, the others may be waiting for it: it is no use to stop before all wait.
  const auto idle = [&] {
    return aborted() ||
           std::all_of(workers_.begin(), workers_.end(), [](const auto& w) { return w->idle(); });
  };
  const auto run = [&](Worker* worker) {
    while (!worker->done() && !idle()) worker->Round();
  };
  if (workers_.size() == kWorkers && config_.threads > 1) {
    std::thread second([&] {
      run(workers_[1].get());
      of_second = ThreadSeconds();
    });
    run(workers_[0].get());
    second.join();
  } else {
    while (!idle()) {
      for (const auto& worker : workers_) {
        if (!worker->done()) worker->Round();
      }
    }
  }
  cpu_seconds_ += ThreadSeconds() - start + of_second;
  if (!std::all_of(workers_.begin(), workers_.end(), [](const auto& w) { return w->done(); })) {
    return false;
  }
  for (const auto& worker : workers_) counters_ += worker->counters();
  return true;
}

// Clocks that a busy machine stops run for both, so a share is what they give.
double Grid::matrix_share() const {
  std::chrono::duration<double> all{}, matrix{};
  for (const auto& worker : workers_) {
    all += worker->time();
    matrix += worker->matrix_time();
  }
  return all.count() > 0 ? matrix / all : 0;
}

absl::Status Grid::status() const {
  if (aborted()) return absl::AbortedError("the launch failed; see the findings");
  return absl::OkStatus();
}

}  // namespace trireme::gpusim
