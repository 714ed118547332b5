#include "server/observe/metrics.h"

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <mutex>
#include <utility>
#include <vector>

#include "runtime/base/strings.h"

namespace trireme {
namespace {

using prometheus::ClientMetric;
using prometheus::Histogram;
using prometheus::Labels;
using prometheus::MetricFamily;
using prometheus::MetricType;
using Buckets = Histogram::BucketBoundaries;

// Our name -> the name that the tools of this field read.
constexpr std::pair<std::string_view, const char*> kAliases[] = {
    {"trireme_requests_running", "vllm:num_requests_running"},
    {"trireme_requests_waiting", "vllm:num_requests_waiting"},
    {"trireme_kv_cache_usage_ratio", "vllm:kv_cache_usage_perc"},
    {"trireme_prompt_tokens_total", "vllm:prompt_tokens_total"},
    {"trireme_generation_tokens_total", "vllm:generation_tokens_total"},
    {"trireme_requests_finished_total", "vllm:request_success_total"},
    {"trireme_preemptions_total", "vllm:num_preemptions_total"},
    {"trireme_prefix_cache_query_tokens_total", "vllm:prefix_cache_queries_total"},
    {"trireme_prefix_cache_hit_tokens_total", "vllm:prefix_cache_hits_total"},
    {"trireme_time_to_first_token_seconds", "vllm:time_to_first_token_seconds"},
    {"trireme_inter_token_latency_seconds", "vllm:inter_token_latency_seconds"},
    {"trireme_request_latency_seconds", "vllm:e2e_request_latency_seconds"},
    {"trireme_request_queue_seconds", "vllm:request_queue_time_seconds"},
    {"trireme_request_prefill_seconds", "vllm:request_prefill_time_seconds"},
    {"trireme_request_decode_seconds", "vllm:request_decode_time_seconds"},
    {"trireme_request_inference_seconds", "vllm:request_inference_time_seconds"},
    {"trireme_request_prompt_tokens", "vllm:request_prompt_tokens"},
    {"trireme_request_generation_tokens", "vllm:request_generation_tokens"},
    {"trireme_step_tokens", "vllm:iteration_tokens_total"},
};

const Buckets kLatencyBuckets = {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5,
                                 1,     2.5,    5,     10,   30,    60,   120, 300,  600};
const Buckets kTokenIntervalBuckets = {0.0005, 0.001, 0.0025, 0.005, 0.0075, 0.01, 0.015,
                                       0.02,   0.03,  0.04,   0.05,  0.075,  0.1,  0.15,
                                       0.2,    0.3,   0.5,    1,     5};
const Buckets kTokenCountBuckets = {1,    2,    5,    10,    20,    50,    100,    200,   500,
                                    1000, 2000, 5000, 10000, 20000, 50000, 100000, 200000};
const Buckets kStepTokenBuckets = {1,   2,   4,    8,    16,   32,   64,   128,
                                   256, 512, 1024, 2048, 4096, 8192, 16384};

// The value of the finished_reason label; the names are the ones that dashboards of this field
// expect.
const char* ReasonLabel(FinishReason reason) {
  switch (reason) {
    case FinishReason::kStop:
      return "stop";
    case FinishReason::kLength:
      return "length";
    case FinishReason::kCancelled:
      return "abort";
    case FinishReason::kDeadline:
      return "timeout";
    case FinishReason::kNone:
    case FinishReason::kError:
      break;
  }
  return "error";
}
constexpr int kNumReasons = static_cast<int>(FinishReason::kError) + 1;

// A stage that never began (a request cancelled in the queue) leaves its times at the epoch or
// infinity: no sample.
void ObserveSpan(Histogram& histogram, absl::Time begin, absl::Time end) {
  if (begin <= absl::UnixEpoch() || end == absl::InfiniteFuture() || end < begin) return;
  histogram.Observe(absl::ToDoubleSeconds(end - begin));
}

}  // namespace

struct Metrics::Impl {
  explicit Impl(std::string_view model_name)
      : labels{{"model_name", std::string(model_name)}, {"engine", "0"}},
        time_to_first_token(Distribution("trireme_time_to_first_token_seconds",
                                         "Arrival to first token.", kLatencyBuckets)),
        inter_token(Distribution("trireme_inter_token_latency_seconds",
                                 "Time between tokens of one request.", kTokenIntervalBuckets)),
        latency(Distribution("trireme_request_latency_seconds", "Arrival to last token.",
                             kLatencyBuckets)),
        queue(Distribution("trireme_request_queue_seconds", "Arrival to first step.",
                           kLatencyBuckets)),
        prefill(Distribution("trireme_request_prefill_seconds", "First step to first token.",
                             kLatencyBuckets)),
        decode(Distribution("trireme_request_decode_seconds", "First token to last token.",
                            kLatencyBuckets)),
        inference(Distribution("trireme_request_inference_seconds", "First step to last token.",
                               kLatencyBuckets)),
        prompt_tokens(Distribution("trireme_request_prompt_tokens", "Prompt tokens per request.",
                                   kTokenCountBuckets)),
        generated_tokens(Distribution("trireme_request_generation_tokens",
                                      "Generated tokens per request.", kTokenCountBuckets)),
        step_tokens(Distribution("trireme_step_tokens", "Tokens computed per engine step.",
                                 kStepTokenBuckets)),
        step_seconds(Distribution("trireme_step_seconds", "Duration of an engine step.",
                                  kTokenIntervalBuckets)) {
    auto& family = prometheus::BuildCounter()
                       .Name("trireme_requests_finished_total")
                       .Help("Finished engine requests by reason.")
                       .Labels(labels)
                       .Register(registry);
    for (int i = 0; i < kNumReasons; ++i) {
      finished[i] = &family.Add({{"finished_reason", ReasonLabel(static_cast<FinishReason>(i))}});
    }
  }

  Histogram& Distribution(const char* name, const char* help, const Buckets& buckets) {
    return prometheus::BuildHistogram().Name(name).Help(help).Labels(labels).Register(registry).Add(
        {}, buckets);
  }

  std::vector<ClientMetric::Label> LabelsWith(
      const std::vector<std::pair<std::string, std::string>>& more) const {
    std::vector<ClientMetric::Label> all;
    for (const auto& [name, value] : labels) all.push_back({name, value});
    for (const auto& [name, value] : more) all.push_back({name, value});
    return all;
  }
  MetricFamily Single(MetricType type, const char* name, const char* help, double value,
                      const std::vector<std::pair<std::string, std::string>>& more = {}) const {
    ClientMetric metric;
    metric.label = LabelsWith(more);
    (type == MetricType::Counter ? metric.counter.value : metric.gauge.value) = value;
    return {name, help, type, {std::move(metric)}};
  }
  void AppendEngine(std::vector<MetricFamily>* out) const;

  const Labels labels;
  prometheus::Registry registry;
  Histogram &time_to_first_token, &inter_token, &latency, &queue, &prefill, &decode, &inference,
      &prompt_tokens, &generated_tokens, &step_tokens, &step_seconds;
  prometheus::Counter* finished[kNumReasons];  // by FinishReason; never null
  prometheus::Family<prometheus::Counter>& http_requests = prometheus::BuildCounter()
                                                               .Name("trireme_http_requests_total")
                                                               .Help("Answered HTTP requests.")
                                                               .Register(registry);
  prometheus::Family<Histogram>& http_seconds = prometheus::BuildHistogram()
                                                    .Name("trireme_http_request_seconds")
                                                    .Help("Request read to answer written.")
                                                    .Register(registry);
  prometheus::Family<prometheus::Counter>& grpc_requests = prometheus::BuildCounter()
                                                               .Name("trireme_grpc_requests_total")
                                                               .Help("Answered gRPC calls.")
                                                               .Register(registry);
  prometheus::Family<Histogram>& grpc_seconds = prometheus::BuildHistogram()
                                                    .Name("trireme_grpc_request_seconds")
                                                    .Help("Call start to status sent.")
                                                    .Register(registry);
  prometheus::Gauge& http_connections = prometheus::BuildGauge()
                                            .Name("trireme_http_connections")
                                            .Help("Open HTTP connections.")
                                            .Register(registry)
                                            .Add({});

  prometheus::Family<prometheus::Counter>& dropped =
      prometheus::BuildCounter()
          .Name("trireme_telemetry_dropped_total")
          .Help("Records that a log or exporter lost: its queue was full, or its end failed.")
          .Register(registry);

  mutable std::mutex mu;
  const Engine* engine = nullptr;  // guarded by mu
};

void Metrics::Impl::AppendEngine(std::vector<MetricFamily>* out) const {
  EngineStats stats;
  int block_size = 0;
  {
    std::lock_guard lock(mu);
    if (engine == nullptr) return;
    stats = engine->stats();
    block_size = engine->options().scheduler.block_size;
  }
  const SchedulerStats& s = stats.scheduler;
  const auto gauge = [&](const char* name, const char* help, double value) {
    out->push_back(Single(MetricType::Gauge, name, help, value));
  };
  const auto counter = [&](const char* name, const char* help, uint64_t value) {
    out->push_back(Single(MetricType::Counter, name, help, static_cast<double>(value)));
  };
  gauge("trireme_requests_running", "Sequences that hold KV blocks.", s.running);
  gauge("trireme_requests_waiting", "Sequences in the queue.", s.waiting);
  gauge("trireme_waiting_prompt_tokens", "Prompt tokens in the queue.",
        static_cast<double>(s.waiting_prompt_tokens));
  gauge("trireme_kv_cache_usage_ratio", "Held KV blocks over all, 0 to 1.",
        s.blocks_total > 0 ? static_cast<double>(s.blocks_held) / s.blocks_total : 0);
  gauge("trireme_kv_blocks", "KV blocks.", s.blocks_total);
  gauge("trireme_kv_blocks_held", "KV blocks held by running sequences.", s.blocks_held);
  gauge("trireme_kv_blocks_cached", "KV blocks kept for prefix reuse.", s.blocks_cached);
  gauge("trireme_draining", "1 while new requests are refused.", stats.draining ? 1 : 0);
  counter("trireme_steps_total", "Engine steps.", s.steps);
  counter("trireme_prompt_tokens_total", "Prompt tokens computed.", s.prompt_tokens);
  counter("trireme_generation_tokens_total", "Tokens generated.", s.generated_tokens);
  counter("trireme_preemptions_total", "Sequences preempted.", s.preemptions);
  counter("trireme_prefix_cache_query_tokens_total", "Prompt tokens looked up in the prefix cache.",
          s.prefix_queries_tokens);
  counter("trireme_prefix_cache_hit_tokens_total", "Prompt tokens found in the prefix cache.",
          s.prefix_hit_tokens);
  counter("trireme_requests_submitted_total", "Requests the engine accepted.", stats.submitted);
  counter("trireme_requests_refused_total", "Requests the engine refused.", stats.refused);
  out->push_back(Single(MetricType::Gauge, "vllm:cache_config_info", "KV cache configuration.", 1,
                        {{"block_size", std::to_string(block_size)},
                         {"num_gpu_blocks", std::to_string(s.blocks_total)}}));
  // No adapters are served: the empty form of what routers parse.
  out->push_back(
      Single(MetricType::Gauge, "vllm:lora_requests_info", "LoRA adapters in use.", 0,
             {{"max_lora", "0"}, {"running_lora_adapters", ""}, {"waiting_lora_adapters", ""}}));
}

Metrics::Metrics(std::string_view model_name) : impl_(std::make_shared<Impl>(model_name)) {
  // From zero on, whether the sink is in use or not: the first loss is a change that alerts see.
  for (const std::string_view sink : {"access_log", "audit_log", "otlp", "trace_file"}) {
    CounterOfDropped(sink);
  }
}
Metrics::~Metrics() = default;

void Metrics::Attach(const Engine* engine) {
  std::lock_guard lock(impl_->mu);
  impl_->engine = engine;
}

void Metrics::OnStep(const StepRecord& record) {
  impl_->step_tokens.Observe(record.tokens);
  impl_->step_seconds.Observe(absl::ToDoubleSeconds(record.end - record.begin));
}
void Metrics::OnToken(absl::Duration since_previous) {
  impl_->inter_token.Observe(absl::ToDoubleSeconds(since_previous));
}
void Metrics::OnFirstToken(absl::Duration since_arrival) {
  impl_->time_to_first_token.Observe(absl::ToDoubleSeconds(since_arrival));
}

void Metrics::OnFinish(const RequestRecord& record) {
  const bool scheduled = record.first_scheduled > absl::UnixEpoch();
  const bool produced = record.generated_tokens > 0;
  impl_->finished[static_cast<int>(record.finish)]->Increment();
  ObserveSpan(impl_->latency, record.arrival, record.finished);
  if (scheduled) {
    ObserveSpan(impl_->queue, record.arrival, record.first_scheduled);
    ObserveSpan(impl_->inference, record.first_scheduled, record.finished);
  }
  if (scheduled && produced) {
    ObserveSpan(impl_->prefill, record.first_scheduled, record.first_token);
    ObserveSpan(impl_->decode, record.first_token, record.finished);
  }
  impl_->prompt_tokens.Observe(record.prompt_tokens);
  impl_->generated_tokens.Observe(record.generated_tokens);
}

void Metrics::CountHttp(std::string_view route, std::string_view method, int status_code,
                        absl::Duration elapsed) {
  impl_->http_requests
      .Add({{"route", std::string(route)},
            {"method", std::string(method)},
            {"code", std::to_string(status_code)}})
      .Increment();
  impl_->http_seconds.Add({{"route", std::string(route)}}, kLatencyBuckets)
      .Observe(absl::ToDoubleSeconds(elapsed));
}

void Metrics::CountGrpc(std::string_view method, std::string_view status_code,
                        absl::Duration elapsed) {
  impl_->grpc_requests.Add({{"method", std::string(method)}, {"code", std::string(status_code)}})
      .Increment();
  impl_->grpc_seconds.Add({{"method", std::string(method)}}, kLatencyBuckets)
      .Observe(absl::ToDoubleSeconds(elapsed));
}

std::function<void(int64_t)> Metrics::CounterOfDropped(std::string_view sink) {
  prometheus::Counter* counter = &impl_->dropped.Add({{"sink", std::string(sink)}});
  return [impl = impl_, counter](int64_t records) {
    counter->Increment(static_cast<double>(records));
  };
}

void Metrics::AddHttpConnections(int delta) { impl_->http_connections.Increment(delta); }

std::string Metrics::Render() const {
  std::vector<MetricFamily> families = impl_->registry.Collect();
  impl_->AppendEngine(&families);
  const size_t own = families.size();
  families.reserve(own + std::size(kAliases));
  for (size_t i = 0; i < own; ++i) {
    for (const auto& [name, alias] : kAliases) {
      if (families[i].name != name) continue;
      MetricFamily copy = families[i];
      copy.name = alias;
      families.push_back(std::move(copy));
    }
  }
  return prometheus::TextSerializer().Serialize(families);
}

}  // namespace trireme
