// Turns a step plan into results: drives all ranks of the model, and the sampler.
#pragma once

#include "absl/status/status.h"
#include "runtime/engine/request.h"
#include "runtime/scheduler/step_plan.h"

namespace trireme {

// Engine thread only. Submit and Collect alternate. Between them the engine delivers what the step
// before brought, closing what that ended, and plans ahead.
class Executor {
 public:
  virtual ~Executor() = default;
  // A sequence is about to enter the scheduler / has left it: sampler state (penalty counts, random
  // stream) lives here.
  virtual void Open(RequestId id, const GenerateRequest& request) = 0;
  virtual void Close(RequestId id) = 0;

  // `plan` stays valid until Collect has returned, and so do the tokens and blocks of its
  // sequences.
  virtual void Submit(const StepPlan& plan) = 0;
  // Waits, and makes `result` that of the plan, whatever it was; unspecified on error. An error
  // means that the device is lost: every request fails, and nothing but the destructor is called
  // after it.
  virtual absl::Status Collect(StepResult* result) = 0;
};

}  // namespace trireme
