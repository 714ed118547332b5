// The state behind the CUDA runtime API: devices, what the objects registered, streams, errors.
#pragma once

#include <cuda_runtime_api.h>

#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "tests/gpusim/cudart/architecture.h"
#include "tests/gpusim/cudart/faults.h"
#include "tests/gpusim/cudart/module_loader.h"
#include "tests/gpusim/cudart/stream.h"
#include "tests/gpusim/vm/counters.h"
#include "tests/gpusim/vm/device_memory.h"
#include "tests/gpusim/vm/report.h"
#include "tests/gpusim/vm/stream_order.h"

namespace trireme::gpusim {

struct Capture;

struct FatBinary {
  std::vector<std::string_view> ptx_texts;
  std::map<int, std::unique_ptr<LoadedModule>> loaded;  // by device
};

struct RegisteredKernel {
  FatBinary* binary = nullptr;
  std::string name;
  std::map<int, int> max_dynamic_shared_bytes;  // by device, where it was set
};

struct RegisteredVariable {
  FatBinary* binary = nullptr;
  std::string name;
};

struct Device {
  int index = 0;
  const Architecture* architecture = nullptr;
  std::unique_ptr<DeviceMemory> memory;
  std::unique_ptr<CUstream_st> default_stream;
  std::mutex run_mu;  // one kernel at a time, but for those that wait in their streams
  // After a kernel went wrong everything fails with this, until cudaDeviceReset.
  std::atomic<cudaError_t> sticky = cudaSuccess;
  std::atomic<bool> lost = false;  // even after that
  std::set<int> peers;             // guarded by Runtime::mu
};

class Runtime {
 public:
  static Runtime& Get();

  Device& device() { return *devices_[static_cast<size_t>(current_device())]; }
  Device& device(int index) { return *devices_[static_cast<size_t>(index)]; }
  int num_devices() const { return static_cast<int>(devices_.size()); }
  static int& current_device();  // of this thread

  // Puts work into a stream, or into the graph that it captures. Work that waits for what its
  // stream does not know of says cudaErrorNotReady and is called again. Once the device has a
  // sticky error the work is dropped. A graph's launches each work on a copy of it.
  cudaError_t Submit(cudaStream_t stream, std::string_view what, std::function<cudaError_t()> work);

  // Handles that were given out and not destroyed; null: the default stream of the device.
  CUstream_st* Resolve(cudaStream_t stream);

  // The module that holds a kernel or a variable, on the current device. `mu` is held.
  absl::StatusOr<LoadedModule*> Load(FatBinary* binary);

  // A library's call (nccl, cublasLt) reads bytes that were never written.
  void ReportUninitialized(std::string_view call, std::string what);

  // What this thread runs for a stream, no kernel, uses [address, address + bytes), which it has
  // found in `memory`.
  void CheckOrder(const DeviceMemory& memory, uint64_t address, uint64_t bytes, RangeUse use);

  uint64_t NewSeed();
  void Seed(uint64_t seed);

  std::mutex mu;                                    // of all below
  std::map<const void*, RegisteredKernel> kernels;  // by the host's function
  std::map<const void*, RegisteredVariable> variables;
  std::set<CUstream_st*> streams;
  std::set<CUevent_st*> events;
  std::map<const void*, size_t> registered_host;  // cudaHostRegister: start -> bytes
  Counters last_counters;
  const bool profile;
  const int threads;  // of a launch

  DeviceMemory host_memory;  // page-locked
  Report report;
  Queues queues;
  Faults faults;

 private:
  Runtime();

  std::vector<std::unique_ptr<Device>> devices_;
  std::mutex seed_mu_;
  std::mt19937_64 seeds_;
};

// Keeps an error for cudaGetLastError and hands it on. The sticky error of the current device
// comes before what a call itself has found.
cudaError_t Record(cudaError_t error);
cudaError_t Sticky();      // of the current device
cudaError_t& LastError();  // of this thread, but for sticky ones
// What is wrong with the program, for a person: one line on stderr.
cudaError_t Explain(cudaError_t error, std::string_view what);

}  // namespace trireme::gpusim

// The types that the API knows by name only.
struct CUstream_st {
  std::shared_ptr<trireme::gpusim::Stream> queue;
  std::shared_ptr<trireme::gpusim::Capture> capture;  // not null: its work goes into a graph
};
struct CUevent_st {
  bool timed = true;
  trireme::gpusim::Point point;
  std::shared_ptr<double> milliseconds;  // since the start, when it was reached
  std::shared_ptr<trireme::gpusim::Capture> capture;
  std::vector<size_t> captured_after;  // nodes
};
