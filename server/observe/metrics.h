// What the node tells Prometheus. Every engine number appears twice: under our own name (trireme_*,
// base units) and under the `vllm:` name that load tools, routers and autoscalers read; the second
// is a copy made while rendering, so the engine thread pays once. Labels of both: model_name,
// engine="0".
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "absl/time/time.h"
#include "runtime/engine/engine.h"

namespace trireme {

// Thread-safe. The observer calls cost one uncontended lock each and never allocate.
class Metrics final : public EngineObserver {
 public:
  explicit Metrics(std::string_view model_name);
  ~Metrics() override;

  // Whose stats() the gauges are read from at each Render; null (the start) leaves them out.
  // `engine` must stay alive until Attach(nullptr) has returned.
  void Attach(const Engine* engine);

  void OnStep(const StepRecord& record) override;
  void OnToken(absl::Duration since_previous) override;
  void OnFirstToken(absl::Duration since_arrival) override;
  void OnFinish(const RequestRecord& record) override;

  // One answered request. `route` and `method` come from fixed tables, never from the client:
  // labels stay bounded.
  void CountHttp(std::string_view route, std::string_view method, int status_code,
                 absl::Duration elapsed);
  void CountGrpc(std::string_view method, std::string_view status_code, absl::Duration elapsed);
  void AddHttpConnections(int delta);
  // Counts what a log or an exporter lost, into trireme_telemetry_dropped_total{sink}. May be
  // called for as long as anybody likes, even after the metrics are gone.
  std::function<void(int64_t records)> CounterOfDropped(std::string_view sink);

  // Prometheus text exposition format 0.0.4.
  std::string Render() const;

 private:
  struct Impl;
  const std::shared_ptr<Impl> impl_;  // shared with drop counters
};

}  // namespace trireme
