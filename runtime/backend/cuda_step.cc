#include "runtime/backend/cuda_step.h"

#include <algorithm>

#include "runtime/backend/cuda_memory.h"
#include "runtime/base/check.h"
#include "runtime/base/status.h"
#include "runtime/base/strings.h"

namespace trireme {
namespace {

constexpr size_t kAlignment = 256;
// Room for pieces of long contexts beyond one a token: enough to keep a large device busy. What has
// no room is computed in fewer, longer pieces, with the same result.
constexpr int kMaxPieces = 4096;

template <typename T>
void Place(size_t count, uint8_t* memory, size_t* used, T** array) {
  *array = memory == nullptr ? nullptr : reinterpret_cast<T*>(memory + *used);
  *used += (count * sizeof(T) + kAlignment - 1) / kAlignment * kAlignment;
}

cuda::AttentionCapacity CapacityOf(const StepLimits& limits) {
  const int64_t rows = int64_t{limits.max_tokens} * limits.num_heads;
  const int64_t piece_rows = int64_t{kMaxPieces} * std::max(1, limits.num_heads / 4);
  return {.items = limits.max_tokens + kMaxPieces,
          .partial_rows = (cuda::FoldsInMemory(limits.head_dim) ? rows : 0) + piece_rows};
}

}  // namespace

StepTables::StepTables(const StepLimits& limits)
    : limits_(limits),
      shape_{limits.num_heads, limits.num_kv_heads, limits.head_dim, limits.window,
             cuda::PrefillRows()},
      table_stride_(
          static_cast<int>((limits.max_context + limits.block_size - 1) / limits.block_size)),
      capacity_(CapacityOf(limits)) {}

absl::StatusOr<std::unique_ptr<StepTables>> StepTables::Create(const StepLimits& limits) {
  if (!cuda::HasAttention(limits.head_dim, limits.block_size)) {
    return absl::InvalidArgumentError(
        StrCat("the CUDA backend has no attention kernel for heads of ", limits.head_dim,
               " (it has 64, 96, 128, 256) with --block-size ", limits.block_size,
               " (it has 16, 32, 64)"));
  }
  std::unique_ptr<StepTables> tables(new StepTables(limits));
  const size_t bytes = tables->Layout(nullptr, &tables->host_);
  TRIREME_ASSIGN_OR_RETURN(tables->host_memory_, AllocatePinned(bytes));
  TRIREME_ASSIGN_OR_RETURN(tables->device_memory_, AllocateDevice(bytes));
  TRIREME_ASSIGN_OR_RETURN(tables->partials_,
                           AllocateDevice(static_cast<size_t>(tables->capacity_.partial_rows) *
                                          cuda::PartialRowBytes(limits.head_dim)));
  tables->Layout(static_cast<uint8_t*>(tables->host_memory_->data()), &tables->host_);
  tables->Layout(static_cast<uint8_t*>(tables->device_memory_->data()), &tables->device_);
  TRIREME_RETURN_IF_ERROR(CudaStatus(
      cudaEventCreateWithFlags(&tables->uploaded_, cudaEventDisableTiming), "making an event"));
  return tables;
}

StepTables::~StepTables() {
  if (uploaded_ == nullptr) return;
  cudaEventSynchronize(uploaded_);  // the copy reads host_memory_
  cudaEventDestroy(uploaded_);
}

size_t StepTables::Layout(uint8_t* memory, Arrays* arrays) const {
  const auto tokens = static_cast<size_t>(limits_.max_tokens);
  const auto items = static_cast<size_t>(capacity_.items);
  size_t used = 0;
  Place(tokens, memory, &used, &arrays->tokens);
  Place(tokens, memory, &used, &arrays->positions);
  Place(tokens, memory, &used, &arrays->sequence_of);
  Place(static_cast<size_t>(limits_.max_logit_rows), memory, &used, &arrays->logit_rows);
  Place(3, memory, &used, &arrays->counts);
  Place(items, memory, &used, &arrays->decode);
  Place(items, memory, &used, &arrays->merge);
  Place(items, memory, &used, &arrays->prefill);
  Place(static_cast<size_t>(limits_.max_sequences) * static_cast<size_t>(table_stride_), memory,
        &used, &arrays->block_tables);
  return used;
}

void StepTables::FillTokens(const BatchView& batch, const StepSize& size) {
  const auto padded = static_cast<size_t>(size.num_tokens);
  TRIREME_CHECK(batch.tokens.size() <= padded && size.num_tokens <= limits_.max_tokens);
  std::copy(batch.tokens.begin(), batch.tokens.end(), host_.tokens);
  for (size_t s = 0; s < batch.sequences.size(); ++s) {
    const SequenceSlice& slice = batch.sequences[s];
    for (int t = 0; t < slice.num_tokens; ++t) {
      const int row = slice.first_token + t;
      host_.positions[row] = static_cast<int32_t>(slice.first_position + t);
      host_.sequence_of[row] = static_cast<int32_t>(s);
    }
  }
  for (size_t row = batch.tokens.size(); row < padded; ++row) {
    host_.tokens[row] = 0;
    host_.positions[row] = -1;
    host_.sequence_of[row] = 0;
  }
  TRIREME_CHECK(size.num_logits <= limits_.max_logit_rows);
  std::copy(batch.logit_tokens.begin(), batch.logit_tokens.end(), host_.logit_rows);
  std::fill(host_.logit_rows + batch.logit_tokens.size(), host_.logit_rows + size.num_logits, 0);
}

int StepTables::FillBlockTables(const BatchView& batch) {
  TRIREME_CHECK(batch.sequences.size() <= static_cast<size_t>(limits_.max_sequences));
  size_t longest = 0;
  int32_t* row = host_.block_tables;
  for (const SequenceSlice& slice : batch.sequences) {
    TRIREME_CHECK(slice.blocks.size() <= static_cast<size_t>(table_stride_));
    std::copy(slice.blocks.begin(), slice.blocks.end(), row);
    longest = std::max(longest, slice.blocks.size());
    row += table_stride_;
  }
  // What a shorter table lacks is copied with it, and never read.
  return static_cast<int>(longest);
}

void StepTables::PlanWork(const BatchView& batch) {
  slices_.clear();
  for (size_t s = 0; s < batch.sequences.size(); ++s) {
    const SequenceSlice& slice = batch.sequences[s];
    slices_.push_back(
        {static_cast<int>(s), slice.first_token, slice.num_tokens, slice.first_position});
  }
  work_ = cuda::PlanAttention(slices_, shape_, capacity_);
  std::copy(work_.decode.begin(), work_.decode.end(), host_.decode);
  std::copy(work_.merge.begin(), work_.merge.end(), host_.merge);
  std::copy(work_.prefill.begin(), work_.prefill.end(), host_.prefill);
  host_.counts[0] = static_cast<int32_t>(work_.prefill.size());
  host_.counts[1] = static_cast<int32_t>(work_.decode.size());
  host_.counts[2] = static_cast<int32_t>(work_.merge.size());
}

absl::Status StepTables::Copy(const void* host, size_t bytes, cudaStream_t stream) {
  if (bytes == 0) return absl::OkStatus();
  const auto offset =
      static_cast<const uint8_t*>(host) - static_cast<const uint8_t*>(host_memory_->data());
  return CudaStatus(cudaMemcpyAsync(static_cast<uint8_t*>(device_memory_->data()) + offset, host,
                                    bytes, cudaMemcpyHostToDevice, stream),
                    "uploading a batch");
}

absl::Status StepTables::Upload(const BatchView& batch, const StepSize& size, cudaStream_t stream) {
  TRIREME_RETURN_IF_ERROR(CudaStatus(cudaEventSynchronize(uploaded_), "uploading a batch"));
  FillTokens(batch, size);
  const int longest = FillBlockTables(batch);
  PlanWork(batch);
  constexpr size_t kItem = sizeof(cuda::AttentionItem);
  const auto small = static_cast<size_t>(reinterpret_cast<uint8_t*>(host_.counts + 3) -
                                         static_cast<uint8_t*>(host_memory_->data()));
  TRIREME_RETURN_IF_ERROR(Copy(host_memory_->data(), small, stream));
  TRIREME_RETURN_IF_ERROR(Copy(host_.decode, work_.decode.size() * kItem, stream));
  TRIREME_RETURN_IF_ERROR(Copy(host_.merge, work_.merge.size() * kItem, stream));
  TRIREME_RETURN_IF_ERROR(Copy(host_.prefill, work_.prefill.size() * kItem, stream));
  const size_t pitch = static_cast<size_t>(table_stride_) * sizeof(int32_t);
  TRIREME_RETURN_IF_ERROR(
      CudaStatus(cudaMemcpy2DAsync(device_.block_tables, pitch, host_.block_tables, pitch,
                                   static_cast<size_t>(longest) * sizeof(int32_t),
                                   batch.sequences.size(), cudaMemcpyHostToDevice, stream),
                 "uploading a batch"));
  return CudaStatus(cudaEventRecord(uploaded_, stream), "uploading a batch");
}

cuda::Batch StepTables::Batch(const StepSize& size) const {
  return {size.num_tokens,     device_.tokens,       device_.positions,
          device_.sequence_of, device_.block_tables, table_stride_};
}

cuda::DeviceAttentionWork StepTables::Work(const StepSize& size) const {
  cuda::DeviceAttentionWork work;
  work.prefill = device_.prefill;
  work.decode = device_.decode;
  work.merge = device_.merge;
  work.counts = device_.counts;
  work.partials = static_cast<float*>(partials_->data());
  if (size.decode) {
    // Any decode step of this many tokens: each may have one piece, or many.
    work.max_prefill = size.num_tokens;
    work.max_decode = capacity_.items;
    work.max_merge = size.num_tokens;
  } else {
    work.max_prefill = static_cast<int>(work_.prefill.size());
    work.max_decode = static_cast<int>(work_.decode.size());
    work.max_merge = static_cast<int>(work_.merge.size());
  }
  return work;
}

}  // namespace trireme
