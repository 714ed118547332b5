#include "tests/gpusim/vm/tensor_map.h"

#include "runtime/base/strings.h"

namespace trireme::gpusim {
namespace {

constexpr int kNumTypes = 13, kNumPromotions = 4;
constexpr uint64_t kMaxSize = uint64_t{1} << 32, kMaxStride = uint64_t{1} << 40;

bool IsFloat(TensorType type) { return type >= TensorType::kF16; }

template <typename... T>
absl::Status Invalid(const T&... what) {
  return absl::InvalidArgumentError(ToAbsl(StrCat("cuTensorMapEncodeTiled: ", what...)));
}

absl::Status CheckEnumerations(const TiledTensor& t) {
  if (t.data_type < 0 || t.data_type >= kNumTypes) return Invalid("data type ", t.data_type);
  if (t.rank < 1 || t.rank > 5) return Invalid("rank ", t.rank, "; it is 1 to 5");
  if (t.interleave < 0 || t.interleave > 2) return Invalid("interleave ", t.interleave);
  if (t.swizzle < 0 || t.swizzle > 3) return Invalid("swizzle ", t.swizzle);
  if (t.l2_promotion < 0 || t.l2_promotion >= kNumPromotions) {
    return Invalid("L2 promotion ", t.l2_promotion);
  }
  if (t.oob_fill < 0 || t.oob_fill > 1) return Invalid("out-of-bounds fill ", t.oob_fill);
  if (t.oob_fill == 1 && !IsFloat(static_cast<TensorType>(t.data_type))) {
    return Invalid("a NaN fill needs a float type");
  }
  if (t.interleave != 0) {
    return absl::UnimplementedError(
        "cuTensorMapEncodeTiled: the simulator has no interleaved layouts");
  }
  return absl::OkStatus();
}

absl::Status CheckDimension(const TiledTensor& t, uint32_t i) {
  if (t.global_dim[i] == 0 || t.global_dim[i] > kMaxSize) {
    return Invalid("globalDim[", i, "] is ", t.global_dim[i], "; it is 1 to 2^32");
  }
  if (t.box_dim[i] == 0 || t.box_dim[i] > 256) {
    return Invalid("boxDim[", i, "] is ", t.box_dim[i], "; it is 1 to 256");
  }
  if (t.element_strides[i] == 0 || t.element_strides[i] > 8) {
    return Invalid("elementStrides[", i, "] is ", t.element_strides[i], "; it is 1 to 8");
  }
  if (i + 1 == t.rank) return absl::OkStatus();
  const uint64_t stride = t.global_strides[i];
  if (stride % 16 != 0 || stride >= kMaxStride) {
    return Invalid("globalStrides[", i, "] is ", stride, "; it is a multiple of 16 below 2^40");
  }
  return absl::OkStatus();
}

}  // namespace

int SizeOf(TensorType type) {
  constexpr int kSizes[kNumTypes] = {1, 2, 4, 4, 8, 8, 2, 4, 8, 2, 4, 4, 4};
  return kSizes[static_cast<size_t>(type)];
}

ptx::Type ElementType(TensorType type) {
  using ptx::Type;
  constexpr Type kTypes[kNumTypes] = {Type::kU8,  Type::kU16, Type::kU32, Type::kS32, Type::kU64,
                                      Type::kS64, Type::kF16, Type::kF32, Type::kF64, Type::kBf16,
                                      Type::kF32, Type::kF32, Type::kF32};
  return kTypes[static_cast<size_t>(type)];
}

uint32_t TensorMap::box_bytes() const {
  uint32_t bytes = static_cast<uint32_t>(SizeOf(type));
  for (int i = 0; i < rank; ++i) bytes *= Extent(i);
  return bytes;
}

absl::StatusOr<TensorMap> EncodeTiled(const TiledTensor& t) {
  if (absl::Status status = CheckEnumerations(t); !status.ok()) return status;
  if (t.global_address == 0 || t.global_address % 16 != 0) {
    return Invalid("globalAddress is no multiple of 16");
  }
  if (t.global_dim == nullptr || t.box_dim == nullptr || t.element_strides == nullptr ||
      (t.rank > 1 && t.global_strides == nullptr)) {
    return Invalid("an array is null");
  }
  TensorMap map;
  map.magic = TensorMap::kMagic;
  map.type = static_cast<TensorType>(t.data_type);
  map.swizzle = static_cast<TensorSwizzle>(t.swizzle);
  map.rank = static_cast<uint8_t>(t.rank);
  map.fill_nan = t.oob_fill == 1;
  map.address = t.global_address;
  for (uint32_t i = 0; i < t.rank; ++i) {
    if (absl::Status status = CheckDimension(t, i); !status.ok()) return status;
    map.size[i] = t.global_dim[i];
    if (i + 1 < t.rank) map.stride[i] = t.global_strides[i];
    map.box[i] = static_cast<uint16_t>(t.box_dim[i]);
    map.element_stride[i] = static_cast<uint8_t>(t.element_strides[i]);
  }
  const uint32_t line = t.box_dim[0] * static_cast<uint32_t>(SizeOf(map.type));
  if (line % 16 != 0) {
    return Invalid("a line of the box has ", line, " bytes, which is no multiple of 16");
  }
  const uint32_t span = SpanOf(map.swizzle);
  if (span != 0 && line > span) {
    return Invalid("a line of the box has ", line, " bytes and the swizzle spans ", span);
  }
  if (span != 0 && map.Extent(0) * static_cast<uint32_t>(SizeOf(map.type)) < span) {
    return absl::UnimplementedError(ToAbsl(StrCat("cuTensorMapEncodeTiled: a line of the box has ",
                                                  line, " bytes and the swizzle spans ", span,
                                                  ": where such lines lie is not published")));
  }
  return map;
}

}  // namespace trireme::gpusim
