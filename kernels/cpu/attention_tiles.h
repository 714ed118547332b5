// Tiles of a paged KV cache, in place or gathered to floats: part of attention_impl.h.
#pragma once

#include "kernels/cpu/attention_product.h"
#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/simd.h"

namespace trireme::cpu {
namespace {

// Where the elements of one KV tile of one head are.
template <class T>
struct Tile {
  // k[i]: dimension 0 of positions [i * kWidth, (i + 1) * kWidth); the next dimension is k_stride
  // further.
  const T* k[kTileVectors];
  int64_t k_stride;
  // v[i]: dimension 0 of position i * v_span; the next of v_span positions is v_stride further.
  const T* v[kTileVectors];
  int v_span;
  int64_t v_stride;
};

// One KV head's blocks.
template <class T>
struct KvHead {
  const T* k;
  const T* v;
  int64_t block_stride;  // elements from a block to the next
  int block_size;
  int head_dim;
  const BlockId* blocks;

  KvHead(const KvLayerView& kv, int head, const BlockId* block_table)
      : block_stride(kv.block_stride),
        block_size(kv.block_size),
        head_dim(kv.head_dim),
        blocks(block_table) {
    const int64_t offset = int64_t{head} * block_size * head_dim;
    k = static_cast<const T*>(kv.k) + offset;
    v = static_cast<const T*>(kv.v) + offset;
  }
  // Element 0 of the block that holds `position`, relative to k and v. 32 bits divide three times
  // faster than 64.
  int64_t BlockOffset(int64_t position) const {
    return blocks[static_cast<uint32_t>(position) / static_cast<uint32_t>(block_size)] *
           block_stride;
  }
  int SlotOf(int64_t position) const {
    return static_cast<int>(static_cast<uint32_t>(position) % static_cast<uint32_t>(block_size));
  }
};

// Positions [begin, begin + count), count > 0, where they are. Blocks and tiles do not straddle
// each other.
template <class T>
Tile<T> TileInPlace(const KvHead<T>& head, int64_t begin, int count) {
  Tile<T> tile;
  tile.k_stride = head.block_size;
  tile.v_stride = head.head_dim;
  tile.v_span = static_cast<int>(Smaller(head.block_size, kTile));
  const T** k = tile.k;
  const T** v = tile.v;
  const int slot = head.SlotOf(begin);
  for (int done = 0; done < count; done += tile.v_span) {
    const int64_t offset = head.BlockOffset(begin + done);
    *v++ = head.v + offset + int64_t{slot} * head.head_dim;
    for (int i = 0; i < tile.v_span; i += kWidth) *k++ = head.k + offset + slot + i;
  }
  return tile;
}

// Asks for the cache lines of the keys or values (`base`) of positions [begin, begin + count); none
// if count <= 0. Inlined by force: GCC 12 takes a function that only prefetches for one without
// effect and drops the call.
template <class T>
__attribute__((always_inline)) inline void PrefetchTile(const KvHead<T>& head, const T* base,
                                                        int64_t begin, int64_t count) {
  constexpr int64_t kLine = 64 / sizeof(T);
  const int64_t block_elements = int64_t{head.block_size} * head.head_dim;
  for (int64_t p = begin; p < begin + count; p += head.block_size) {
    const int64_t offset = head.BlockOffset(p);
    for (int64_t i = 0; i < block_elements; i += kLine) __builtin_prefetch(base + offset + i);
  }
}

// Widens a [rows, cols] matrix.
template <class T>
inline void WidenMatrix(const T* from, int64_t from_stride, int64_t rows, int64_t cols, float* to,
                        int64_t to_stride) {
  for (int64_t r = 0; r < rows; ++r, from += from_stride, to += to_stride) {
    ForEachVector(cols, [=](auto load, auto store) { store(to, load(from)); });
  }
}

// Positions [begin, begin + count) widened to k [head_dim, kTile] and v [kTile, padded_dim];
// nothing is written to the padding, whose products nobody reads.
template <class T>
Tile<float> GatherTile(const KvHead<T>& head, int64_t begin, int count, int64_t padded_dim,
                       float* k, float* v) {
  for (int done = 0; done < count;) {
    const int64_t position = begin + done;
    const int64_t offset = head.BlockOffset(position);
    const int slot = head.SlotOf(position);
    const int span = static_cast<int>(Smaller(head.block_size - slot, count - done));
    WidenMatrix(head.k + offset + slot, head.block_size, head.head_dim, span, k + done, kTile);
    WidenMatrix(head.v + offset + int64_t{slot} * head.head_dim, head.head_dim, span, head.head_dim,
                v + done * padded_dim, padded_dim);
    done += span;
  }
  Tile<float> tile;
  tile.k_stride = kTile;
  tile.v_stride = padded_dim;
  tile.v_span = kTile;
  for (int i = 0; i < kTileVectors; ++i) tile.k[i] = k + i * kWidth;
  tile.v[0] = v;
  return tile;
}

}  // namespace
}  // namespace trireme::cpu
