#include "tests/gpusim/nccl/operation.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "runtime/base/strings.h"
#include "tests/gpusim/cudart/runtime.h"
#include "tests/gpusim/nccl/rank_order.h"
#include "tests/gpusim/nccl/reduce.h"

namespace trireme::gpusim {
namespace {

// How often a slow rank is asked before it begins: a fifth of a second of polling.
constexpr int kSlowPolls = 200;

uint64_t Address(const void* pointer) { return reinterpret_cast<uint64_t>(pointer); }

}  // namespace

size_t Call::bytes() const { return count * BytesOf(type); }

size_t Call::send_bytes(const Communicator& comm) const {
  const bool reads = collective == Collective::kBroadcast ? comm.rank == root : send != nullptr;
  const bool whole = collective == Collective::kReduceScatter;
  return !reads ? 0 : bytes() * (whole ? static_cast<size_t>(comm.num_ranks) : 1);
}

size_t Call::receive_bytes(const Communicator& comm) const {
  const bool writes = collective == Collective::kReduce ? comm.rank == root : receive != nullptr;
  const bool whole = collective == Collective::kAllGather;
  return !writes ? 0 : bytes() * (whole ? static_cast<size_t>(comm.num_ranks) : 1);
}

std::string_view NameOf(const Call& call) {
  switch (call.collective) {
    case Collective::kAllReduce:
      return "ncclAllReduce";
    case Collective::kAllGather:
      return "ncclAllGather";
    case Collective::kReduceScatter:
      return "ncclReduceScatter";
    case Collective::kBroadcast:
      return "ncclBroadcast";
    case Collective::kReduce:
      return "ncclReduce";
    default:
      return call.send != nullptr ? "ncclSend" : "ncclRecv";
  }
}

// ---- Exchange

Exchange::Exchange(Communicator* comm, const std::vector<Call>& calls) : comm_(comm) {
  for (const Call& call : calls) running_.push_back({call, {}, {}});
}

cudaError_t Exchange::ReadInputs() {
  Runtime& runtime = Runtime::Get();
  DeviceMemory& memory = *runtime.device(comm_->device).memory;
  RankBegins(comm_->segment->name(), *StreamOperation::Current());
  for (Running& running : running_) {
    const size_t bytes = running.call.send_bytes(*comm_);
    if (bytes != 0) {
      const std::byte* const from = memory.Find(Address(running.call.send), bytes);
      if (from == nullptr) return cudaErrorIllegalAddress;  // freed since
      if (!memory.Defined(Address(running.call.send), bytes)) {
        runtime.ReportUninitialized(
            NameOf(running.call),
            StrCat("rank ", comm_->rank, " sends ", bytes, " bytes, and not all were written"));
      }
      runtime.CheckOrder(memory, Address(running.call.send), bytes, RangeUse::kRead);
      running.mine.assign(from, from + bytes);
    }
    Plan(&running);
  }
  return cudaSuccess;
}

void Exchange::Send(Running* running, int peer, size_t offset, size_t bytes) {
  const Call& call = running->call;
  sends_[static_cast<size_t>(peer)].push_back(
      {{call.collective, call.type, call.reduction,
        call.collective == Collective::kSendRecv ? 0 : call.root, bytes},
       running->mine.data() + offset});
}

void Exchange::Receive(Running* running, int peer, size_t bytes) {
  const Call& call = running->call;
  auto& part = running->parts[static_cast<size_t>(peer)];
  part.resize(bytes);
  receives_[static_cast<size_t>(peer)].push_back(
      {{call.collective, call.type, call.reduction,
        call.collective == Collective::kSendRecv ? 0 : call.root, bytes},
       part.data()});
}

void Exchange::Plan(Running* running) {
  const Call& call = running->call;
  const int me = comm_->rank;
  const size_t bytes = call.bytes();
  running->parts.resize(static_cast<size_t>(comm_->num_ranks));
  if (call.collective == Collective::kSendRecv) {
    if (call.send != nullptr) {
      Send(running, call.root, 0, bytes);
    } else {
      Receive(running, call.root, bytes);
    }
    return;
  }
  const bool from_root = call.collective == Collective::kBroadcast;
  const bool to_root = call.collective == Collective::kReduce;
  const bool scatters = call.collective == Collective::kReduceScatter;
  for (int peer = 0; peer < comm_->num_ranks; ++peer) {
    const size_t offset = scatters ? static_cast<size_t>(peer) * bytes : 0;
    if (peer == me) {
      if (running->mine.empty()) continue;
      const auto first = running->mine.begin() + static_cast<ptrdiff_t>(offset);
      running->parts[static_cast<size_t>(me)].assign(first, first + static_cast<ptrdiff_t>(bytes));
      continue;
    }
    if ((!from_root || me == call.root) && (!to_root || peer == call.root)) {
      Send(running, peer, offset, bytes);
    }
    if ((!from_root || peer == call.root) && (!to_root || me == call.root)) {
      Receive(running, peer, bytes);
    }
  }
}

bool Exchange::AdvanceSend(int peer) {
  auto& queue = sends_[static_cast<size_t>(peer)];
  if (queue.empty()) return false;
  Channel& channel = comm_->segment->channel(comm_->rank, peer);
  const uint64_t written = channel.written.load(std::memory_order_relaxed);
  if (channel.read.load(std::memory_order_acquire) != written) return false;
  Transfer& transfer = queue.front();
  const size_t bytes = std::min(transfer.envelope.bytes - transfer.done, Channel::kPieceBytes);
  channel.envelope = transfer.envelope;
  std::copy_n(transfer.bytes + transfer.done, bytes, channel.piece);
  channel.written.store(written + 1, std::memory_order_release);
  transfer.begun = true;
  transfer.done += bytes;
  if (transfer.finished()) queue.pop_front();
  return true;
}

bool Exchange::AdvanceReceive(int peer) {
  auto& queue = receives_[static_cast<size_t>(peer)];
  if (queue.empty()) return false;
  Channel& channel = comm_->segment->channel(peer, comm_->rank);
  const uint64_t read = channel.read.load(std::memory_order_relaxed);
  if (channel.written.load(std::memory_order_acquire) == read) {
    if (comm_->segment->IsGone(peer)) {
      comm_->Fail(ncclRemoteError, StrCat("the process of rank ", peer, " has ended"));
    }
    return false;
  }
  Transfer& transfer = queue.front();
  if (channel.envelope != transfer.envelope) {
    comm_->Fail(ncclInvalidUsage,
                StrCat("rank ", peer,
                       " calls another operation, or the same with another count, "
                       "type, reduction or root: a GPU would hang or give wrong results"));
    return false;
  }
  const size_t bytes = std::min(transfer.envelope.bytes - transfer.done, Channel::kPieceBytes);
  std::copy_n(channel.piece, bytes, transfer.bytes + transfer.done);
  channel.read.store(read + 1, std::memory_order_release);
  transfer.begun = true;
  transfer.done += bytes;
  if (transfer.finished()) queue.pop_front();
  return true;
}

bool Exchange::Advance() {
  for (bool moved = true; moved && comm_->async_error == ncclSuccess;) {
    moved = false;
    for (int peer = 0; peer < comm_->num_ranks; ++peer) {
      moved |= AdvanceSend(peer);
      moved |= AdvanceReceive(peer);
    }
  }
  const auto empty = [](const auto& queue) { return queue.empty(); };
  return std::all_of(sends_.begin(), sends_.end(), empty) &&
         std::all_of(receives_.begin(), receives_.end(), empty);
}

std::vector<std::byte> Exchange::Result(Running* running) const {
  const Call& call = running->call;
  switch (call.collective) {
    case Collective::kAllReduce:
    case Collective::kReduceScatter:
    case Collective::kReduce: {
      std::vector<std::byte> sum = std::move(running->parts[0]);
      for (size_t rank = 1; rank < running->parts.size(); ++rank) {
        Reduce(call.type, call.reduction, running->parts[rank].data(), call.count, sum.data());
      }
      if (call.reduction == ncclAvg) {
        DivideBy(call.type, comm_->num_ranks, call.count, sum.data());
      }
      return sum;
    }
    case Collective::kAllGather: {
      std::vector<std::byte> all;
      for (const auto& part : running->parts) all.insert(all.end(), part.begin(), part.end());
      return all;
    }
    default:  // from the root or peer
      return std::move(running->parts[static_cast<size_t>(call.root)]);
  }
}

cudaError_t Exchange::WriteOutputs() {
  Runtime& runtime = Runtime::Get();
  DeviceMemory& memory = *runtime.device(comm_->device).memory;
  RankEnds(comm_->segment->name(), StreamOperation::Current());
  for (Running& running : running_) {
    const size_t bytes = running.call.receive_bytes(*comm_);
    if (bytes == 0) continue;
    std::byte* const to = memory.Find(Address(running.call.receive), bytes);
    if (to == nullptr) return cudaErrorIllegalAddress;
    runtime.CheckOrder(memory, Address(running.call.receive), bytes, RangeUse::kWrite);
    std::memcpy(to, Result(&running).data(), bytes);
    memory.SetDefined(Address(running.call.receive), bytes);
  }
  return cudaSuccess;
}

// ---- Operation

Operation::Operation(std::shared_ptr<Communicator> comm, std::vector<Call> calls, bool captured)
    : comm_(std::move(comm)), calls_(std::move(calls)), captured_(captured) {
  if (captured_) return;
  turn_ = comm_->next_turn++;
  has_turn_ = true;
}

cudaError_t Operation::Run() {
  if (comm_->aborted) return cudaSuccess;
  if (!has_turn_) {
    turn_ = comm_->next_turn++;
    has_turn_ = true;
  }
  if (hangs_ || turn_ != comm_->turn) return cudaErrorNotReady;
  if (exchange_ == nullptr) {
    const auto fault = Runtime::Get().faults.Next(FaultPoint::kCollective, comm_->device);
    hangs_ = fault == FaultKind::kHungRank;
    if (hangs_) return cudaErrorNotReady;
    polls_to_wait_ = fault == FaultKind::kSlowRank ? kSlowPolls : 0;
    exchange_ = std::make_unique<Exchange>(comm_.get(), calls_);
    if (const cudaError_t error = exchange_->ReadInputs(); error != cudaSuccess) return error;
  }
  if (polls_to_wait_ > 0) {
    --polls_to_wait_;
    return cudaErrorNotReady;
  }
  if (!exchange_->Advance()) return cudaErrorNotReady;
  const cudaError_t error = exchange_->WriteOutputs();
  exchange_.reset();
  has_turn_ = false;
  ++comm_->turn;
  return error;
}

}  // namespace trireme::gpusim
