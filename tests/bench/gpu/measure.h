// Timing on a device, and the table that the benchmark prints.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace trireme::bench {

// Ends the program: a benchmark of calls that fail says nothing.
void Check(cudaError_t error, const char* what);

// Device memory, given back at the end.
class Memory {
 public:
  explicit Memory(size_t bytes);
  ~Memory() { cudaFree(data_); }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  void* get() const { return data_; }
  template <typename T>
  T* as() const {
    return static_cast<T*>(data_);
  }
  void Fill(const void* from, size_t bytes);

 private:
  void* data_ = nullptr;
};

// `count` bf16 numbers between -1 and 1, the same for a seed.
std::vector<uint16_t> RandomBf16(size_t count, uint32_t seed);

// Median milliseconds of a call, over `rounds` of about 10 ms each. The calls are enqueued on the
// default stream.
double Milliseconds(int rounds, const std::function<void()>& call);

struct Row {
  std::string what;  // "matmul bf16 4096x4096, 16 tokens"
  double milliseconds = 0;
  double flops = 0, bytes = 0;                // of a call; what has to be computed and moved
  std::optional<double> peer_milliseconds{};  // cuBLASLt's
};

// What the device was measured to do: copies of memory, cuBLASLt's largest product.
struct Limits {
  double bytes_per_second = 0, flops_per_second = 0;
};

// The lower of the times that Limits allow, over the row's.
double RooflineFraction(const Row& row, const Limits& limits);
void PrintHeader();
void Print(const Row& row, const Limits& limits);
// {"rows": [{name, value, unit, peer_value, ratio, roofline_fraction}, ...]}
std::string ToJson(const std::vector<Row>& rows, const std::string& device, const Limits& limits);

}  // namespace trireme::bench
