// Runs PTX texts in tests.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tests/gpusim/ptx/parser.h"
#include "tests/gpusim/vm/grid.h"
#include "tests/gpusim/vm/tensor_map.h"

namespace trireme::gpusim {

// A device and what a kernel gets.
class Bench {
 public:
  template <typename T>
  uint64_t Upload(const std::vector<T>& values) {
    const uint64_t address = Reserve(values.size() * sizeof(T));
    std::memcpy(memory_.Find(address, values.size() * sizeof(T)), values.data(),
                values.size() * sizeof(T));
    memory_.SetDefined(address, values.size() * sizeof(T));
    return address;
  }
  uint64_t Reserve(uint64_t bytes) { return *memory_.Allocate(bytes); }
  template <typename T>
  std::vector<T> Download(uint64_t address, size_t n) {
    std::vector<T> values(n);
    std::memcpy(values.data(), memory_.Find(address, n * sizeof(T)), n * sizeof(T));
    return values;
  }

  // Runs the kernel of that name, or a module's only one; `params` as they lie in memory. What is
  // found is in `findings`.
  absl::Status Run(std::string_view ptx, const LaunchConfig& config, std::vector<char> params,
                   std::string_view kernel = "") {
    absl::StatusOr<ptx::Module> parsed = ptx::Parse(ptx);
    if (!parsed.ok()) return parsed.status();
    const auto module = std::make_shared<ptx::Module>(*std::move(parsed));
    const auto named =
        std::find_if(module->functions.begin(), module->functions.end(),
                     [&](const ptx::Function& f) { return kernel.empty() || f.name == kernel; });
    if (named == module->functions.end()) return absl::NotFoundError("no such kernel");
    const auto program = Decode(module, *named, {});
    if (!program.ok()) return program.status();
    params.resize(std::max<size_t>(params.size(), (*program)->param_bytes));
    Grid grid(program->get(), config, std::move(params), &memory_, &report_);
    const absl::Status status = grid.Run();
    counters = grid.counters();
    findings = report_.Take();
    return status;
  }
  bool Found(FindingKind kind) const {
    return std::any_of(findings.begin(), findings.end(), [&](auto& f) { return f.kind == kind; });
  }
  std::string AllFindings() const {
    std::string all;
    for (const Finding& finding : findings) all += finding.ToString() + "\n";
    return all;
  }

  std::vector<Finding> findings;
  Counters counters;

 private:
  DeviceMemory memory_{uint64_t{1} << 28};
  Report report_;
};

// rows x columns elements, rows of `stride` bytes one behind the other, under the 128-byte swizzle
// or (`swizzle` 0) none.
inline TensorMap MapOfMatrix(TensorType type, uint64_t address, int rows, int columns,
                             uint64_t stride, uint32_t box_columns, uint32_t box_rows,
                             int swizzle = 3) {
  const uint64_t size[] = {static_cast<uint64_t>(columns), static_cast<uint64_t>(rows)};
  const uint32_t box[] = {box_columns, box_rows}, step[] = {1, 1};
  TiledTensor tensor;
  tensor.data_type = static_cast<int>(type);
  tensor.rank = 2;
  tensor.swizzle = swizzle;
  tensor.global_address = address;
  tensor.global_dim = size;
  tensor.global_strides = &stride;
  tensor.box_dim = box;
  tensor.element_strides = step;
  return EncodeTiled(tensor).value();
}

template <typename T>
void Put(std::vector<char>* params, size_t at, const T& value) {
  if (params->size() < at + sizeof(T)) params->resize(at + sizeof(T));
  std::memcpy(params->data() + at, &value, sizeof(T));
}

}  // namespace trireme::gpusim
