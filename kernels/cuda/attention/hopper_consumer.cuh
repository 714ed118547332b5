// The consumers of hopper.cuh: a warpgroup's 64 rows.
#pragma once

#include "kernels/cuda/attention/hopper.cuh"

namespace trireme::cuda {

template <typename Kernel>
struct HopperConsumer {
  using Mutant = AttentionMutant;
  using Rows = AttentionRows<Kernel>;
  using Output = typename Rows::Output;
  using Scores = typename Rows::Scores;
  using Weights = uint32_t[Kernel::kKeys / 16][4];  // A fragments
  static constexpr int kLineBytes = Kernel::kLineBytes, kHeadDim = Kernel::kHeadDim;
  static constexpr uint32_t kColumnsBytes = 64 * kLineBytes;  // from a line's columns to the next
  __device__ static constexpr bool Is(Mutant mutant) { return Kernel::kMutant == mutant; }

  HopperSlot<Kernel> at;
  const int warpgroup = static_cast<int>(threadIdx.x) / 128;

  __device__ static void Release(uint32_t empty) {
    if (threadIdx.x % 128 == 0) hopper::Arrive(empty);
  }
  __device__ void Barrier() const { hopper::NamedBarrier(1 + warpgroup, 128); }

  // The tiles that the warpgroup's rows see, of those of the item.
  __device__ HopperTiles Seen(const Rows& rows, const HopperTiles& tiles) const {
    const int first = rows.first_row + warpgroup * 64;
    if (first >= rows.num_rows) return {tiles.end, tiles.end};
    const int last = rows.Position(min(first + 63, rows.num_rows - 1));
    return {max(tiles.begin, rows.FirstSeen(rows.Position(first)) / Kernel::kSlotKeys),
            min(tiles.end, last / Kernel::kSlotKeys + 1)};
  }
  // Gives back what others see.
  __device__ void Skip(int num_tiles) {
    for (int i = 0; i < 2 * num_tiles; ++i) {
      hopper::WaitBarrier(at.Full(), at.parity);
      Release(at.Empty());
      at.Next();
    }
  }

  __device__ void LoadQueries(const Rows& rows) const {
    for (int i = static_cast<int>(threadIdx.x) % 128; i < 64 * Kernel::kRowPieces; i += 128) {
      const auto [row, piece] = Kernel::PieceOf(i, 64);
      const int r = rows.first_row + warpgroup * 64 + row;
      const bool valid = r < rows.num_rows;
      const uint16_t* from =
          rows.a.q +
          (valid ? rows.Token(r) * rows.a.q_stride + rows.Head(r) * kHeadDim + piece * 8 : 0);
      ptx::CopyAsync(Rows::PieceAt(rows.q_tile, warpgroup * 64 + row, piece), from, valid);
    }
    ptx::CommitCopies();
    ptx::WaitCopies<0>();
    hopper::FenceProxyAsync();
    if (!Is(Mutant::kNoQueryBarrier)) Barrier();
  }

  __device__ static void ComputeScores(uint32_t queries, uint32_t keys,
                                       Scores (&scores)[Kernel::kParts]) {
    auto& s = reinterpret_cast<float(&)[32]>(scores);
    hopper::WgmmaFence();
#pragma unroll
    for (uint32_t k = 0; k < kHeadDim / 16; ++k) {
      const uint32_t at = 32 * k / kLineBytes * kColumnsBytes + 32 * k % kLineBytes;
      Wgmma<Kernel::kType, 64>::Multiply(s, hopper::Descriptor<kLineBytes>(queries + at),
                                         hopper::Descriptor<kLineBytes>(keys + at), k > 0);
    }
    hopper::WgmmaCommit();
  }
  __device__ static void Pack(const Scores& scores, Weights& weights) {
#pragma unroll
    for (int k = 0; k < Kernel::kKeys / 16; ++k) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float(&pair)[4] = scores[2 * k + i / 2];
        weights[k][i] = cuda::Pack<Kernel::kType>(pair[i % 2 * 2], pair[i % 2 * 2 + 1]);
      }
    }
  }
  // `values`: of the first key that `weights` are for.
  __device__ static void AddValues(uint32_t values, const Weights& weights, Output& o) {
    constexpr int kColumns = kHeadDim > 128 ? 128 : kHeadDim;  // of an instruction
    auto& columns = reinterpret_cast<float(&)[kHeadDim / kColumns][kColumns / 2]>(o);
    if (!Is(Mutant::kNoWgmmaFence)) hopper::WgmmaFence();
#pragma unroll
    for (uint32_t k = 0; k < Kernel::kKeys / 16; ++k) {
#pragma unroll
      for (uint32_t n = 0; n < kHeadDim / kColumns; ++n) {
        const uint32_t at =
            values + 16 * k * kLineBytes + n * kColumns * 2 / kLineBytes * kColumnsBytes;
        WgmmaOfRegisters<Kernel::kType, kColumns>::Multiply(
            columns[n], weights[k], hopper::Descriptor<kLineBytes>(at, kColumnsBytes));
      }
    }
    hopper::WgmmaCommit();
  }

  // What StageRows has left of this warp's rows.
  __device__ static void StoreRows(const Rows& rows) {
    for (int i = rows.lane; i < 16 * Kernel::kRowPieces; i += 32) {
      const auto [row, piece] = Kernel::PieceOf(i, 16);
      const int r = rows.first_row + rows.warp * 16 + row;
      if (r >= rows.num_rows && !Is(Mutant::kNoRowBound)) continue;
      ptx::StoreGlobal16(
          rows.a.out + rows.Token(r) * rows.a.out_stride + rows.Head(r) * kHeadDim + piece * 8,
          ptx::LoadShared16(Rows::PieceAt(rows.q_tile, rows.warp * 16 + row, piece)));
    }
  }

  // Tiles [begin, end), which lie in one chunk.
  __device__ void RunChunk(const Rows& rows, int begin, int end, float (&max)[2], float (&sum)[2],
                           Output& o) {
    const uint32_t queries =
        rows.q_tile + static_cast<uint32_t>(warpgroup * 64 * Kernel::kRowBytes);
    uint32_t multiplied = 0;  // `empty` of the values that O's last addition reads
    for (int tile = begin; tile < end; ++tile) {
      Scores scores[Kernel::kParts];
      hopper::WaitBarrier(at.Full(), at.parity ^ (Is(Mutant::kWrongParity) ? 1 : 0));
      ComputeScores(queries, at.Tile(), scores);
      if (Is(Mutant::kReleasesValuesEarly) && multiplied != 0) Release(multiplied);
      if (!Is(Mutant::kNoWaitForScores)) hopper::WgmmaWait<0>();
      hopper::Pin(scores);
      hopper::Pin(o);
      if (!Is(Mutant::kReleasesValuesEarly) && multiplied != 0) Release(multiplied);
      Release(at.Empty());
      at.Next();
#pragma unroll
      for (int part = 0; part < Kernel::kParts; ++part) {
        float rescale[2];
        Weights weights;
        rows.Weigh(tile * Kernel::kParts + part, scores[part], max, sum, rescale);
        Pack(scores[part], weights);
        if (part > 0) {
          hopper::WgmmaWait<0>();
          hopper::Pin(o);
        } else if (!Is(Mutant::kNoWaitForValues)) {
          hopper::WaitBarrier(at.Full(), at.parity);
        }
        Rows::Rescale(rescale, o);
        hopper::Pin(o);
        hopper::Pin(weights);
        AddValues(at.Tile() + static_cast<uint32_t>(part * Kernel::kKeys * kLineBytes), weights, o);
      }
      multiplied = at.Empty();
      at.Next();
    }
    hopper::WgmmaWait<0>();
    hopper::Pin(o);
    if (multiplied != 0) Release(multiplied);
  }

  __device__ void Run(Rows& rows, const HopperTiles& tiles) {
    constexpr int kChunkTiles = kChunk / Kernel::kSlotKeys;
    rows.Locate();
    LoadQueries(rows);
    const HopperTiles seen = Seen(rows, tiles);
    Output o = {};
    float max[2] = {-INFINITY, -INFINITY}, sum[2] = {};
    typename Rows::Running running{};
    Skip(seen.begin - tiles.begin);
    for (int tile = seen.begin; tile < seen.end;) {
      const int end = min((tile / kChunkTiles + 1) * kChunkTiles, seen.end);
      RunChunk(rows, tile, end, max, sum, o);
      tile = end;
      Rows::AddUp(sum);
      rows.FoldChunk(o, max, sum, running, tile == seen.end);
    }
    Skip(tiles.end - seen.end);
    rows.StageRows(o, running.max, running.sum);
    StoreRows(rows);
    // The next item's queries overwrite what is read here.
    if (!Is(Mutant::kNoBarrierBetweenItems)) Barrier();
  }
};

template <typename Kernel>
__global__ void __launch_bounds__(Kernel::kThreads, 1)
    HopperPrefill(const __grid_constant__ AttentionArguments a) {
  extern __shared__ __align__(1024) char memory[];
  auto& shared = *reinterpret_cast<HopperAttentionShared<Kernel>*>(memory);
  if (threadIdx.x == 0) {
    for (int slot = 0; slot < Kernel::kSlots; ++slot) {
      hopper::InitBarrier(hopper::SharedAddress(&shared.full[slot]), 4);  // the producer's warps
      hopper::InitBarrier(hopper::SharedAddress(&shared.empty[slot]), Kernel::kConsumers);
    }
  }
  __syncthreads();
  const int work = *a.count * a.num_kv_heads * a.row_tiles;
  const auto for_each_item = [&](auto&& run) {
    for (int w = static_cast<int>(blockIdx.x); w < work; w += static_cast<int>(gridDim.x)) {
      const int row_tile = w % a.row_tiles, rest = w / a.row_tiles;
      const AttentionItem item = a.items[rest / a.num_kv_heads];
      const int first_row = row_tile * Kernel::kRows;
      if (first_row >= item.num_tokens * a.group) continue;
      AttentionRows<Kernel> rows{.a = a,
                                 .item = item,
                                 .kv_head = rest % a.num_kv_heads,
                                 .first_row = first_row,
                                 .q_tile = hopper::SharedAddress(shared.q)};
      constexpr int kKeys = Kernel::kSlotKeys;
      run(rows, HopperTiles{max(item.first_chunk * kChunk, rows.live_begin) / kKeys,
                            (min(item.end_chunk * kChunk, rows.live_end) + kKeys - 1) / kKeys});
    }
  };
  if (threadIdx.x >= 128 * Kernel::kConsumers) {
    hopper::GiveRegisters<Kernel::kProducerRegisters>();
    HopperProducer<Kernel> producer{.at = {shared}};
    for_each_item([&](const auto& rows, const HopperTiles& tiles) { producer.Run(rows, tiles); });
    producer.Finish();
  } else {
    hopper::TakeRegisters<Kernel::kConsumerRegisters>();
    HopperConsumer<Kernel> consumer{.at = {shared}};
    for_each_item([&](auto& rows, const HopperTiles& tiles) { consumer.Run(rows, tiles); });
  }
}

template <typename Kernel>
cudaError_t LaunchHopperKernel(const AttentionLaunch& launch, const AttentionArguments& arguments) {
  const auto bytes = static_cast<int>(sizeof(HopperAttentionShared<Kernel>));
  const cudaError_t error = cudaFuncSetAttribute(
      HopperPrefill<Kernel>, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
  if (error != cudaSuccess) return error;
  const int64_t most = int64_t{launch.max_items} * arguments.num_kv_heads * arguments.row_tiles;
  const auto grid = static_cast<unsigned>(most < launch.num_sms ? most : launch.num_sms);
  HopperPrefill<Kernel>
      <<<grid, Kernel::kThreads, static_cast<size_t>(bytes), launch.stream>>>(arguments);
  return cudaGetLastError();
}

template <int kHeadDim>
cudaError_t LaunchHopperOfHeadDim(const AttentionLaunch& launch, const AttentionArguments& a) {
  if (launch.type == DType::kBF16) {
    return launch.soft_cap
               ? LaunchHopperKernel<HopperAttention<DType::kBF16, kHeadDim, true>>(launch, a)
               : LaunchHopperKernel<HopperAttention<DType::kBF16, kHeadDim, false>>(launch, a);
  }
  return launch.soft_cap
             ? LaunchHopperKernel<HopperAttention<DType::kF16, kHeadDim, true>>(launch, a)
             : LaunchHopperKernel<HopperAttention<DType::kF16, kHeadDim, false>>(launch, a);
}

}  // namespace trireme::cuda
