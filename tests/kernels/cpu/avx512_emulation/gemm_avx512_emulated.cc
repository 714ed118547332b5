#define FillGemmAvx512 FillGemmAvx512Emulated
#include "kernels/cpu/gemm_avx512.cc"
