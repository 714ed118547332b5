#include "tests/gpusim/cudart/memory.h"

#include <cstring>
#include <memory>
#include <vector>

#include "runtime/base/strings.h"
#include "tests/gpusim/cudart/graph.h"
#include "tests/gpusim/cudart/runtime.h"

namespace trireme::gpusim {
namespace {

uint64_t Number(const void* pointer) { return reinterpret_cast<uint64_t>(pointer); }

// Where a pointer points. `memory` is null for what only the host knows.
struct Place {
  DeviceMemory* memory = nullptr;
  bool on_device = false;
  bool locked = false;  // page-locked: a copy may be under way while the host goes on
};

Place PlaceOf(const void* pointer) {
  Runtime& runtime = Runtime::Get();
  const uint64_t address = Number(pointer);
  for (int i = 0; i < runtime.num_devices(); ++i) {
    if (runtime.device(i).memory->Owns(address))
      return {runtime.device(i).memory.get(), true, true};
  }
  if (runtime.host_memory.Owns(address)) return {&runtime.host_memory, false, true};
  std::lock_guard lock(runtime.mu);
  auto it = runtime.registered_host.upper_bound(pointer);
  if (it != runtime.registered_host.begin()) {
    --it;
    if (address - Number(it->first) < it->second) return {nullptr, false, true};
  }
  return {};
}

// Null: runs over the end of its allocation.
std::byte* BytesAt(const Place& place, const void* pointer, size_t bytes) {
  if (place.memory != nullptr) return place.memory->Find(Number(pointer), bytes);
  return static_cast<std::byte*>(const_cast<void*>(pointer));
}

bool KindFits(cudaMemcpyKind kind, const Place& to, const Place& from) {
  switch (kind) {
    case cudaMemcpyHostToHost:
      return !to.on_device && !from.on_device;
    case cudaMemcpyHostToDevice:
      return to.on_device && !from.on_device;
    case cudaMemcpyDeviceToHost:
      return !to.on_device && from.on_device;
    case cudaMemcpyDeviceToDevice:
      return to.on_device && from.on_device;
    default:
      return kind == cudaMemcpyDefault;
  }
}

size_t Span(size_t pitch, size_t width, size_t height) { return pitch * (height - 1) + width; }

// One row, and with it what is known of its bytes.
bool CopyRow(const Place& to_place, const void* to, const Place& from_place, const void* from,
             size_t bytes) {
  std::byte* const target = BytesAt(to_place, to, bytes);
  const std::byte* const source = BytesAt(from_place, from, bytes);
  if (target == nullptr || source == nullptr) return false;
  Runtime& runtime = Runtime::Get();
  if (from_place.memory != nullptr) {
    runtime.CheckOrder(*from_place.memory, Number(from), bytes, RangeUse::kRead);
  }
  if (to_place.memory != nullptr) {
    runtime.CheckOrder(*to_place.memory, Number(to), bytes, RangeUse::kWrite);
  }
  std::memmove(target, source, bytes);
  if (to_place.on_device && from_place.on_device) {
    to_place.memory->CopyDefined(Number(to), *from_place.memory, Number(from), bytes);
  } else if (to_place.on_device) {
    to_place.memory->SetDefined(Number(to), bytes);
  }
  return true;
}

cudaError_t Gone(std::string_view what) {
  return Explain(cudaErrorIllegalAddress,
                 StrCat(what, " reaches memory that was freed while it was in its stream"));
}

}  // namespace

cudaError_t Copy(const Rows& rows, cudaMemcpyKind kind, cudaStream_t stream, Synchrony synchrony) {
  if (rows.width == 0 || rows.height == 0) return cudaSuccess;
  Runtime& runtime = Runtime::Get();
  if (rows.to == nullptr || rows.from == nullptr) return cudaErrorInvalidValue;
  if (rows.height > 1 && (rows.to_pitch < rows.width || rows.from_pitch < rows.width)) {
    return cudaErrorInvalidValue;
  }
  const Place to = PlaceOf(rows.to), from = PlaceOf(rows.from);
  if (!KindFits(kind, to, from)) {
    return Explain(cudaErrorInvalidValue, "a copy's pointers are not of its cudaMemcpyKind");
  }
  if (BytesAt(to, rows.to, Span(rows.to_pitch, rows.width, rows.height)) == nullptr ||
      BytesAt(from, rows.from, Span(rows.from_pitch, rows.width, rows.height)) == nullptr) {
    return Explain(cudaErrorInvalidValue, "a copy runs over the end of an allocation");
  }
  CUstream_st* const queue = runtime.Resolve(stream);
  if (queue == nullptr) return cudaErrorInvalidResourceHandle;
  const bool captured = queue->capture != nullptr;
  Rows work = rows;
  std::shared_ptr<std::vector<std::byte>> staged;
  if (!from.locked && !captured) {
    staged = std::make_shared<std::vector<std::byte>>(rows.width * rows.height);
    for (size_t y = 0; y < rows.height; ++y) {
      std::memcpy(staged->data() + y * rows.width,
                  static_cast<const char*>(rows.from) + y * rows.from_pitch, rows.width);
    }
    work.from = staged->data();
    work.from_pitch = rows.width;
  }
  const cudaError_t error = runtime.Submit(stream, "copy", [work, to, from, staged] {
    for (size_t y = 0; y < work.height; ++y) {
      if (!CopyRow(to, static_cast<char*>(work.to) + y * work.to_pitch, from,
                   static_cast<const char*>(work.from) + y * work.from_pitch, work.width)) {
        return Gone("a copy");
      }
    }
    return cudaSuccess;
  });
  if (error != cudaSuccess || captured) return error;
  if (synchrony == Synchrony::kWaits || !to.locked) {
    runtime.queues.Finish(runtime.queues.End(queue->queue));
  }
  return cudaSuccess;
}

cudaError_t Set(void* to, int value, size_t bytes, cudaStream_t stream) {
  if (bytes == 0) return cudaSuccess;
  const Place place = PlaceOf(to);
  if (place.memory == nullptr || BytesAt(place, to, bytes) == nullptr) {
    return Explain(cudaErrorInvalidValue, "a memset runs over the end of an allocation");
  }
  return Runtime::Get().Submit(stream, "set", [place, to, value, bytes] {
    std::byte* const target = BytesAt(place, to, bytes);
    if (target == nullptr) return Gone("a memset");
    Runtime::Get().CheckOrder(*place.memory, Number(to), bytes, RangeUse::kWrite);
    std::memset(target, value, bytes);
    place.memory->SetDefined(Number(to), bytes);
    return cudaSuccess;
  });
}

}  // namespace trireme::gpusim
