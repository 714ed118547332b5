// cutlass_layouts.txt: what CUTLASS says of layouts (cutlass_layouts.py writes it).
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace trireme::gpusim {

struct CutlassOperand {
  int element_bytes = 0, mn_major = 0, rows = 0;
  uint64_t descriptor = 0;
  std::vector<uint32_t> chunks;  // addresses: by row and k, or by k and row
};
struct CutlassLayouts {
  std::map<std::string, std::vector<int>> fragments;  // of wgmma: row + 64 column, by thread
  std::vector<CutlassOperand> operands;               // of wgmma
  std::vector<CutlassOperand> tensor_operands;        // of tcgen05
  struct TensorLoad {
    int registers = 0;
    std::vector<int> cells;  // lane + 32 column, by thread
  };
  std::map<std::string, TensorLoad> tensor_loads;
  std::map<int, std::vector<int>> sums;          // the lanes of the rows, by M
  std::map<std::string, uint32_t> instructions;  // instruction descriptors
};
const CutlassLayouts& Cutlass();

}  // namespace trireme::gpusim
