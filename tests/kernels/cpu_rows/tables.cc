#include "tests/kernels/cpu_rows/tables.h"

#include "kernels/cpu/isa.h"

namespace trireme::cpu {

void FillRowsAvx512Emulated(Kernels* table);
void FillAttentionAvx512Emulated(Kernels* table);

namespace {

const Kernels* Make(std::string_view name, void (*rows)(Kernels*), void (*attention)(Kernels*)) {
  auto* table = new Kernels;
  table->name = name;
  rows(table);
  attention(table);
  return table;
}

std::vector<const Kernels*> MakeAll() {
  std::vector<const Kernels*> tables = {Make("portable", FillRowsPortable, FillAttentionPortable)};
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
      __builtin_cpu_supports("f16c")) {
    tables.push_back(Make("avx2", FillRowsAvx2, FillAttentionAvx2));
    tables.push_back(Make("avx512_emulated", FillRowsAvx512Emulated, FillAttentionAvx512Emulated));
  }
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq")) {
    tables.push_back(Make("avx512", FillRowsAvx512, FillAttentionAvx512));
  }
  return tables;
}

}  // namespace

const std::vector<const Kernels*>& TablesUnderTest() {
  static const auto* tables = new std::vector<const Kernels*>(MakeAll());
  return *tables;
}

}  // namespace trireme::cpu
