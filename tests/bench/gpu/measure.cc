#include "tests/bench/gpu/measure.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <random>

#include "runtime/base/dtype.h"
#include "runtime/base/json_writer.h"

namespace trireme::bench {

void Check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  std::fprintf(stderr, "gpu_bench: %s: %s\n", what, cudaGetErrorString(error));
  std::exit(1);
}

Memory::Memory(size_t bytes) {
  Check(cudaMalloc(&data_, bytes), "allocating");
  Check(cudaMemset(data_, 0, bytes), "clearing");
}

void Memory::Fill(const void* from, size_t bytes) {
  Check(cudaMemcpy(data_, from, bytes, cudaMemcpyHostToDevice), "copying to the device");
}

std::vector<uint16_t> RandomBf16(size_t count, uint32_t seed) {
  std::minstd_rand random(seed);
  std::uniform_real_distribution<float> values(-1, 1);
  std::vector<uint16_t> numbers(count);
  for (uint16_t& number : numbers) number = FloatToBF16(values(random));
  return numbers;
}

double Milliseconds(int rounds, const std::function<void()>& call) {
  cudaEvent_t begin, end;
  Check(cudaEventCreate(&begin), "making an event");
  Check(cudaEventCreate(&end), "making an event");
  const auto time = [&](int calls) {
    Check(cudaEventRecord(begin, nullptr), "recording");
    for (int i = 0; i < calls; ++i) call();
    Check(cudaEventRecord(end, nullptr), "recording");
    Check(cudaEventSynchronize(end), "waiting");
    float milliseconds = 0;
    Check(cudaEventElapsedTime(&milliseconds, begin, end), "timing");
    return std::max(double{milliseconds}, 1e-6) / calls;  // the simulator has no time
  };
  const double first = rounds > 1 ? (time(1), time(1)) : 0;  // the very first loads the kernel
  const int calls = rounds > 1 ? static_cast<int>(std::clamp(10 / first, 1.0, 1000.0)) : 1;
  std::vector<double> times;
  for (int i = 0; i < rounds; ++i) times.push_back(time(calls));
  cudaEventDestroy(begin);
  cudaEventDestroy(end);
  std::nth_element(times.begin(), times.begin() + rounds / 2, times.end());
  return times[static_cast<size_t>(rounds / 2)];
}

double RooflineFraction(const Row& row, const Limits& limits) {
  const double least =
      std::max(row.flops / limits.flops_per_second, row.bytes / limits.bytes_per_second);
  return least / (row.milliseconds * 1e-3);
}

void PrintHeader() {
  std::printf("%-48s %10s %9s %9s %10s %9s\n", "", "ms", "TFLOP/s", "GB/s", "/cuBLASLt",
              "/roofline");
}

void Print(const Row& row, const Limits& limits) {
  char peer[16] = "-";
  if (row.peer_milliseconds) {
    std::snprintf(peer, sizeof(peer), "%.2f", *row.peer_milliseconds / row.milliseconds);
  }
  std::printf("%-48s %10.4f %9.1f %9.1f %10s %9.2f\n", row.what.c_str(), row.milliseconds,
              row.flops / row.milliseconds * 1e-9, row.bytes / row.milliseconds * 1e-6, peer,
              RooflineFraction(row, limits));
}

std::string ToJson(const std::vector<Row>& rows, const std::string& device, const Limits& limits) {
  std::string out;
  JsonWriter json(&out);
  json.BeginObject().Key("device").String(device);
  json.Key("bytes_per_second").Float(static_cast<float>(limits.bytes_per_second));
  json.Key("flops_per_second").Float(static_cast<float>(limits.flops_per_second));
  json.Key("rows").BeginArray();
  for (const Row& row : rows) {
    json.BeginObject().Key("name").String(row.what);
    json.Key("value").Float(static_cast<float>(row.milliseconds));
    json.Key("unit").String("ms");
    if (row.peer_milliseconds) {
      json.Key("peer")
          .String("cuBLASLt")
          .Key("peer_value")
          .Float(static_cast<float>(*row.peer_milliseconds));
      json.Key("ratio").Float(static_cast<float>(*row.peer_milliseconds / row.milliseconds));
    }
    json.Key("roofline_fraction").Float(static_cast<float>(RooflineFraction(row, limits)));
    json.EndObject();
  }
  json.EndArray().EndObject();
  return out;
}

}  // namespace trireme::bench
