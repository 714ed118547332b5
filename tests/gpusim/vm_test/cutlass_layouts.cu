// Prints CUTLASS's idea of mma.sync's, Hopper's and Blackwell's layouts, for cutlass_layouts.txt: see cutlass_layouts.py. Host
// code only; not part of any build of ours.
#include <cstdio>

#include <cute/tensor.hpp>

#include <cute/atom/mma_traits_sm80.hpp>
#include <cute/atom/copy_traits_sm75.hpp>
#include <cute/atom/copy_traits_sm90.hpp>
#include <cute/atom/copy_traits_sm100.hpp>
#include <cute/atom/mma_traits_sm100.hpp>
#include <cute/atom/mma_traits_sm90_gmma.hpp>

using namespace cute;
using Major = SM90::GMMA::Major;

// fragment NAME: the element that value v of thread t holds, as row + 64 column, by t and v.
template <class L>
void Fragment(const char* name, L layout) {
  std::printf("fragment %s", name);
  for (int t = 0; t < int(size<0>(layout)); ++t) {
    for (int v = 0; v < int(size<1>(layout)); ++v) std::printf(" %d", int(layout(t, v)));
  }
  std::printf("\n");
}

// operand ELEMENT_BYTES MN_MAJOR ROWS DESCRIPTOR: the byte address of each 16-byte chunk in shared memory that starts at 0:
// K-major by row and chunk along k, MN-major by k and chunk along the rows.
template <class T, Major major, class Atom, class Rows>
void Operand(Atom atom, Rows rows) {
  constexpr int k = 32 / int(sizeof(T)), chunk = 16 / int(sizeof(T));
  const auto all = make_tensor(make_smem_ptr(reinterpret_cast<T*>(0)),
                               tile_to_shape(atom, make_shape(rows, Int<4 * k>{})));
  const auto slice = local_tile(all, make_tile(rows, Int<k>{}), make_coord(_0{}, _0{}));
  const auto descriptor = SM90::GMMA::make_gmma_desc<major>(slice);
  constexpr bool mn = major == Major::MN;
  std::printf("operand %d %d %d %llu", int(sizeof(T)), mn, int(rows),
              static_cast<unsigned long long>(descriptor.desc_));
  for (int outer = 0; outer < (mn ? k : int(rows)); ++outer) {
    for (int inner = 0; inner < (mn ? int(rows) : k); inner += chunk) {
      T* const at = mn ? &slice(inner, outer) : &slice(outer, inner);
      std::printf(" %llu", static_cast<unsigned long long>(reinterpret_cast<uintptr_t>(at)));
    }
  }
  std::printf("\n");
}

template <class T>
void KMajor() {
  namespace G = SM90::GMMA;
  Operand<T, Major::K>(G::Layout_K_INTER_Atom<T>{}, Int<64>{});
  Operand<T, Major::K>(G::Layout_K_SW32_Atom<T>{}, Int<64>{});
  Operand<T, Major::K>(G::Layout_K_SW64_Atom<T>{}, Int<64>{});
  Operand<T, Major::K>(G::Layout_K_SW128_Atom<T>{}, Int<64>{});
  Operand<T, Major::K>(G::Layout_K_SW128_Atom<T>{}, Int<128>{});
}

// Of mma.sync: A, B (columns first) and the sums.
template <class Operation>
void Mma(const char* name) {
  using Traits = MMA_Traits<Operation>;
  char text[64];
  const auto part = [&](const char* of, auto layout) {
    std::snprintf(text, sizeof(text), "%s%s", name, of);
    Fragment(text, layout);
  };
  part("a", typename Traits::ALayout{});
  part("b", typename Traits::BLayout{});
  part("c", typename Traits::CLayout{});
}

// rows NAME: of ldmatrix and stmatrix, the element of shared memory, as 8 row + column, that each thread's 16-bit values come from
// or go to, by thread and value. Row r is at the address of thread r.
template <class Operation, bool stores>
void Rows(const char* name) {
  using Traits = Copy_Traits<Operation>;
  const auto registers = [] {
    if constexpr (stores) return typename Traits::SrcLayout{};
    else return typename Traits::DstLayout{};
  }();
  const auto memory = [] {
    if constexpr (stores) return typename Traits::DstLayout{};
    else return typename Traits::SrcLayout{};
  }();
  std::printf("rows %s", name);
  for (int t = 0; t < 32; ++t) {
    for (int v = 0; v < int(size<1>(registers)); v += 16) {
      for (int r = 0; r < int(size<0>(memory)); ++r) {
        for (int column = 0; column < 8; ++column) {
          if (int(memory(r, 16 * column)) == int(registers(t, v))) std::printf(" %d", 8 * r + column);
        }
      }
    }
  }
  std::printf("\n");
}

// tensor NAME REGISTERS: what tcgen05.ld puts into register v of thread t, as lane + 32 column, by t and v.
template <class Load>
void TensorLoad(const char* name) {
  using Traits = Copy_Traits<Load>;
  typename Traits::DstLayout layout;
  const int row_bits = int(size<0>(typename Traits::ValID{})), registers = int(size<1>(layout)) / 32;
  std::printf("tensor %s %d", name, registers);
  for (int t = 0; t < 32; ++t) {
    for (int v = 0; v < registers; ++v) {
      const int bit = int(layout(t, 32 * v));
      std::printf(" %d", bit / row_bits + 32 * (bit % row_bits / 32));
    }
  }
  std::printf("\n");
}

// sums M LANES...: the lane of each row of tcgen05.mma's sums.
template <int m>
void Sums() {
  const auto sums = UMMA::tmem_frg_1sm<float>::make(make_shape(make_shape(Int<m>{}, Int<16>{}), _1{}, _1{}));
  std::printf("sums %d", m);
  for (int row = 0; row < m; ++row) {
    std::printf(" %d", int(sums.layout()(make_coord(make_coord(row, 0), 0, 0)) / int(TMEM::DP<float>{})));
  }
  std::printf("\n");
}

// instruction NAME BITS: instruction descriptors.
void Instructions() {
  const auto print = [](const char* name, uint32_t bits) { std::printf("instruction %s %u\n", name, bits); };
  print("bf16_128x128", UMMA::make_instr_desc<bfloat16_t, bfloat16_t, float, 128, 128, UMMA::Major::K, UMMA::Major::K>().desc_);
  print("f16_64x24_mn", UMMA::make_instr_desc<half_t, half_t, float, 64, 24, UMMA::Major::MN, UMMA::Major::MN>().desc_);
  print("e4m3_e5m2_128x256", UMMA::make_instr_desc<float_e4m3_t, float_e5m2_t, float, 128, 256, UMMA::Major::K, UMMA::Major::K>().desc_);
  print("nvf4_128x128", UMMA::make_instr_desc_block_scaled<float_e2m1_t, float_e2m1_t, float, float_ue4m3_t, 128, 128, UMMA::Major::K, UMMA::Major::K>().desc_);
  print("mxf4_128x64", UMMA::make_instr_desc_block_scaled<float_e2m1_t, float_e2m1_t, float, float_ue8m0_t, 128, 64, UMMA::Major::K, UMMA::Major::K>().desc_);
}

// umma ELEMENT_BYTES MN_MAJOR ROWS DESCRIPTOR: as `operand`, with tcgen05's descriptors; addresses as there.
template <class T, UMMA::Major major, class Atom, class Rows>
void TensorOperand(Atom atom, Rows rows) {
  constexpr int k = 32 / int(sizeof(T)), chunk = 16 / int(sizeof(T));
  const auto all = make_tensor(make_smem_ptr(reinterpret_cast<T*>(0)),
                               tile_to_shape(atom, make_shape(rows, Int<4 * k>{})));
  const auto slice = local_tile(all, make_tile(rows, Int<k>{}), make_coord(_0{}, _0{}));
  const auto descriptor = UMMA::make_umma_desc<major>(slice);
  constexpr bool mn = major == UMMA::Major::MN;
  std::printf("umma %d %d %d %llu", int(sizeof(T)), mn, int(rows), static_cast<unsigned long long>(uint64_t(descriptor)));
  for (int outer = 0; outer < (mn ? k : int(rows)); ++outer) {
    for (int inner = 0; inner < (mn ? int(rows) : k); inner += chunk) {
      T* const at = mn ? &slice(inner, outer) : &slice(outer, inner);
      std::printf(" %llu", static_cast<unsigned long long>(reinterpret_cast<uintptr_t>(at)));
    }
  }
  std::printf("\n");
}

void Blackwell() {
  using namespace SM100::TMEM::LOAD;
  TensorLoad<SM100_TMEM_LOAD_32dp32b4x>("32x32b");
  TensorLoad<SM100_TMEM_LOAD_16dp64b4x>("16x64b");
  TensorLoad<SM100_TMEM_LOAD_16dp128b4x>("16x128b");
  TensorLoad<SM100_TMEM_LOAD_16dp256b4x>("16x256b");
  Sums<64>();
  Sums<128>();
  Instructions();
  namespace U = UMMA;
  TensorOperand<bfloat16_t, U::Major::K>(U::Layout_K_SW128_Atom<bfloat16_t>{}, Int<128>{});
  TensorOperand<bfloat16_t, U::Major::K>(U::Layout_K_SW64_Atom<bfloat16_t>{}, Int<64>{});
  TensorOperand<bfloat16_t, U::Major::K>(U::Layout_K_SW32_Atom<bfloat16_t>{}, Int<64>{});
  TensorOperand<bfloat16_t, U::Major::K>(U::Layout_K_INTER_Atom<bfloat16_t>{}, Int<64>{});
  TensorOperand<int8_t, U::Major::K>(U::Layout_K_SW128_Atom<int8_t>{}, Int<128>{});
  TensorOperand<bfloat16_t, U::Major::MN>(U::Layout_MN_SW128_Atom<bfloat16_t>{}, Int<128>{});
  TensorOperand<bfloat16_t, U::Major::MN>(U::Layout_MN_INTER_Atom<bfloat16_t>{}, Int<64>{});
  TensorOperand<int8_t, U::Major::MN>(U::Layout_MN_SW128_Atom<int8_t>{}, Int<128>{});
}

int main() {
  Blackwell();
  namespace G = SM90::GMMA;
  Fragment("sum64x128", G::CLayout_64xN<128>{});
  Fragment("a64x8", G::ALayout_64x8{});
  Fragment("a64x16", G::ALayout_64x16{});
  Fragment("a64x32", G::ALayout_64x32{});
  Mma<SM80_16x8x16_F32BF16BF16F32_TN>("mma16x2");
  Mma<SM80_16x8x8_F32BF16BF16F32_TN>("mma8x2");
  Mma<SM80_16x8x8_F32TF32TF32F32_TN>("mma8x4");
  Mma<SM80_16x8x4_F32TF32TF32F32_TN>("mma4x4");
  Mma<SM80_16x8x32_S32S8S8S32_TN>("mma32x1");
  Mma<SM80_16x8x16_S32S8S8S32_TN>("mma16x1");
  Rows<SM75_U32x4_LDSM_N, false>("ldmatrix");
  Rows<SM75_U16x8_LDSM_T, false>("ldmatrix.trans");
  Rows<SM90_U32x4_STSM_N, true>("stmatrix");
  Rows<SM90_U16x8_STSM_T, true>("stmatrix.trans");
  KMajor<cute::bfloat16_t>();
  KMajor<cute::tfloat32_t>();
  KMajor<int8_t>();
  using T = cute::bfloat16_t;
  Operand<T, Major::MN>(G::Layout_MN_INTER_Atom<T>{}, Int<64>{});
  Operand<T, Major::MN>(G::Layout_MN_SW32_Atom<T>{}, Int<64>{});
  Operand<T, Major::MN>(G::Layout_MN_SW64_Atom<T>{}, Int<128>{});
  Operand<T, Major::MN>(G::Layout_MN_SW128_Atom<T>{}, Int<128>{});
}
