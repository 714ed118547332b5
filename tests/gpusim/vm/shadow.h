// What the checkers remember of shared memory: who wrote its bytes, who has read them since, what
// is still being copied there. Kept for rows of 128 bytes as long as these are written as a whole,
// else for blocks of 16.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "tests/gpusim/vm/accessor.h"
#include "tests/gpusim/vm/row.h"
#include "tests/gpusim/vm/shadow_block.h"
#include "tests/gpusim/vm/shadow_row.h"

namespace trireme::gpusim {

class SharedShadow {
 public:
  SharedShadow() = default;
  ~SharedShadow();
  SharedShadow(const SharedShadow&) = delete;
  SharedShadow& operator=(const SharedShadow&) = delete;

  // Forgets everything: a CTA begins.
  void Reset(uint32_t bytes);

  // The commonest accesses: 4, 8 or 16 bytes, aligned, by the generic proxy. True: in order. False:
  // Read() and Write() take a closer look.
  bool TryRead(uint32_t at, uint32_t size, const Accessor& who) {
    if (size == kBlockBytes) {
      if (SharedRow* const row = Whole(at)) {
        const uint32_t chunk = ChunkOf(at);
        if (row->IsReadable(chunk, who) && row->NoteReader(chunk, who)) return true;
      }
      return At(at / kBlockBytes).TryReadWhole(who);
    }
    return size >= 4 && At(at / kBlockBytes).TryReadWords(at % kBlockBytes / 4, size / 4, who);
  }
  bool TryWrite(uint32_t at, uint32_t size, const Accessor& who) {
    SharedBlock& block = At(at / kBlockBytes);
    if (size == kBlockBytes) return block.TryWriteWhole(who);
    return size >= 4 && block.TryWriteWords(at % kBlockBytes / 4, size / 4, who);
  }

  // The same for a row, of which every lane touches its share; lanes_seen holds for all of them.
  bool TryReadRow(uint32_t at, RowLanes lanes, const Accessor& who) {
    SharedRow* const row = Whole(at);
    return row != nullptr && row->TryRead(lanes, who);
  }
  bool TryWriteRow(uint32_t at, RowLanes lanes, const Accessor& who);

  // Each false if the access is in order; else *fault says why not. [at, at + size) is in bounds.
  bool Read(uint32_t at, uint32_t size, const Accessor& who, Fault* fault);
  // The same without remembering the reader: BeginRead and EndRead do.
  bool CheckRead(uint32_t at, uint32_t size, const Accessor& who, Fault* fault);
  bool Write(uint32_t at, uint32_t size, const Accessor& who, Fault* fault);
  // Whether it might be written, as before BeginWrite.
  bool CheckFree(uint32_t at, uint32_t size, const Accessor& who, Fault* fault);
  // A read-modify-write that is ordered with every other one.
  bool Atomic(uint32_t at, uint32_t size, const Accessor& who, Fault* fault);

  // An asynchronous copy into or out of [at, at + size) is under way, or has ended.
  void BeginWrite(uint32_t at, uint32_t size);
  void EndWrite(uint32_t at, uint32_t size, const Accessor& as);
  void BeginRead(uint32_t at, uint32_t size);
  void EndRead(uint32_t at, uint32_t size, const Accessor& as);
  // Copies by the lanes that share out a row: after TryWriteRow(), and when they have landed.
  void BeginWriteRow(uint32_t at) { rows_[at / kRowBytes].in_flight = true; }
  void EndWriteRow(uint32_t at, RowLanes lanes, const Accessor& as);
  // The word belongs to an mbarrier, which ordinary accesses must not touch.
  void SetMbarrier(uint32_t at, uint32_t size, bool is_mbarrier);

 private:
  static constexpr uint32_t kBlockBytes = SharedBlock::kBytes;
  static constexpr uint32_t kRowBlocks = SharedRow::kChunks;
  using Part = SharedBlock::Part;

  static uint32_t ChunkOf(uint32_t at) { return at % kRowBytes / kBlockBytes; }
  static bool IsChunk(uint32_t at, uint32_t size) {
    return size == kBlockBytes && at % kBlockBytes == 0;
  }
  // The row that `at` lies in, if it counts.
  SharedRow* Whole(uint32_t at) {
    SharedRow& row = rows_[at / kRowBytes];
    return row.generation == generation_ && row.whole ? &row : nullptr;
  }
  // From here on the block counts.
  SharedBlock& At(uint32_t index) {
    SharedRow& row = rows_[index / kRowBlocks];
    if (row.generation != generation_) {
      row.generation = generation_;
      row.whole = false;
    } else if (row.whole) [[unlikely]] {
      Open(index / kRowBlocks);
    }
    SharedBlock& block = blocks_[index];
    if (block.generation != generation_) block.Clear(generation_);
    return block;
  }
  void Open(uint32_t row);
  bool WriteOpenRow(uint32_t at, RowLanes lanes, const Accessor& who);
  template <typename F>
  bool EachPart(uint32_t at, uint32_t size, F&& f);

  std::vector<SharedBlock> blocks_;
  std::vector<SharedRow> rows_;
  uint32_t generation_ = 0;
};

inline bool SharedShadow::TryWriteRow(uint32_t at, RowLanes lanes, const Accessor& who) {
  SharedRow& row = rows_[at / kRowBytes];
  if (row.generation == generation_ &&
      !(row.whole ? row.IsWritable(lanes, who) : WriteOpenRow(at, lanes, who))) {
    return false;
  }
  row.SetWriter(generation_, lanes, who);
  return true;
}

}  // namespace trireme::gpusim
