// One launch: its CTAs and their warps. worker.h runs them.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "tests/gpusim/vm/bulk_copy.h"
#include "tests/gpusim/vm/clock.h"
#include "tests/gpusim/vm/counters.h"
#include "tests/gpusim/vm/device_memory.h"
#include "tests/gpusim/vm/global_order.h"
#include "tests/gpusim/vm/matrix_unit.h"
#include "tests/gpusim/vm/mbarrier.h"
#include "tests/gpusim/vm/pending_copy.h"
#include "tests/gpusim/vm/program.h"
#include "tests/gpusim/vm/report.h"
#include "tests/gpusim/vm/shadow.h"
#include "tests/gpusim/vm/stream_operation.h"
#include "tests/gpusim/vm/tensor_memory.h"

namespace trireme::gpusim {

class Cluster;
class Cta;
class Grid;
inline int Volume(const std::array<int, 3>& size) { return size[0] * size[1] * size[2]; }
class Warpgroup;
class Worker;
struct TensorWarp;
struct WgmmaRegisters;

// Lanes that are at the same place.
struct Split {
  uint32_t pc = 0;
  LaneMask lanes = 0;
  bool waiting = false;  // its operation could not run the last time
};

class Warp {
 public:
  Warp(Cta* cta, int index);
  ~Warp();

  // ---- Values.
  template <typename T>
  const T* In(Slot slot) const {
    return reinterpret_cast<const T*>(file_.data() + slot.offset);
  }
  // A destination; its lanes count as defined.
  template <typename T>
  T* Out(Slot slot, LaneMask active) {
    defined_[slot.index] |= active;
    return reinterpret_cast<T*>(file_.data() + slot.offset);
  }
  LaneMask Predicate(Slot slot) const { return *In<LaneMask>(slot); }
  void SetPredicate(Slot slot, LaneMask value, LaneMask active) {
    LaneMask* const place = Out<LaneMask>(slot, active);
    *place = (*place & ~active) | (value & active);
  }
  LaneMask& defined(Slot slot) { return defined_[slot.index]; }
  // Reports sources that hold nothing in an active lane.
  void RequireDefined(const Op& op, LaneMask active) {
    LaneMask missing = 0;
    for (int i = 0; i < op.num_src; ++i) missing |= active & ~defined_[op.src[i].index];
    if (missing != 0) [[unlikely]]
      ReportUndefined(op, active);
  }
  // Addresses of the operation in src[i].
  void Addresses(const Op& op, int i, std::array<uint64_t, kWarpSize>* out) const;
  uint64_t Address(const Op& op, int i, int lane) const;

  // ---- Lanes.
  LaneMask live() const { return live_; }
  int index() const { return index_; }
  uint32_t agent() const { return agent_; }
  uint32_t pc() const { return current_->pc; }
  LaneMask current_lanes() const { return current_->lanes; }
  void BranchTo(LaneMask taken, uint32_t target);  // of the current split
  void Exit(LaneMask lanes);
  bool finished() const { return live_ == 0; }
  // The lanes that stand before the operation at `pc`.
  LaneMask LanesAt(uint32_t pc) const;

  // ---- Order.
  Accessor AsAccessor(int lane) const {
    return {agent_, lane,   time_, lanes_seen_[static_cast<size_t>(lane)], &knowledge.generic,
            false,  nullptr};
  }
  // The same through the async proxy: bulk copies, wgmma, tcgen05.
  Accessor AsAsyncAccessor(int lane) const {
    Accessor who = AsAccessor(lane);
    who.async_proxy = true;
    who.fenced = &knowledge.async_proxy;
    return who;
  }
  uint32_t lanes_seen(int lane) const { return lanes_seen_[static_cast<size_t>(lane)]; }
  // It sees what they have written to shared or global memory, or seen there.
  void FenceAsyncProxy(LaneMask lanes, bool shared, bool global);
  void Converge(LaneMask lanes);  // they have seen each other
  Knowledge Release(LaneMask lanes);
  void ReleaseInto(LaneMask lanes, Knowledge* into);  // joins it
  void Acquire(const Knowledge& released, LaneMask lanes);
  Knowledge knowledge;
  PendingOrder order;

  // Runs at most `quantum` operations; false when nothing could be run.
  bool Run(int quantum);

  void ReportAt(const Op& op, int lane, FindingKind kind, std::string what);
  Cta& cta() { return *cta_; }
  const Cta& cta() const { return *cta_; }
  Grid& grid() { return grid_; }
  const Grid& grid() const { return grid_; }
  Worker& worker() { return worker_; }

  // cp.async: by lane, in order of issue.
  std::array<std::vector<PendingCopy>, kWarpSize> copies;
  std::vector<PendingRow> row_copies;  // of all lanes, in order of issue
  std::array<uint64_t, kWarpSize> copy_group{};

  std::array<BulkGroups, kWarpSize> bulk_groups;  // by lane
  uint32_t bulk_agent = 0;                        // writes for them; 0: none was needed yet
  std::map<uint64_t, MbarrierPolls> polls;        // of waits in vain
  LaneMask at_cluster_barrier = 0;                // arrived and not waited yet
  uint64_t cluster_phase = 0;                     // when they arrived
  std::unique_ptr<WgmmaRegisters> wgmma_registers;
  std::unique_ptr<TensorWarp> tensor;  // once it has executed a tcgen05 instruction
  int registers = 0;                   // a thread's; setmaxnreg changes it

  bool at_barrier = false;  // in bar.sync: counted there already
  int barrier_id = -1;
  uint64_t barrier_phase = 0;
  std::string waits_for;  // for the deadlock report

 private:
  void ReportUndefined(const Op& op, LaneMask active);
  void Merge();
  size_t PickSplit();

  Cta* const cta_;
  Grid& grid_;
  Worker& worker_;
  const int index_;
  const uint32_t agent_;
  const Program& program_;
  std::vector<char> file_;
  std::vector<uint32_t> defined_;
  LaneMask live_ = 0;
  std::vector<Split> splits_;
  Split* current_ = nullptr;
  bool changed_ = false;
  uint32_t time_ = 1;
  std::array<uint32_t, kWarpSize> lanes_seen_{};
  uint64_t turns_ = 0;
};

// One of the 16 named barriers of a CTA.
struct NamedBarrier {
  int expected = 0;  // threads; 0: nobody waits
  int arrived = 0;
  uint64_t phase = 0;
  Knowledge gathered;
  Knowledge released;  // by the phases that are complete
  // Of bar.red: threads that came with a predicate, and those of which it was true; of the phase
  // that is under way, and of the last one.
  int voters = 0, votes = 0, last_voters = 0, last_votes = 0;
};

class Cta {
 public:
  Cta(Grid* grid, Cluster* cluster, uint32_t rank, std::array<int, 3> id);
  ~Cta();

  Grid& grid() { return *grid_; }
  Cluster& cluster() { return *cluster_; }
  const Cluster& cluster() const { return *cluster_; }
  uint32_t rank() const { return rank_; }  // in the cluster
  const std::array<int, 3>& id() const { return id_; }
  std::vector<std::unique_ptr<Warp>>& warps() { return warps_; }
  int num_threads() const;
  std::byte* shared(uint32_t at) { return shared_.data() + at; }
  uint32_t shared_bytes() const { return static_cast<uint32_t>(shared_.size()); }
  std::byte* local(int thread, uint64_t at);

  SharedShadow shadow;
  TensorMemory tensor_memory;
  std::array<NamedBarrier, 16> barriers;
  std::map<uint32_t, Mbarrier> mbarriers;  // by address
  std::vector<std::unique_ptr<Warpgroup>> warpgroups;
  std::vector<Stamp> remote_accesses;  // of its shared memory, by other CTAs
  int bulk_writes_in_flight = 0;       // into its shared memory
  int64_t registers_free = 0;          // of the CTA's, for setmaxnreg
  bool finished() const;

 private:
  Grid* const grid_;
  Cluster* const cluster_;
  const uint32_t rank_;
  const std::array<int, 3> id_;
  std::vector<std::byte> shared_;
  std::vector<std::byte> local_;
  std::vector<std::unique_ptr<Warp>> warps_;
};

// What a special register holds in a lane of the CTA.
uint32_t SpecialValue(Special special, const Cta& cta, const Grid& grid, int warp, int lane);

struct LaunchConfig {
  std::array<int, 3> grid = {1, 1, 1}, block = {1, 1, 1}, cluster = {1, 1, 1};
  uint32_t dynamic_shared_bytes = 0;
  uint64_t seed = 0;
  MatrixRounding matrix_rounding = MatrixRounding::kFloatOrder;
  int registers_per_thread = 0;  // as ptxas says; 0: as many as the CTA's threads could have
  bool all_resident = false;     // a cooperative launch: every CTA runs from the beginning
  int threads = 2;               // its workers have each one, or (1) take turns
  uint64_t workspace = 0;        // its 64 bytes of zeros in global memory, for grid.sync()
  std::shared_ptr<StreamOperation> operation;  // null: it is ordered after all others
};

class Grid {
 public:
  Grid(const Program* program, const LaunchConfig& config, std::vector<char> params,
       DeviceMemory* memory, Report* report);
  ~Grid();

  // Runs every CTA. ABORTED when a lane touched what it must not, or nothing can go on: the
  // findings tell.
  absl::Status Run();
  // Runs them until all are done (true), or until those that are left read flags again and again:
  // their caller's thread may be what sets them, or be needed by the launch that does. To be called
  // again, by any thread.
  bool RunSlice();
  absl::Status status() const;                            // once all are done
  const Counters& counters() const { return counters_; }  // likewise
  double cpu_seconds() const { return cpu_seconds_; }     // of all threads
  double matrix_share() const;                            // of it, in matrix operations

  // All below: thread-safe.
  const Program& program() const { return *program_; }
  const LaunchConfig& config() const { return config_; }
  const std::vector<char>& params() const { return params_; }
  DeviceMemory& memory() { return *memory_; }
  Report& report() { return *report_; }
  MatrixRounding matrix_rounding() const { return config_.matrix_rounding; }
  void Abort() { aborted_.store(true, std::memory_order_relaxed); }  // the launch fails
  bool aborted() const { return aborted_.load(std::memory_order_relaxed); }
  int RegistersPerThread() const;  // of a warp that starts
  void NoteFinding(FindingKind kind) { failure_ = kind; }
  FindingKind failure() const { return failure_; }  // the last finding: why it was aborted
  // For global_order.h.
  uint32_t launch() const { return launch_; }  // unique, not 0
  StreamOperation& operation() const { return *operation_; }
  GlobalReleases& releases() { return releases_; }

 private:
  const Program* const program_;
  const LaunchConfig config_;
  const std::vector<char> params_;
  DeviceMemory* const memory_;
  Report* const report_;
  Counters counters_;
  double cpu_seconds_ = 0;
  std::atomic<bool> aborted_ = false;
  std::atomic<FindingKind> failure_ = FindingKind::kCount;
  const std::shared_ptr<StreamOperation> operation_;
  const uint32_t launch_;  // its number
  GlobalReleases releases_;
  std::vector<std::unique_ptr<Worker>> workers_;
};

}  // namespace trireme::gpusim
