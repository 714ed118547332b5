// Devices with a communicator each, and buffers on them.
#pragma once

#include <cuda_runtime_api.h>
#include <gtest/gtest.h>
#include <nccl.h>

#include <utility>
#include <vector>

namespace trireme::gpusim {

// [n] on a device.
template <typename T>
class Buffer {
 public:
  explicit Buffer(const std::vector<T>& values) : n_(values.size()) {
    EXPECT_EQ(cudaMalloc(&data_, n_ * sizeof(T)), cudaSuccess);
    EXPECT_EQ(cudaMemcpy(data_, values.data(), n_ * sizeof(T), cudaMemcpyDefault), cudaSuccess);
  }
  explicit Buffer(size_t n) : n_(n) {  // undefined
    EXPECT_EQ(cudaMalloc(&data_, n * sizeof(T)), cudaSuccess);
  }
  ~Buffer() { cudaFree(data_); }
  Buffer(Buffer&& other) : data_(std::exchange(other.data_, nullptr)), n_(other.n_) {}

  T* data() { return data_; }
  std::vector<T> Values() const {
    std::vector<T> values(n_);
    EXPECT_EQ(cudaMemcpy(values.data(), data_, n_ * sizeof(T), cudaMemcpyDefault), cudaSuccess);
    return values;
  }

 private:
  T* data_ = nullptr;
  size_t n_;
};

// Ranks 0 ... n - 1 of one process, on devices of the same numbers, driven by one thread.
struct Ranks {
  explicit Ranks(int n) : comms(static_cast<size_t>(n)), streams(static_cast<size_t>(n)) {
    EXPECT_EQ(ncclCommInitAll(comms.data(), n, nullptr), ncclSuccess);
    for (int rank = 0; rank < n; ++rank) {
      cudaSetDevice(rank);
      EXPECT_EQ(
          cudaStreamCreateWithFlags(&streams[static_cast<size_t>(rank)], cudaStreamNonBlocking),
          cudaSuccess);
    }
  }
  ~Ranks() {
    for (size_t rank = 0; rank < comms.size(); ++rank) {
      cudaSetDevice(static_cast<int>(rank));
      EXPECT_EQ(cudaStreamDestroy(streams[rank]), cudaSuccess);
      if (comms[rank] != nullptr) {
        EXPECT_EQ(ncclCommDestroy(comms[rank]), ncclSuccess);
      }
    }
    cudaSetDevice(0);
  }
  int size() const { return static_cast<int>(comms.size()); }
  // call(rank) of all ranks as one group.
  template <typename F>
  ncclResult_t Together(F&& call) {
    ncclGroupStart();
    for (size_t rank = 0; rank < comms.size(); ++rank) call(rank);
    return ncclGroupEnd();
  }
  void Wait() {
    for (const cudaStream_t stream : streams) {
      EXPECT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
    }
  }
  template <typename T>
  std::vector<Buffer<T>> Buffers(const std::vector<std::vector<T>>& values) {
    std::vector<Buffer<T>> buffers;
    for (size_t rank = 0; rank < values.size(); ++rank) {
      cudaSetDevice(static_cast<int>(rank));
      buffers.emplace_back(values[rank]);
    }
    return buffers;
  }

  std::vector<ncclComm_t> comms;
  std::vector<cudaStream_t> streams;
};

}  // namespace trireme::gpusim
