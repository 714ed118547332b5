#include "server/observe/telemetry.h"

#include <algorithm>
#include <utility>

#include "absl/time/clock.h"
#include "runtime/base/status.h"
#include "runtime/base/strings.h"
#include "runtime/base/version.h"
#include "server/observe/access_log.h"
#include "server/observe/audit_log.h"
#include "server/observe/otlp_exporter.h"
#include "server/observe/trace_file.h"

namespace trireme {
namespace {

// Metrics and the trace file.
class BothObservers final : public EngineObserver {
 public:
  BothObservers(Metrics* metrics, TraceFile* trace) : metrics_(*metrics), trace_(*trace) {}
  void OnStep(const StepRecord& record) override {
    metrics_.OnStep(record);
    trace_.OnStep(record);
  }
  void OnToken(absl::Duration since_previous) override { metrics_.OnToken(since_previous); }
  void OnFirstToken(absl::Duration since_arrival) override { metrics_.OnFirstToken(since_arrival); }
  void OnFinish(const RequestRecord& record) override { metrics_.OnFinish(record); }

 private:
  Metrics& metrics_;
  TraceFile& trace_;
};

void Count(const FinishedRequest& request, Metrics* metrics) {
  const absl::Duration elapsed = request.end - request.begin;
  if (request.door == FinishedRequest::Door::kHttp) {
    metrics->CountHttp(request.route, request.method, request.http_status, elapsed);
  } else {
    metrics->CountGrpc(request.method, absl::StatusCodeToString(request.grpc_code), elapsed);
  }
}

}  // namespace

struct Telemetry::Impl {
  explicit Impl(std::string_view model_name) : metrics(model_name) {}

  Metrics metrics;
  const Clock* clock = &Clock::Monotonic();
  double sample_ratio = 1;
  bool follow_callers = true;
  // Null: off.
  std::unique_ptr<AccessLog> access_log;
  std::unique_ptr<AuditLog> audit_log;
  std::unique_ptr<TraceFile> trace_file;
  std::unique_ptr<OtlpExporter> otlp;
  std::unique_ptr<BothObservers> both;
};

Telemetry::Telemetry(std::string_view model_name) : impl_(std::make_unique<Impl>(model_name)) {}
Telemetry::Telemetry(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Telemetry::~Telemetry() = default;

absl::StatusOr<std::unique_ptr<Telemetry>> Telemetry::Open(std::string_view model_name,
                                                           const TelemetryOptions& options,
                                                           const Clock* clock) {
  auto impl = std::make_unique<Impl>(model_name);
  impl->clock = clock;
  impl->sample_ratio = options.otlp.sample_ratio;
  impl->follow_callers = options.otlp.follow_callers;
  Metrics& metrics = impl->metrics;
  // Unwraps what Open returned; an error names the flag.
  const auto keep = [](std::string_view flag, auto opened, auto* out) {
    if (!opened.ok()) return Annotate(opened.status(), flag);
    *out = *std::move(opened);
    return absl::OkStatus();
  };
  if (!options.access_log.empty()) {
    auto log = AccessLog::Open(options.access_log, metrics.CounterOfDropped("access_log"));
    TRIREME_RETURN_IF_ERROR(keep("--access-log", std::move(log), &impl->access_log));
  }
  if (!options.audit_log.empty()) {
    auto log = AuditLog::Open(options.audit_log, metrics.CounterOfDropped("audit_log"));
    TRIREME_RETURN_IF_ERROR(keep("--audit-log", std::move(log), &impl->audit_log));
  }
  if (!options.trace_file.empty()) {
    auto file =
        TraceFile::Open(options.trace_file, clock->Now(), metrics.CounterOfDropped("trace_file"));
    TRIREME_RETURN_IF_ERROR(keep("--trace-file", std::move(file), &impl->trace_file));
    impl->both = std::make_unique<BothObservers>(&metrics, impl->trace_file.get());
  }
  if (!options.otlp.url.empty()) {
    impl->otlp = std::make_unique<OtlpExporter>(options.otlp, metrics.CounterOfDropped("otlp"));
  }
  return std::unique_ptr<Telemetry>(new Telemetry(std::move(impl)));
}

Metrics& Telemetry::metrics() { return impl_->metrics; }

EngineObserver* Telemetry::engine_observer() {
  if (impl_->both != nullptr) return impl_->both.get();
  return &impl_->metrics;
}

void Telemetry::OnRequest(FinishedRequest request) {
  Impl& impl = *impl_;
  Count(request, &impl.metrics);
  if (!impl.access_log && !impl.audit_log && !impl.trace_file && !impl.otlp) return;
  request.to_wall = absl::Now() - impl.clock->Now();
  // Who has no key decides nothing here: neither what is exported nor what stands in it.
  if (request.key_refused) request.trace = {};
  const bool traced = impl.otlp != nullptr && !request.routine;
  if (traced && !request.trace.has_id()) {
    request.trace = NewTrace(impl.sample_ratio);
    if (!request.trace.sampled) request.trace = {};  // an id that can be looked up nowhere
  } else if (traced && !impl.follow_callers) {
    request.trace.sampled = SampledByRatio(request.trace.trace_id, impl.sample_ratio);
  }
  const auto shared = std::make_shared<const FinishedRequest>(std::move(request));
  if (impl.access_log) impl.access_log->OnRequest(shared);
  if (impl.audit_log && (!shared->routine || shared->key_refused)) {
    impl.audit_log->OnRequest(shared);
  }
  if (impl.trace_file && shared->generated()) impl.trace_file->OnRequest(shared);
  if (traced && shared->trace.sampled) impl.otlp->OnRequest(shared);
}

absl::Status Telemetry::OnStart(std::string_view model) {
  if (impl_->trace_file) {
    if (absl::Status status = impl_->trace_file->Begin(); !status.ok()) {
      return Annotate(status, "--trace-file");
    }
  }
  if (impl_->audit_log) {
    impl_->audit_log->OnEvent("start", [model = std::string(model)](JsonWriter* json) {
      json->Key("version").String(kVersion).Key("model").String(model);
    });
  }
  return absl::OkStatus();
}

void Telemetry::OnKeysReloaded(bool accepted, size_t num_keys) {
  if (!impl_->audit_log) return;
  impl_->audit_log->OnEvent("keys_reloaded", [accepted, num_keys](JsonWriter* json) {
    json->Key("accepted").Bool(accepted).Key("keys").Int(static_cast<int64_t>(num_keys));
  });
}

void Telemetry::OnStop() {
  if (impl_->audit_log) impl_->audit_log->OnEvent("stop", nullptr);
}

void Telemetry::ReopenLogs() {
  if (impl_->access_log) impl_->access_log->Reopen();
  if (impl_->audit_log) impl_->audit_log->Reopen();
}

void Telemetry::Close(absl::Duration patience) {
  const absl::Time deadline = impl_->clock->Now() + patience;
  const auto left = [&] { return std::max(deadline - impl_->clock->Now(), absl::ZeroDuration()); };
  // All of them work at the same time, so that one that is stuck takes nothing from the others.
  if (impl_->access_log) impl_->access_log->BeginClose();
  if (impl_->audit_log) impl_->audit_log->BeginClose();
  if (impl_->trace_file) impl_->trace_file->BeginClose();
  if (impl_->otlp) impl_->otlp->BeginClose();
  // The exporter first: until it is told otherwise, it goes on trying. The others have nothing to
  // do but to be waited for.
  if (impl_->otlp) impl_->otlp->Close(left());
  if (impl_->access_log) impl_->access_log->Close(left());
  if (impl_->audit_log) impl_->audit_log->Close(left());
  if (impl_->trace_file) impl_->trace_file->Close(left());
}

}  // namespace trireme
