// D = epilogue(alpha op(A) op(B) + beta C): what of it the real library takes, and the arithmetic.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "tests/gpusim/cublaslt/descriptors.h"
#include "tests/gpusim/cudart/architecture.h"
#include "tests/gpusim/vm/device_memory.h"

namespace trireme::gpusim {

// A whole problem, copied from the descriptors: they may be gone when it runs.
struct Problem {
  Matmul matmul;
  Layout a, b, c, d;
  const void *pointer_a = nullptr, *pointer_b = nullptr, *pointer_c = nullptr;
  void* pointer_d = nullptr;
  const void *alpha = nullptr, *beta = nullptr;  // device pointers, else the values below
  float alpha_value = 1, beta_value = 0;
  Algorithm algorithm;
  void* workspace = nullptr;

  uint64_t m() const { return d.rows; }
  uint64_t n() const { return d.cols; }
  uint64_t k() const { return matmul.transpose_a == CUBLAS_OP_N ? a.cols : a.rows; }
  int32_t bias_type() const;
};

size_t BytesOfType(int32_t type);        // 0: not simulated
uint64_t BytesOf(const Layout& layout);  // from the first to the last element
// SUCCESS: the library has an algorithm for it on this architecture. The pointers do not matter.
// (cuBLAS documentation, "cublasLtMatmul()": the tables of supported types and what they need.)
cublasStatus_t CheckProblem(const Problem& problem, const Architecture& architecture);

// False: memory has been freed since the call. What is read and was never written becomes a
// finding.
bool Compute(const Problem& problem, DeviceMemory& memory);

}  // namespace trireme::gpusim
