// Turns a step plan into results: drives all ranks of the model, and the sampler.
#pragma once

#include "absl/status/statusor.h"
#include "runtime/engine/request.h"
#include "runtime/scheduler/step_plan.h"

namespace trireme {

// Engine thread only. Submit and Collect alternate; between them the engine may plan ahead.
class Executor {
 public:
  virtual ~Executor() = default;
  // A sequence is about to enter the scheduler / has left it: sampler state (penalty counts, random
  // stream) lives here.
  virtual void Open(RequestId id, const GenerateRequest& request) = 0;
  virtual void Close(RequestId id) = 0;

  // `plan` and its sequences stay valid until Collect has returned.
  virtual void Submit(const StepPlan& plan) = 0;
  // An error means that the device is lost: every request fails, and nothing but the destructor is
  // called after it.
  virtual absl::StatusOr<StepResult> Collect() = 0;
};

}  // namespace trireme
