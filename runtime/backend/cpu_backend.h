// The CPU as a Backend: kernels/cpu on a pool of threads. Every operation runs at once; Synchronize
// has nothing to do.
//
// Memory: each matrix is packed once into the layout that the kernels read
// (kernels/cpu/gemm_layout.h), in parallel. An embedding table is packed too and its rows are
// unpacked on the way out, exactly; so the file's pages are not needed afterwards, and a table tied
// to the output projection exists once: the Weight that PrepareEmbedding returns also serves
// MatMul.
//
// Activations are F32 between operations; for quantised weights MatMul quantises its input once, to
// int8 blocks.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "runtime/backend/backend.h"
#include "runtime/backend/packed_weights.h"

namespace trireme {

struct CpuBackendOptions {
  int num_threads = 0;  // compute threads with the calling one; 0: AvailableCpus
  std::string isa;  // "portable", "avx2", "avx512"; empty: the fastest (kernels/cpu, BestKernels)
  bool huge_pages = true;  // advise them for weights
  bool pin_threads = false;
  std::shared_ptr<PackedWeights> packed;  // where to look for matrices first; may be null
};

// INVALID_ARGUMENT when this CPU lacks the instruction set or num_threads is out of range.
absl::StatusOr<std::unique_ptr<Backend>> MakeCpuBackend(const CpuBackendOptions& options);

}  // namespace trireme
