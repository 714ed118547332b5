#include "runtime/backend/cuda_weights.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "runtime/backend/cuda_memory.h"
#include "runtime/backend/matrix_parts.h"
#include "runtime/base/quant_formats.h"
#include "runtime/base/status.h"
#include "runtime/base/strings.h"

namespace trireme {
namespace {

// Whether `b` can lie behind `a` in one packed matrix.
bool Stack(const TensorView& a, const TensorView& b) {
  return cuda::FormatOf(a.dtype) == cuda::FormatOf(b.dtype) && a.rows() % cuda::kTileRows == 0;
}

// What the kernels want beside what every backend does.
absl::Status CheckShapes(absl::Span<const TensorView> parts) {
  for (const TensorView& part : parts) {
    if (!cuda::CanPack(cuda::FormatOf(part.dtype), part.cols())) {
      return absl::InvalidArgumentError(
          StrCat("a matrix of ", part.cols(), " columns of ", DTypeName(part.dtype),
                 ": the CUDA kernels want a multiple of 8 (of 32, if quantised)"));
    }
    if (parts.size() > 1 && part.rows() % 8 != 0) {  // results are stored 16 bytes at a time
      return absl::InvalidArgumentError(StrCat("stacked matrices of ", part.rows(),
                                               " rows: the CUDA kernels want a multiple of 8"));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<WeightUploader>> WeightUploader::Create(
    DType type, bool for_cublaslt, size_t staging_bytes, ComputePool* pool, cudaStream_t stream) {
  std::unique_ptr<WeightUploader> uploader(new WeightUploader(type, for_cublaslt, pool, stream));
  TRIREME_ASSIGN_OR_RETURN(uploader->staging_, AllocatePinned(staging_bytes));
  uploader->half_bytes_ = staging_bytes / 2;
  for (cudaEvent_t& event : uploader->copied_) {
    TRIREME_RETURN_IF_ERROR(
        CudaStatus(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "making an event"));
  }
  return uploader;
}

WeightUploader::~WeightUploader() {
  cudaStreamSynchronize(stream_);  // what is under way reads the staging memory
  for (cudaEvent_t event : copied_) {
    if (event != nullptr) cudaEventDestroy(event);
  }
}

absl::StatusOr<uint8_t*> WeightUploader::NextHalf() {
  TRIREME_RETURN_IF_ERROR(CudaStatus(cudaEventSynchronize(copied_[next_]), "uploading weights"));
  return static_cast<uint8_t*>(staging_->data()) + static_cast<size_t>(next_) * half_bytes_;
}

absl::Status WeightUploader::Upload(void* to, const void* from_half, size_t bytes) {
  TRIREME_RETURN_IF_ERROR(CudaStatus(
      cudaMemcpyAsync(to, from_half, bytes, cudaMemcpyHostToDevice, stream_), "uploading weights"));
  TRIREME_RETURN_IF_ERROR(
      CudaStatus(cudaEventRecord(copied_[next_], stream_), "uploading weights"));
  next_ = 1 - next_;
  return absl::OkStatus();
}

absl::StatusOr<CudaMatrix::Part> WeightUploader::Part(absl::Span<const TensorView> views) {
  CudaMatrix::Part part;
  cuda::PackedMatrix& packed = part.packed;
  packed.format = cuda::FormatOf(views[0].dtype);
  packed.layout = for_cublaslt_ && packed.format == cuda::MatrixFormat::kPlain
                      ? cuda::MatrixLayout::kRows
                      : cuda::LayoutFor(packed.format);
  packed.type = type_;
  packed.cols = views[0].cols();
  for (const TensorView& view : views) packed.rows += view.rows();
  TRIREME_ASSIGN_OR_RETURN(
      part.memory,
      AllocateDevice(cuda::PackedBytes(packed.format, packed.rows, packed.cols, packed.layout)));
  packed.data = part.memory->data();

  const size_t tile_bytes =
      cuda::PackedBytes(packed.format, cuda::kTileRows, packed.cols, packed.layout);
  const auto tiles_at_once = static_cast<int64_t>(half_bytes_ / tile_bytes);
  if (tiles_at_once == 0) {
    return absl::InvalidArgumentError(
        StrCat(packed.cols, " columns are more than the upload's staging memory holds"));
  }
  auto* to = static_cast<uint8_t*>(part.memory->data());
  for (const TensorView& view : views) {
    const int64_t tiles = (view.rows() + cuda::kTileRows - 1) / cuda::kTileRows;
    for (int64_t first = 0; first < tiles; first += tiles_at_once) {
      const int64_t count = std::min(tiles_at_once, tiles - first);
      TRIREME_ASSIGN_OR_RETURN(uint8_t* const half, NextHalf());
      pool_.For(count, 1, [&](int64_t begin, int64_t end, int) {
        cuda::PackTiles(view.dtype, view.data, type_, view.rows(), view.cols(), first + begin,
                        first + end, half + static_cast<size_t>(begin) * tile_bytes, packed.layout);
      });
      // Of the last tile, rows that there are: where they lie in rows, there is no place for more.
      const int64_t rows = std::min(count * cuda::kTileRows, view.rows() - first * cuda::kTileRows);
      const size_t bytes = cuda::PackedBytes(packed.format, rows, packed.cols, packed.layout);
      TRIREME_RETURN_IF_ERROR(Upload(to, half, bytes));
      to += bytes;
    }
  }
  return part;
}

absl::Status WeightUploader::SetBias(absl::Span<const float> values, CudaMatrix::Part* part) {
  TRIREME_ASSIGN_OR_RETURN(part->bias, Bytes(values.data(), values.size() * sizeof(float)));
  part->packed.bias = static_cast<const float*>(part->bias->data());
  if (!for_cublaslt_ || part->packed.format != cuda::MatrixFormat::kPlain) {
    return absl::OkStatus();
  }
  std::vector<uint16_t> narrow;
  for (const float v : values) {
    narrow.push_back(type_ == DType::kBF16 ? FloatToBF16(v) : FloatToF16(v));
  }
  TRIREME_ASSIGN_OR_RETURN(part->narrow_bias,
                           Bytes(narrow.data(), narrow.size() * sizeof(uint16_t)));
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<CudaMatrix>> WeightUploader::Matrix(
    absl::Span<const TensorView> parts, absl::Span<const TensorView> bias) {
  TRIREME_RETURN_IF_ERROR(CheckParts(parts, bias));
  TRIREME_RETURN_IF_ERROR(CheckShapes(parts));
  auto matrix = std::make_unique<CudaMatrix>();
  for (size_t begin = 0; begin < parts.size();) {
    size_t end = begin + 1;
    while (end < parts.size() && Stack(parts[end - 1], parts[end])) ++end;
    TRIREME_ASSIGN_OR_RETURN(CudaMatrix::Part part, Part(parts.subspan(begin, end - begin)));
    part.first_row = matrix->num_rows;
    matrix->num_rows += part.packed.rows;
    matrix->num_bytes += part.memory->size_bytes();
    matrix->parts.push_back(std::move(part));
    begin = end;
  }
  if (bias.empty()) return matrix;
  std::vector<float> values(static_cast<size_t>(matrix->num_rows));
  float* next = values.data();
  for (const TensorView& b : bias) {
    DequantizeRow(b.dtype, b.data, b.num_elements(), next);
    next += b.num_elements();
  }
  for (CudaMatrix::Part& part : matrix->parts) {
    TRIREME_RETURN_IF_ERROR(
        SetBias(absl::MakeConstSpan(values).subspan(static_cast<size_t>(part.first_row),
                                                    static_cast<size_t>(part.packed.rows)),
                &part));
    for (const auto* memory : {&part.bias, &part.narrow_bias}) {
      if (*memory != nullptr) matrix->num_bytes += (*memory)->size_bytes();
    }
  }
  return matrix;
}

absl::StatusOr<std::unique_ptr<CudaVector>> WeightUploader::Vector(absl::Span<const float> values) {
  auto vector = std::make_unique<CudaVector>();
  vector->size = static_cast<int64_t>(values.size());
  TRIREME_ASSIGN_OR_RETURN(vector->memory, Bytes(values.data(), values.size() * sizeof(float)));
  return vector;
}

absl::StatusOr<std::unique_ptr<Buffer>> WeightUploader::Bytes(const void* from, size_t size) {
  TRIREME_ASSIGN_OR_RETURN(auto memory, AllocateDevice(size));
  for (size_t done = 0; done < size; done += half_bytes_) {
    const size_t count = std::min(half_bytes_, size - done);
    TRIREME_ASSIGN_OR_RETURN(uint8_t* const half, NextHalf());
    std::memcpy(half, static_cast<const uint8_t*>(from) + done, count);
    TRIREME_RETURN_IF_ERROR(Upload(static_cast<uint8_t*>(memory->data()) + done, half, count));
  }
  return memory;
}

}  // namespace trireme
