// The seam between dispatch.cc and the kernel families: one translation unit per family and
// instruction set, compiled with that set's options, fills its part of the table. Only dispatch.cc
// and tests call these.
#pragma once

namespace trireme::cpu {

struct Kernels;

void FillGemmPortable(Kernels* table);
void FillGemmAvx2(Kernels* table);
void FillGemmAvx512(Kernels* table);

void FillRowsPortable(Kernels* table);
void FillRowsAvx2(Kernels* table);
void FillRowsAvx512(Kernels* table);

void FillAttentionPortable(Kernels* table);
void FillAttentionAvx2(Kernels* table);
void FillAttentionAvx512(Kernels* table);

}  // namespace trireme::cpu
