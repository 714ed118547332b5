// Prints CUTLASS's idea of mma.sync's and Hopper's layouts, for cutlass_layouts.txt: see cutlass_layouts.py. Host code only; not part of
// any build of ours.
#include <cstdio>

#include <cute/tensor.hpp>

#include <cute/atom/mma_traits_sm80.hpp>
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

int main() {
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
  KMajor<cute::bfloat16_t>();
  KMajor<cute::tfloat32_t>();
  KMajor<int8_t>();
  using T = cute::bfloat16_t;
  Operand<T, Major::MN>(G::Layout_MN_INTER_Atom<T>{}, Int<64>{});
  Operand<T, Major::MN>(G::Layout_MN_SW32_Atom<T>{}, Int<64>{});
  Operand<T, Major::MN>(G::Layout_MN_SW64_Atom<T>{}, Int<128>{});
  Operand<T, Major::MN>(G::Layout_MN_SW128_Atom<T>{}, Int<128>{});
}
