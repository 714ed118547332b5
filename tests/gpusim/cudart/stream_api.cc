// Streams and events.
#include <chrono>
#include <functional>
#include <memory>

#include "tests/gpusim/cudart/graph.h"
#include "tests/gpusim/cudart/runtime.h"

using trireme::gpusim::Capture;
using trireme::gpusim::Point;
using trireme::gpusim::Record;
using trireme::gpusim::Runtime;

namespace trireme::gpusim {
namespace {

constexpr int kLeastPriority = 0, kGreatestPriority = -5;

bool IsEvent(cudaEvent_t event) {
  Runtime& runtime = Runtime::Get();
  std::lock_guard lock(runtime.mu);
  return runtime.events.contains(event);
}

double Now() {
  using Milliseconds = std::chrono::duration<double, std::milli>;
  return Milliseconds(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Waiting for a stream that captures makes no sense, and ends the capture.
bool Captures(CUstream_st* stream) {
  if (stream->capture == nullptr) return false;
  stream->capture->broken = true;
  return true;
}

cudaError_t NewStream(cudaStream_t* stream, unsigned flags, int priority) {
  if ((flags & ~static_cast<unsigned>(cudaStreamNonBlocking)) != 0) return cudaErrorInvalidValue;
  Runtime& runtime = Runtime::Get();
  if (Sticky() != cudaSuccess) return Sticky();
  auto* const made = new CUstream_st();
  made->queue = runtime.queues.Create(Runtime::current_device(), false,
                                      (flags & cudaStreamNonBlocking) == 0, priority);
  std::lock_guard lock(runtime.mu);
  runtime.streams.insert(made);
  *stream = made;
  return cudaSuccess;
}

}  // namespace
}  // namespace trireme::gpusim

extern "C" {

cudaError_t cudaStreamCreate(cudaStream_t* stream) {
  return Record(trireme::gpusim::NewStream(stream, cudaStreamDefault, 0));
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  return Record(trireme::gpusim::NewStream(stream, flags, 0));
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned flags, int priority) {
  return Record(trireme::gpusim::NewStream(stream, flags, priority));
}

cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  *least = trireme::gpusim::kLeastPriority;
  *greatest = trireme::gpusim::kGreatestPriority;
  return Record(cudaSuccess);
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  Runtime& runtime = Runtime::Get();
  {
    std::lock_guard lock(runtime.mu);
    if (runtime.streams.erase(stream) == 0) return Record(cudaErrorInvalidResourceHandle);
  }
  runtime.queues.Destroy(stream->queue);
  delete stream;
  return Record(cudaSuccess);
}

cudaError_t cudaStreamSynchronize(cudaStream_t handle) {
  Runtime& runtime = Runtime::Get();
  CUstream_st* const stream = runtime.Resolve(handle);
  if (stream == nullptr) return Record(cudaErrorInvalidResourceHandle);
  if (trireme::gpusim::Captures(stream)) return Record(cudaErrorStreamCaptureUnsupported);
  runtime.queues.Finish(runtime.queues.End(stream->queue));
  return Record(cudaSuccess);
}

cudaError_t cudaStreamQuery(cudaStream_t handle) {
  Runtime& runtime = Runtime::Get();
  CUstream_st* const stream = runtime.Resolve(handle);
  if (stream == nullptr) return Record(cudaErrorInvalidResourceHandle);
  if (trireme::gpusim::Captures(stream)) return Record(cudaErrorStreamCaptureUnsupported);
  const bool done = runtime.queues.IsDone(runtime.queues.End(stream->queue));
  return Record(done ? cudaSuccess : cudaErrorNotReady);
}

cudaError_t cudaStreamGetDevice(cudaStream_t handle, int* device) {
  CUstream_st* const stream = Runtime::Get().Resolve(handle);
  if (stream == nullptr) return Record(cudaErrorInvalidResourceHandle);
  *device = stream->queue->device;
  return Record(cudaSuccess);
}

cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void* data) {
  return Record(Runtime::Get().Submit(stream, "host function", [function, data] {
    // Whoever it tells knows that all before it is done.
    trireme::gpusim::HostLearns(trireme::gpusim::StreamOperation::Current()->Clock());
    function(data);
    return cudaSuccess;
  }));
}

cudaError_t cudaEventCreate(cudaEvent_t* event) { return cudaEventCreateWithFlags(event, 0); }

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags) {
  Runtime& runtime = Runtime::Get();
  if (const cudaError_t error = Record(cudaSuccess); error != cudaSuccess) return error;
  auto* const made = new CUevent_st();
  made->timed = (flags & cudaEventDisableTiming) == 0;
  std::lock_guard lock(runtime.mu);
  runtime.events.insert(made);
  *event = made;
  return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  Runtime& runtime = Runtime::Get();
  std::lock_guard lock(runtime.mu);
  if (runtime.events.erase(event) == 0) return Record(cudaErrorInvalidResourceHandle);
  delete event;
  return Record(cudaSuccess);
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t handle) {
  Runtime& runtime = Runtime::Get();
  CUstream_st* const stream = runtime.Resolve(handle);
  if (stream == nullptr || !trireme::gpusim::IsEvent(event)) {
    return Record(cudaErrorInvalidResourceHandle);
  }
  event->capture = stream->capture;
  if (stream->capture != nullptr) {
    event->captured_after = stream->capture->last[stream];
    return Record(cudaSuccess);
  }
  event->milliseconds = std::make_shared<double>(0);
  const cudaError_t error = runtime.Submit(handle, "event", [reached = event->milliseconds] {
    *reached = trireme::gpusim::Now();
    return cudaSuccess;
  });
  event->point = runtime.queues.End(stream->queue);
  return Record(error);
}

cudaError_t cudaEventRecordWithFlags(cudaEvent_t event, cudaStream_t stream, unsigned flags) {
  if (flags != cudaEventRecordDefault) return Record(cudaErrorNotSupported);
  return cudaEventRecord(event, stream);
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  if (!trireme::gpusim::IsEvent(event)) return Record(cudaErrorInvalidResourceHandle);
  if (event->capture != nullptr) return Record(cudaErrorCapturedEvent);
  Runtime::Get().queues.Finish(event->point);
  return Record(cudaSuccess);
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
  if (!trireme::gpusim::IsEvent(event)) return Record(cudaErrorInvalidResourceHandle);
  if (event->capture != nullptr) return Record(cudaErrorCapturedEvent);
  return Record(Runtime::Get().queues.IsDone(event->point) ? cudaSuccess : cudaErrorNotReady);
}

// What the simulation took: it says nothing about a GPU.
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end) {
  for (const cudaEvent_t event : {start, end}) {
    if (!trireme::gpusim::IsEvent(event) || !event->timed || event->milliseconds == nullptr) {
      return Record(cudaErrorInvalidResourceHandle);
    }
    if (!Runtime::Get().queues.IsDone(event->point)) return Record(cudaErrorNotReady);
  }
  *milliseconds = static_cast<float>(*end->milliseconds - *start->milliseconds);
  return Record(cudaSuccess);
}

cudaError_t cudaStreamWaitEvent(cudaStream_t handle, cudaEvent_t event, unsigned flags) {
  Runtime& runtime = Runtime::Get();
  CUstream_st* const stream = runtime.Resolve(handle);
  if (stream == nullptr || !trireme::gpusim::IsEvent(event)) {
    return Record(cudaErrorInvalidResourceHandle);
  }
  if (flags != cudaEventWaitDefault) return Record(cudaErrorNotSupported);
  if (event->capture != nullptr) {
    // The stream joins the capture, or waits for another branch of it.
    if (stream->capture != nullptr && stream->capture != event->capture) {
      return Record(cudaErrorStreamCaptureUnmatched);
    }
    stream->capture = event->capture;
    auto& last = stream->capture->last[stream];
    last.insert(last.end(), event->captured_after.begin(), event->captured_after.end());
    return Record(cudaSuccess);
  }
  if (stream->capture != nullptr) {
    stream->capture->broken = true;
    return Record(cudaErrorStreamCaptureUnsupported);  // it depends on what is outside the capture
  }
  runtime.queues.WaitFor(stream->queue, event->point);
  return Record(cudaSuccess);
}

}  // extern "C"
