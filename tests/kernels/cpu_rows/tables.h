// The tables under test: every instruction set that this CPU runs, and AVX-512 in emulation.
#pragma once

#include <random>
#include <string>
#include <vector>

#include "kernels/cpu/cpu_kernels.h"

namespace trireme::cpu {

// Rows and attention only.
const std::vector<const Kernels*>& TablesUnderTest();

inline std::string TableName(const Kernels* table) { return std::string(table->name); }

// Standard normal values.
inline std::vector<float> Normal(int64_t n, uint64_t seed, float scale = 1.0f) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal(0.0f, scale);
  std::vector<float> values(n);
  for (float& value : values) value = normal(random);
  return values;
}

}  // namespace trireme::cpu
