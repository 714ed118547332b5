#include "server/observe/otlp_encoder.h"

#include "runtime/base/json_writer.h"
#include "runtime/base/strings.h"
#include "runtime/base/version.h"

namespace trireme {
namespace {

// Enumerators of opentelemetry.proto.trace.v1.
constexpr int kSpanKindInternal = 1, kSpanKindServer = 2;
constexpr int kStatusError = 2;
constexpr int kFlagSampled = 0x1, kFlagHasIsRemote = 0x100, kFlagIsRemote = 0x200;
constexpr size_t kMaxFinishReasons = 128;

using SpanId = std::array<uint8_t, 8>;

// {"key":...,"value":{"stringValue":...}} and the like, into an open array.
class Attributes {
 public:
  explicit Attributes(JsonWriter* json) : json_(*json) { json_.Key("attributes").BeginArray(); }
  ~Attributes() { json_.EndArray(); }
  Attributes(const Attributes&) = delete;
  Attributes& operator=(const Attributes&) = delete;

  void String(std::string_view key, std::string_view value) {
    Begin(key).Key("stringValue").String(value);
    End();
  }
  void Int(std::string_view key, int64_t value) {
    Begin(key).Key("intValue").String(std::to_string(value));
    End();
  }
  void Strings(std::string_view key, const std::vector<std::string_view>& values) {
    Begin(key).Key("arrayValue").BeginObject().Key("values").BeginArray();
    for (const std::string_view value : values) {
      json_.BeginObject().Key("stringValue").String(value).EndObject();
    }
    json_.EndArray().EndObject();
    End();
  }

 private:
  JsonWriter& Begin(std::string_view key) {
    return json_.BeginObject().Key("key").String(key).Key("value").BeginObject();
  }
  void End() { json_.EndObject().EndObject(); }

  JsonWriter& json_;
};

class RequestEncoder {
 public:
  RequestEncoder(const FinishedRequest& request, JsonWriter* json)
      : request_(request), json_(*json) {}

  void Encode() {
    const SpanId id = NewSpanId();
    const int remote = request_.trace.has_parent() ? kFlagIsRemote : 0;
    BeginSpan(Name(), kSpanKindServer, id, request_.trace.parent_id, remote, request_.begin,
              request_.end);
    {
      Attributes attributes(&json_);
      Transport(&attributes);
      if (request_.generated()) Generation(&attributes);
    }
    if (failed()) {
      json_.Key("status").BeginObject().Key("code").Int(kStatusError).EndObject();
    }
    json_.EndObject();
    for (const FinishedRequest::Phase& phase : request_.phases()) {
      BeginSpan(phase.name, kSpanKindInternal, NewSpanId(), id, 0, phase.begin, phase.end);
      json_.EndObject();
    }
  }

 private:
  bool http() const { return request_.door == FinishedRequest::Door::kHttp; }
  // What a server is to blame for; a refused request is the client's error.
  bool failed() const { return request_.outcome() == FinishedRequest::Outcome::kFailed; }

  std::string Name() const {
    return http() ? StrCat(request_.method, " ", request_.route) : std::string(request_.route);
  }

  void BeginSpan(std::string_view name, int kind, const SpanId& id, const SpanId& parent, int flags,
                 absl::Time begin, absl::Time end) {
    const auto nanos = [this](absl::Time time) {
      return std::to_string(absl::ToUnixNanos(time + request_.to_wall));
    };
    json_.BeginObject().Key("traceId").String(ToHex(request_.trace.trace_id));
    json_.Key("spanId").String(ToHex(id));
    if (parent != SpanId{}) json_.Key("parentSpanId").String(ToHex(parent));
    if (!request_.trace.tracestate.empty()) {
      json_.Key("traceState").String(request_.trace.tracestate);
    }
    json_.Key("flags").Int(kFlagSampled | kFlagHasIsRemote | flags);
    json_.Key("name").String(name).Key("kind").Int(kind);
    json_.Key("startTimeUnixNano").String(nanos(begin));
    json_.Key("endTimeUnixNano").String(nanos(end));
  }

  void Transport(Attributes* out) const {
    if (http()) {
      out->String("http.request.method", request_.method);
      out->String("http.route", request_.route);
      out->Int("http.response.status_code", request_.http_status);
    } else {
      const size_t slash = request_.route.find('/');
      out->String("rpc.system", "grpc");
      out->String("rpc.service", request_.route.substr(0, slash));
      out->String("rpc.method", request_.method);
      out->Int("rpc.grpc.status_code", static_cast<int>(request_.grpc_code));
    }
    const FinishedRequest::Outcome outcome = request_.outcome();
    out->String("trireme.request.id", request_.id);
    out->String("trireme.request.outcome", OutcomeName(outcome));
    if (!request_.tenant.empty()) out->String("trireme.tenant", request_.tenant);
    if (outcome == FinishedRequest::Outcome::kOk) return;
    out->String("error.type", !request_.error_code.empty() ? std::string(request_.error_code)
                              : http()                     ? std::to_string(request_.http_status)
                                       : absl::StatusCodeToString(request_.grpc_code));
  }

  void Generation(Attributes* out) const {
    const bool chat = request_.route == "/v1/chat/completions";
    out->String("gen_ai.operation.name", chat ? "chat" : "text_completion");
    out->String("gen_ai.provider.name", "trireme");
    out->String("gen_ai.request.model", request_.model);
    out->Int("gen_ai.usage.input_tokens", request_.work.prompt_tokens);
    out->Int("gen_ai.usage.cache_read.input_tokens", request_.work.cached_prompt_tokens);
    out->Int("gen_ai.usage.output_tokens", request_.work.generated_tokens);
    if (request_.finish_reasons.size() > 1) {
      out->Int("gen_ai.request.choice.count", static_cast<int64_t>(request_.finish_reasons.size()));
    }
    std::vector<std::string_view> reasons = request_.FinishNames();
    if (reasons.size() > kMaxFinishReasons) reasons.resize(kMaxFinishReasons);
    out->Strings("gen_ai.response.finish_reasons", reasons);
  }

  const FinishedRequest& request_;
  JsonWriter& json_;
};

}  // namespace

std::string EncodeTraces(const std::vector<std::pair<std::string, std::string>>& resource,
                         const std::vector<std::shared_ptr<const FinishedRequest>>& requests) {
  std::string out;
  JsonWriter json(&out);
  json.BeginObject().Key("resourceSpans").BeginArray().BeginObject();
  json.Key("resource").BeginObject();
  {
    Attributes attributes(&json);
    for (const auto& [key, value] : resource) attributes.String(key, value);
    attributes.String("service.version", kVersion);
    attributes.String("telemetry.sdk.language", "cpp");
  }
  json.EndObject().Key("scopeSpans").BeginArray().BeginObject();
  json.Key("scope").BeginObject().Key("name").String("trireme").Key("version").String(kVersion);
  json.EndObject().Key("spans").BeginArray();
  for (const auto& request : requests) RequestEncoder(*request, &json).Encode();
  json.EndArray().EndObject().EndArray().EndObject().EndArray().EndObject();
  return out;
}

}  // namespace trireme
