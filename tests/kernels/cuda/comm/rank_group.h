// A group of ranks on devices of this machine, for tests of the all-reduce.
#pragma once

#include <memory>
#include <random>
#include <thread>

#include "kernels/cuda/comm/all_reduce.h"
#include "tests/kernels/cuda/device_memory.h"

namespace trireme::cuda {

inline constexpr float kEps = 1e-5f;

inline std::vector<float> Normal(size_t n, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(n);
  for (float& value : values) value = normal(random);
  return values;
}

// A device of the group and what it has there.
struct Rank {
  Rank(int64_t rows, int64_t cols)
      : x(Normal(static_cast<size_t>(rows * cols), 1)),
        gain(Normal(static_cast<size_t>(cols), 2)),
        even(static_cast<size_t>(rows * cols)),
        odd(static_cast<size_t>(rows * cols)),
        shares(static_cast<size_t>(rows * cols)),
        y(static_cast<size_t>(rows * cols)),
        flags(std::vector<uint32_t>(kAllReduceFlags, 0)) {
    Check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  }
  ~Rank() { cudaStreamDestroy(stream); }

  DeviceArray<float> x, gain;
  DeviceArray<uint16_t> even, odd, shares, y;  // even, odd: what calls sum up, in turn
  DeviceArray<uint32_t> flags;
  cudaStream_t stream = nullptr;
};

struct Outcome {
  std::vector<float> x;
  std::vector<uint16_t> y;
  bool operator==(const Outcome&) const = default;
};

using Messages = std::vector<std::vector<uint16_t>>;  // of each rank, [rows, cols]

// Whether the machine has so many devices, which then reach each other's memory.
inline bool HasDevices(int wanted) {
  int count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess || count < wanted) return false;
  for (int device = 0; device < wanted; ++device) {
    Check(cudaSetDevice(device));
    for (int peer = 0; peer < wanted; ++peer) {
      if (peer == device) continue;
      const cudaError_t error = cudaDeviceEnablePeerAccess(peer, 0);
      if (error == cudaErrorPeerAccessAlreadyEnabled) cudaGetLastError();
    }
  }
  return true;
}

struct Group {
  Group(DType type, int world, int64_t rows, int64_t cols) : type(type), rows(rows), cols(cols) {
    for (int rank = 0; rank < world; ++rank) {
      Check(cudaSetDevice(rank));
      ranks.push_back(std::make_unique<Rank>(rows, cols));
    }
  }
  Peers PeersOf(size_t rank, size_t call) const {
    Peers peers;
    peers.rank = static_cast<int>(rank);
    peers.world = static_cast<int>(ranks.size());
    for (size_t i = 0; i < ranks.size(); ++i) {
      peers.in[i] = (call % 2 == 0 ? ranks[i]->even : ranks[i]->odd).get();
      peers.shares[i] = ranks[i]->shares.get();
      peers.flags[i] = ranks[i]->flags.get();
    }
    return peers;
  }
  // Rank `i` writes its message and calls, in its stream.
  void Enqueue(size_t i, size_t call, const Messages& messages, bool one_shot) {
    Rank& rank = *ranks[i];
    Check(cudaSetDevice(static_cast<int>(i)));
    Check(cudaMemcpyAsync((call % 2 == 0 ? rank.even : rank.odd).get(), messages[i].data(),
                          messages[i].size() * 2, cudaMemcpyHostToDevice, rank.stream));
    Check(AllReduceAddRmsNorm(type, PeersOf(i, call), one_shot, rank.x.get(), rank.gain.get(), kEps,
                              rows, cols, rank.y.get(), rank.stream));
  }
  // A thread drives each rank.
  std::vector<Outcome> Run(const std::vector<Messages>& calls, bool (*one_shot)(size_t call)) {
    std::vector<std::thread> threads;
    for (size_t i = 0; i < ranks.size(); ++i) {
      threads.emplace_back([this, i, one_shot, &calls] {
        for (size_t call = 0; call < calls.size(); ++call) {
          Enqueue(i, call, calls[call], one_shot(call));
        }
        Check(cudaStreamSynchronize(ranks[i]->stream));
      });
    }
    for (std::thread& thread : threads) thread.join();
    return Outcomes();
  }
  std::vector<Outcome> Outcomes() {
    std::vector<Outcome> outcomes;
    for (size_t i = 0; i < ranks.size(); ++i) {
      Check(cudaSetDevice(static_cast<int>(i)));
      Check(cudaStreamSynchronize(ranks[i]->stream));
      outcomes.push_back({ranks[i]->x.Read(), ranks[i]->y.Read()});
    }
    return outcomes;
  }

  DType type;
  int64_t rows, cols;
  std::vector<std::unique_ptr<Rank>> ranks;
};

// Every other element cancels but for what the order of the sum leaves of it.
inline Messages Random(DType type, int world, int64_t n, uint64_t seed) {
  Messages messages;
  for (int rank = 0; rank < world; ++rank) {
    auto values = Normal(static_cast<size_t>(n), seed + static_cast<uint64_t>(rank));
    for (size_t i = 0; i < values.size(); i += 2) {
      values[i] = rank % 2 == 1 ? values[i] * 1e-2f : rank == 0 ? 24576.0f : -24576.0f;
    }
    messages.push_back(Narrow(type, values));
  }
  return messages;
}
// The residual behind the call, exactly: sums in the order of ranks, rounded once.
inline std::vector<float> Residual(DType type, const std::vector<float>& x,
                                   const Messages& messages) {
  std::vector<float> sum(x.size(), 0.0f);
  for (const auto& message : messages) {
    const auto wide = Widen(type, message);
    for (size_t i = 0; i < sum.size(); ++i) sum[i] += wide[i];
  }
  sum = Widen(type, Narrow(type, sum));
  for (size_t i = 0; i < sum.size(); ++i) sum[i] += x[i];
  return sum;
}

}  // namespace trireme::cuda
