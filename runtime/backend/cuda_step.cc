#include "runtime/backend/cuda_step.h"

#include <algorithm>

#include "runtime/backend/cuda_memory.h"
#include "runtime/base/check.h"
#include "runtime/base/status.h"
#include "runtime/base/strings.h"

namespace trireme {
namespace {

// Room for pieces of long contexts beyond one a token: enough to keep a large device busy. What has
// no room is computed in fewer, longer pieces, with the same result.
constexpr int kMaxPieces = 4096;

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
      capacity_(CapacityOf(limits)) {
  slices_.reserve(static_cast<size_t>(limits.max_sequences));
  for (auto* items : {&work_.prefill, &work_.decode, &work_.merge}) {
    items->reserve(static_cast<size_t>(capacity_.items));
  }
}

absl::StatusOr<std::unique_ptr<StepTables>> StepTables::Create(const StepLimits& limits) {
  if (!cuda::HasAttention(limits.head_dim, limits.block_size)) {
    return absl::InvalidArgumentError(
        StrCat("the CUDA backend has no attention kernel for heads of ", limits.head_dim,
               " (it has 64, 96, 128, 256) with --block-size ", limits.block_size,
               " (it has 16, 32, 64)"));
  }
  std::unique_ptr<StepTables> tables(new StepTables(limits));
  TRIREME_RETURN_IF_ERROR(tables->staged_.Allocate(
      [&](ArrayPlacer* placer, Arrays* arrays) { tables->Place(placer, arrays); }));
  TRIREME_ASSIGN_OR_RETURN(tables->partials_,
                           AllocateDevice(static_cast<size_t>(tables->capacity_.partial_rows) *
                                          cuda::PartialRowBytes(limits.head_dim)));
  TRIREME_RETURN_IF_ERROR(CudaStatus(
      cudaEventCreateWithFlags(&tables->uploaded_, cudaEventDisableTiming), "making an event"));
  return tables;
}

StepTables::~StepTables() {
  if (uploaded_ == nullptr) return;
  cudaEventSynchronize(uploaded_);  // the copy reads page-locked memory
  cudaEventDestroy(uploaded_);
}

void StepTables::Place(ArrayPlacer* placer, Arrays* arrays) const {
  const auto tokens = static_cast<size_t>(limits_.max_tokens);
  const auto items = static_cast<size_t>(capacity_.items);
  placer->Place(tokens, &arrays->tokens);
  placer->Place(tokens, &arrays->positions);
  placer->Place(tokens, &arrays->sequence_of);
  placer->Place(static_cast<size_t>(limits_.max_logit_rows), &arrays->logit_rows);
  placer->Place(3, &arrays->counts);
  placer->Place(items, &arrays->decode);
  placer->Place(items, &arrays->merge);
  placer->Place(items, &arrays->prefill);
  placer->Place(static_cast<size_t>(limits_.max_sequences) * static_cast<size_t>(table_stride_),
                &arrays->block_tables);
}

void StepTables::FillTokens(const BatchView& batch, const StepSize& size) {
  const auto padded = static_cast<size_t>(size.num_tokens);
  TRIREME_CHECK(batch.tokens.size() <= padded && size.num_tokens <= limits_.max_tokens);
  std::copy(batch.tokens.begin(), batch.tokens.end(), staged_.host.tokens);
  for (size_t s = 0; s < batch.sequences.size(); ++s) {
    const SequenceSlice& slice = batch.sequences[s];
    for (int t = 0; t < slice.num_tokens; ++t) {
      const int row = slice.first_token + t;
      staged_.host.positions[row] = static_cast<int32_t>(slice.first_position + t);
      staged_.host.sequence_of[row] = static_cast<int32_t>(s);
    }
  }
  for (size_t row = batch.tokens.size(); row < padded; ++row) {
    staged_.host.tokens[row] = 0;
    staged_.host.positions[row] = -1;
    staged_.host.sequence_of[row] = 0;
  }
  TRIREME_CHECK(size.num_logits <= limits_.max_logit_rows);
  std::copy(batch.logit_tokens.begin(), batch.logit_tokens.end(), staged_.host.logit_rows);
  std::fill(staged_.host.logit_rows + batch.logit_tokens.size(),
            staged_.host.logit_rows + size.num_logits, 0);
}

int StepTables::FillBlockTables(const BatchView& batch) {
  TRIREME_CHECK(batch.sequences.size() <= static_cast<size_t>(limits_.max_sequences));
  size_t longest = 0;
  int32_t* row = staged_.host.block_tables;
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
  cuda::PlanAttention(slices_, shape_, capacity_, &work_);
  std::copy(work_.decode.begin(), work_.decode.end(), staged_.host.decode);
  std::copy(work_.merge.begin(), work_.merge.end(), staged_.host.merge);
  std::copy(work_.prefill.begin(), work_.prefill.end(), staged_.host.prefill);
  staged_.host.counts[0] = static_cast<int32_t>(work_.prefill.size());
  staged_.host.counts[1] = static_cast<int32_t>(work_.decode.size());
  staged_.host.counts[2] = static_cast<int32_t>(work_.merge.size());
}

absl::Status StepTables::Upload(const BatchView& batch, const StepSize& size, cudaStream_t stream) {
  TRIREME_RETURN_IF_ERROR(CudaStatus(cudaEventSynchronize(uploaded_), "uploading a batch"));
  FillTokens(batch, size);
  const int longest = FillBlockTables(batch);
  PlanWork(batch);
  const auto upload = [&](const auto* from, size_t count) {
    return staged_.Upload(from, count * sizeof(*from), "uploading a batch", stream);
  };
  // Everything up to the counts is small: one copy.
  const auto* const first = reinterpret_cast<const uint8_t*>(staged_.host.tokens);
  const auto small =
      static_cast<size_t>(reinterpret_cast<const uint8_t*>(staged_.host.counts + 3) - first);
  TRIREME_RETURN_IF_ERROR(upload(first, small));
  TRIREME_RETURN_IF_ERROR(upload(staged_.host.decode, work_.decode.size()));
  TRIREME_RETURN_IF_ERROR(upload(staged_.host.merge, work_.merge.size()));
  TRIREME_RETURN_IF_ERROR(upload(staged_.host.prefill, work_.prefill.size()));
  const size_t pitch = static_cast<size_t>(table_stride_) * sizeof(int32_t);
  TRIREME_RETURN_IF_ERROR(
      CudaStatus(cudaMemcpy2DAsync(staged_.device.block_tables, pitch, staged_.host.block_tables,
                                   pitch, static_cast<size_t>(longest) * sizeof(int32_t),
                                   batch.sequences.size(), cudaMemcpyHostToDevice, stream),
                 "uploading a batch"));
  return CudaStatus(cudaEventRecord(uploaded_, stream), "uploading a batch");
}

cuda::Batch StepTables::Batch(const StepSize& size) const {
  return {size.num_tokens,
          staged_.device.tokens,
          staged_.device.positions,
          staged_.device.sequence_of,
          staged_.device.block_tables,
          table_stride_};
}

cuda::DeviceAttentionWork StepTables::Work(const StepSize& size) const {
  cuda::DeviceAttentionWork work;
  work.prefill = staged_.device.prefill;
  work.decode = staged_.device.decode;
  work.merge = staged_.device.merge;
  work.counts = staged_.device.counts;
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
