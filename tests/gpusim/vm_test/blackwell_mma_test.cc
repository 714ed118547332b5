// Every form of tcgen05.mma that is known, alone: operands are put where CUTLASS's layouts say,
// sums are small integers and must be exact.
#include <bit>
#include <random>

#include "runtime/base/strings.h"
#include "tests/gpusim/vm/fp8.h"
#include "tests/gpusim/vm/numbers.h"
#include "tests/gpusim/vm_test/cutlass_layouts.h"
#include "tests/gpusim/vm_test/hopper_harness.h"

namespace trireme::gpusim {
namespace {

struct Kind {
  const char* name;
  const char* opcode;  // behind cta_group
  int bits;            // of an element
  uint32_t formats;    // of the instruction descriptor: elements, sums, scales
  uint32_t (*encode)(int value);
  int scales = 0;  // of a row
  bool integer_sums = false;
};
uint32_t Bf16(int v) { return ToBf16(static_cast<float>(v)); }
uint32_t F16(int v) { return ToF16(static_cast<float>(v)); }
uint32_t Tf32(int v) { return std::bit_cast<uint32_t>(static_cast<float>(v)); }
uint32_t Integer(int v) { return static_cast<uint8_t>(v); }
// The one whose value it is.
template <auto value_of, int count>
uint32_t Search(int v) {
  for (int bits = 0; bits < count; ++bits) {
    if (value_of(static_cast<uint8_t>(bits)) == static_cast<float>(v)) {
      return static_cast<uint32_t>(bits);
    }
  }
  return 0;
}
constexpr auto kE4m3 = &Search<&FromE4m3, 256>;
constexpr auto kE5m2 = &Search<&FromE5m2, 256>;
constexpr auto kE2m1 = &Search<[](uint8_t b) { return FromE2m1(b); }, 16>;

const Kind kBf16{"bf16", "kind::f16", 16, 1u << 4 | 1u << 7 | 1u << 10, &Bf16};
const Kind kF16{"f16", "kind::f16", 16, 1u << 4, &F16};
const Kind kTf32{"tf32", "kind::tf32", 32, 1u << 4 | 2u << 7 | 2u << 10, &Tf32};
const Kind kFp8{"e4m3", "kind::f8f6f4", 8, 1u << 4, kE4m3};
const Kind kFp8Wide{"e5m2", "kind::f8f6f4", 8, 1u << 4 | 1u << 7 | 1u << 10, kE5m2};
const Kind kS8{"s8", "kind::i8", 8, 2u << 4 | 1u << 7 | 1u << 10, &Integer, 0, true};
const Kind kMxf8{"mxf8", "kind::mxf8f6f4.block_scale", 8, 1u << 23, kE4m3, 1};
const Kind kMxf4{
    "mxf4", "kind::mxf4.block_scale.scale_vec::2X", 4, 1u << 23 | 1u << 7 | 1u << 10, kE2m1, 2};
const Kind kNvf4{"nvf4", "kind::mxf4nvf4.block_scale.block16", 4, 1u << 7 | 1u << 10, kE2m1, 4};

struct Case {
  std::string name;
  const Kind* kind;
  size_t a = 0, b = 0;  // CUTLASS's operands
  bool a_in_tensor_memory = false, pair = false, masked = false, negate_a = false;
  friend void PrintTo(const Case& c, std::ostream* os) { *os << c.name; }
};

constexpr uint32_t kBytesA = 16384, kImage = 32768;
constexpr int kColumnsOfA = 256, kScalesA = 264, kScalesB = 268;

const CutlassOperand& Operand(size_t i) { return Cutlass().tensor_operands[i]; }

// 128 threads a CTA: image to shared memory; A's words and scales to tensor memory; one
// multiplication onto sums of 1; sums to memory.
std::string KernelFor(const Case& c, uint32_t instruction, int n) {
  const std::string group = c.pair ? "cta_group::2" : "cta_group::1";
  std::string text = StrCat(
      ".version 9.0\n.target sm_100a\n.address_size 64\n"
      ".visible .entry k(.param .u64 out, .param .u64 image, .param .u64 tensor)\n{\n"
      ".reg .pred %p<4>;\n.reg .b32 %r<40>;\n.reg .b32 %d<256>;\n.reg .b64 %rd<20>;\n"
      ".shared .align 1024 .b8 smem[",
      kImage, "];\n.shared .align 8 .b64 done;\n.shared .align 4 .b32 columns;\n", R"(
ld.param.u64 %rd1, [out];
ld.param.u64 %rd2, [image];
ld.param.u64 %rd3, [tensor];
mov.u32 %r1, %tid.x;
mov.u32 %r20, %ctaid.x;
mul.wide.u32 %rd4, %r20, )",
      kImage, R"(;
add.s64 %rd2, %rd2, %rd4;
shl.b32 %r2, %r1, 2;
cvt.u64.u32 %rd4, %r2;
add.s64 %rd2, %rd2, %rd4;
mov.u32 %r3, 0;
COPY:
ld.global.u32 %r4, [%rd2];
st.shared.u32 [%r2], %r4;
add.s64 %rd2, %rd2, 512;
add.s32 %r2, %r2, 512;
add.s32 %r3, %r3, 1;
setp.lt.u32 %p1, %r3, )",
      kImage / 512, R"(;
@%p1 bra COPY;
fence.proxy.async;
shr.u32 %r5, %r1, 5;
setp.ne.u32 %p1, %r5, 0;
@%p1 bra ALLOCATED;
mov.u32 %r6, columns;
tcgen05.alloc.)",
      group, R"(.sync.aligned.shared::cta.b32 [%r6], 512;
ALLOCATED:
mov.u32 %r7, done;
setp.ne.u32 %p2, %r1, 0;
@!%p2 mbarrier.init.shared::cta.b64 [%r7], 1;
@!%p2 fence.mbarrier_init.release.cluster;
bar.sync 0;
ld.shared.u32 %r8, [columns];
shl.b32 %r9, %r5, 21;
add.u32 %r9, %r8, %r9;
mul.wide.u32 %rd5, %r1, 64;
mul.wide.u32 %rd6, %r20, 8192;
add.s64 %rd3, %rd3, %rd5;
add.s64 %rd3, %rd3, %rd6;
)");
  for (int i = 0; i < 16; ++i) text += StrCat("ld.global.u32 %d", i, ", [%rd3+", 4 * i, "];\n");
  text += StrCat("tcgen05.st.sync.aligned.32x32b.x16.b32 [%r9+", kColumnsOfA, "], {%d0");
  for (int i = 1; i < 16; ++i) text += StrCat(", %d", i);
  text += "};\n";
  for (int i = 0; i < n; ++i) {
    text += StrCat("mov.b32 %d", i, ", ", c.kind->integer_sums ? 1u : std::bit_cast<uint32_t>(1.0f),
                   ";\n");
  }
  for (int i = 0; i < n; i += 8) {
    text += StrCat("tcgen05.st.sync.aligned.32x32b.x8.b32 [%r9+", i, "], {%d", i);
    for (int j = 1; j < 8; ++j) text += StrCat(", %d", i + j);
    text += "};\n";
  }
  text += StrCat(
      "tcgen05.wait::st.sync.aligned;\ntcgen05.fence::before_thread_sync;\n"
      "barrier.cluster.arrive.aligned;\nbarrier.cluster.wait.aligned;\n"
      "tcgen05.fence::after_thread_sync;\n"
      "setp.ne.u32 %p3, %r20, 0;\nor.pred %p2, %p2, %p3;\n@%p2 bra WAIT;\n"
      "mov.b64 %rd7, ",
      Operand(c.a).descriptor, ";\nmov.b64 %rd8, ", Operand(c.b).descriptor + (kBytesA >> 4),
      ";\nadd.u32 %r10, %r8, ", kColumnsOfA, ";\nadd.u32 %r11, %r8, ", kScalesA,
      ";\nadd.u32 %r12, %r8, ", kScalesB, ";\nmov.b32 %r13, ", instruction,
      ";\nmov.b32 %r14, 0;\nmov.b32 %r15, 4;\nsetp.eq.u32 %p1, 1, 1;\n", "tcgen05.mma.", group, ".",
      c.kind->opcode, " [%r8], ", c.a_in_tensor_memory ? "[%r10]" : "%rd7", ", %rd8, %r13",
      c.kind->scales > 0 ? ", [%r11], [%r12]" : "", c.masked ? ", {%r14, %r15, %r14, %r14}" : "",
      ", %p1;\n");
  text += StrCat("tcgen05.commit.", group, ".mbarrier::arrive::one.shared::cluster");
  text += c.pair ? ".multicast::cluster.b64 [%r7], 3;\n" : ".b64 [%r7];\n";
  text += R"(WAIT:
mbarrier.try_wait.parity.shared::cta.b64 %p1, [%r7], 0;
@!%p1 bra WAIT;
tcgen05.fence::after_thread_sync;
bar.warp.sync -1;
)";
  for (int i = 0; i < n; i += 8) {
    text += StrCat("tcgen05.ld.sync.aligned.32x32b.x8.b32 {%d", i);
    for (int j = 1; j < 8; ++j) text += StrCat(", %d", i + j);
    text += StrCat("}, [%r9+", i, "];\n");
  }
  text += StrCat(
      "tcgen05.wait::ld.sync.aligned;\nmad.lo.u32 %r16, %r20, 128, %r1;\n"
      "mul.wide.u32 %rd9, %r16, ",
      4 * n, ";\nadd.s64 %rd1, %rd1, %rd9;\n");
  for (int i = 0; i < n; ++i) text += StrCat("st.global.u32 [%rd1+", 4 * i, "], %d", i, ";\n");
  return text + StrCat(
                    "tcgen05.fence::before_thread_sync;\nbarrier.cluster.arrive.aligned;\n"
                    "barrier.cluster.wait.aligned;\ntcgen05.fence::after_thread_sync;\n"
                    "setp.ne.u32 %p1, %r5, 0;\n@%p1 bra END;\ntcgen05.dealloc.",
                    group, ".sync.aligned.b32 %r8, 512;\nEND:\nret;\n}\n");
}

// values [rows][k] to where the operand's chunks lie in `image`.
void Place(const Kind& kind, const CutlassOperand& operand, const std::vector<int>& values,
           std::byte* image) {
  const int k = 256 / kind.bits, per_chunk = 128 / kind.bits;
  const bool mn = operand.mn_major != 0;
  size_t chunk = 0;
  for (int outer = 0; outer < (mn ? k : operand.rows); ++outer) {
    for (int inner = 0; inner < (mn ? operand.rows : k); inner += per_chunk) {
      uint8_t bytes[16] = {};
      for (int i = 0; i < per_chunk; ++i) {
        const int row = mn ? inner + i : outer, at = mn ? outer : inner + i;
        const uint32_t bits = kind.encode(values[static_cast<size_t>(row * k + at)]);
        if (kind.bits == 4) {
          bytes[i / 2] = static_cast<uint8_t>(bytes[i / 2] | bits << 4 * (i % 2));
        } else {
          std::memcpy(bytes + i * kind.bits / 8, &bits, static_cast<size_t>(kind.bits / 8));
        }
      }
      std::memcpy(image + operand.chunks[chunk++], bytes, 16);
    }
  }
}

class TensorMmaForm : public testing::TestWithParam<Case> {};

TEST_P(TensorMmaForm, IsExact) {
  const Case& c = GetParam();
  const Kind& kind = *c.kind;
  const CutlassOperand &layout_a = Operand(c.a), &layout_b = Operand(c.b);
  const int ctas = c.pair ? 2 : 1, rows = layout_a.rows, columns = layout_b.rows,
            n = ctas * columns;
  const int k = 256 / kind.bits;
  std::mt19937 random(3);
  const auto small = [&](int count) {
    std::vector<int> values(static_cast<size_t>(count));
    for (int& v : values) v = static_cast<int>(random() % 7) - 3;
    return values;
  };
  const std::vector<int> a = small(ctas * rows * k), b = small(n * k);
  std::vector<std::byte> image(static_cast<size_t>(ctas) * kImage);
  // Of tensor memory, per CTA and lane: 8 words of A, 4 of A's scales, 4 of B's.
  std::vector<uint32_t> tensor(static_cast<size_t>(ctas) * 128 * 16);
  for (int cta = 0; cta < ctas; ++cta) {
    const auto part = [&](const std::vector<int>& of, int size) {
      return std::vector<int>(of.begin() + cta * size, of.begin() + (cta + 1) * size);
    };
    const auto base = image.data() + static_cast<size_t>(cta) * kImage;
    Place(kind, layout_a, part(a, rows * k), base);
    Place(kind, layout_b, part(b, columns * k), base + kBytesA);
    for (int lane = 0; lane < 128; ++lane) {
      uint32_t* const words = &tensor[static_cast<size_t>((cta * 128 + lane) * 16)];
      for (int i = 0; i < k && lane < rows && kind.bits >= 8; ++i) {
        const int per_word = 32 / kind.bits;
        words[i / per_word] |= kind.encode(a[static_cast<size_t>((cta * rows + lane) * k + i)])
                               << kind.bits * (i % per_word);
      }
    }
  }
  // Scale factors are powers of two: 1, 2 or 4, of block `block` of row `row`.
  const auto scale = [](int row, int block) { return (row + block) % 3; };
  const auto encoded = [&](int exponent) -> uint32_t {
    return kind.scales == 4 ? Search<&FromUe4m3, 128>(1 << exponent) : 127u + exponent;
  };
  for (size_t at = 0; at < tensor.size(); at += 16) {
    for (int word = 0; word < 8; ++word) {
      const int row = static_cast<int>(at / 16) % 32 + 32 * (word % 4);
      for (int block = 0; block < kind.scales; ++block) {
        tensor[at + 8 + static_cast<size_t>(word)] |= encoded(scale(row + 5 * (word / 4), block))
                                                      << 8 * block;
      }
    }
  }

  uint32_t instruction = kind.formats | static_cast<uint32_t>(n / 8) << 17 |
                         static_cast<uint32_t>(ctas * rows / 16) << 24;
  if (c.negate_a) instruction |= 1u << 13;
  if (layout_a.mn_major != 0) instruction |= 1u << 15;
  if (layout_b.mn_major != 0) instruction |= 1u << 16;
  Bench bench;
  const size_t cells = static_cast<size_t>(ctas * 128 * n);
  const uint64_t out = bench.Reserve(cells * 4);
  std::vector<char> params;
  Put(&params, 0, out);
  Put(&params, 8, bench.Upload(image));
  Put(&params, 16, bench.Upload(tensor));
  LaunchConfig config;
  config.grid = config.cluster = {ctas, 1, 1};
  config.block = {128, 1, 1};
  const absl::Status status = bench.Run(KernelFor(c, instruction, n), config, params);
  ASSERT_TRUE(status.ok()) << status << bench.AllFindings();
  EXPECT_TRUE(bench.findings.empty()) << bench.AllFindings();

  const std::vector<uint32_t> got = bench.Download<uint32_t>(out, cells);
  for (int row = 0; row < ctas * rows; ++row) {
    const int in_cta = row % rows;
    const int lane = row / rows * 128 + (rows == 64 ? in_cta % 16 + in_cta / 16 * 32 : in_cta);
    for (int column = 0; column < n; ++column) {
      int sum = 0;
      for (int i = 0; i < k; ++i) {
        int product = a[static_cast<size_t>(row * k + i)] * b[static_cast<size_t>(column * k + i)];
        if (kind.scales > 0) {
          const int block = i * kind.scales / k;
          product <<= scale(in_cta, block) + scale(column + 5, block);
        }
        sum += c.negate_a ? -product : product;
      }
      const bool masked = c.masked && lane == 34;  // bit 2 of the second word
      const int expected = 1 + (masked ? 0 : sum);
      const uint32_t bits = got[static_cast<size_t>(lane * n + column)];
      ASSERT_EQ(kind.integer_sums ? static_cast<float>(static_cast<int32_t>(bits))
                                  : std::bit_cast<float>(bits),
                static_cast<float>(expected))
          << "row " << row << " column " << column;
    }
  }
}

// CUTLASS's operands: 0 K-major 128-byte lines, 128 rows; 1 to 3 64 rows: 64-byte and 32-byte
// lines, no swizzle; 4 as 0 of bytes; 5 MN-major 128-byte lines, 128 rows; 6 without swizzle, 64
// rows; 7 as 5 of bytes.
INSTANTIATE_TEST_SUITE_P(, TensorMmaForm,
                         testing::Values(Case{"bf16", &kBf16, 0, 0}, Case{"f16", &kF16, 0, 1},
                                         Case{"tf32", &kTf32, 0, 3}, Case{"e4m3", &kFp8, 0, 2},
                                         Case{"e5m2", &kFp8Wide, 4, 4}, Case{"s8", &kS8, 0, 0},
                                         Case{"mxf8", &kMxf8, 0, 0}, Case{"mxf4", &kMxf4, 0, 1},
                                         Case{"nvf4", &kNvf4, 0, 0}, Case{"M64", &kBf16, 1, 0},
                                         Case{"M64AndN64WithoutSwizzle", &kBf16, 3, 3},
                                         Case{"MnMajorBoth", &kBf16, 5, 5},
                                         Case{"MnMajorBWithoutSwizzle", &kF16, 0, 6},
                                         Case{"MnMajorOfBytes", &kFp8, 7, 7},
                                         Case{"AInTensorMemory", &kBf16, 0, 0, true},
                                         Case{"AOfBytesInTensorMemory", &kS8, 0, 0, true},
                                         Case{"Pair", &kBf16, 0, 1, false, true},
                                         Case{"PairOfMxf8", &kMxf8, 0, 1, false, true},
                                         Case{"Masked", &kBf16, 0, 0, false, false, true},
                                         Case{"Negated", &kF16, 0, 0, false, false, false, true}),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace trireme::gpusim
