#include "server/dialects/openai/info.h"

#include <optional>

#include "runtime/base/json_writer.h"
#include "runtime/base/strings.h"
#include "runtime/text/utf8.h"

namespace trireme::openai {
namespace {

void AppendModel(JsonWriter& json, const ModelInfo& info, std::string_view name) {
  json.BeginObject();
  json.Key("id").String(name);
  json.Key("object").String("model");
  json.Key("created").Int(absl::ToUnixSeconds(info.created));
  json.Key("owned_by").String("trireme");
  json.Key("root").String(info.id);
  json.Key("parent").Null();
  json.Key("max_model_len").Int(info.max_context_tokens);
  json.EndObject();
}

std::string_view StateName(RequestInfo::State state) {
  switch (state) {
    case RequestInfo::State::kPreparing:
      return "preparing";
    case RequestInfo::State::kWaiting:
      return "waiting";
    case RequestInfo::State::kGenerating:
      break;
  }
  return "generating";
}

// What is unknown before it is prepared is null.
void AppendRequest(JsonWriter& json, const RequestInfo& request, absl::Time now) {
  const bool known = request.state != RequestInfo::State::kPreparing;
  json.BeginObject();
  json.Key("id").String(request.id);
  json.Key("object").String("request");
  json.Key("state").String(StateName(request.state));
  json.Key("door").String(request.door == RequestInfo::Door::kGrpc ? "grpc" : "http");
  json.Key("model");
  if (known) {
    json.String(request.model);
  } else {
    json.Null();
  }
  json.Key("stream");
  if (known) {
    json.Bool(request.stream);
  } else {
    json.Null();
  }
  json.Key("age_ms").Int(absl::ToInt64Milliseconds(now - request.arrival));
  json.Key("prompt_tokens").Int(request.prompt_tokens);
  json.Key("generated_tokens").Int(request.generated_tokens);
  json.EndObject();
}

// 64-bit FNV-1a (Fowler, Noll, Vo): a label, not a defence.
uint64_t Fnv1a(std::string_view text) {
  uint64_t hash = 0xcbf29ce484222325;
  for (const char c : text) hash = (hash ^ static_cast<uint8_t>(c)) * 0x100000001b3;
  return hash;
}

}  // namespace

std::string ModelList(const ModelInfo& info) {
  std::string out;
  JsonWriter json(&out);
  json.BeginObject().Key("object").String("list").Key("data").BeginArray();
  AppendModel(json, info, info.id);
  for (const std::string& alias : info.aliases) AppendModel(json, info, alias);
  json.EndArray().EndObject();
  return out;
}

std::string ModelObject(const ModelInfo& info, std::string_view name) {
  std::string out;
  JsonWriter json(&out);
  AppendModel(json, info, name);
  return out;
}

std::string TokenizeAnswer(const Node& node, const std::vector<TokenId>& tokens,
                           bool with_strings) {
  std::string out;
  JsonWriter json(&out);
  json.BeginObject();
  json.Key("count").Int(static_cast<int64_t>(tokens.size()));
  json.Key("max_model_len").Int(node.info.max_context_tokens);
  json.Key("tokens").BeginArray();
  for (const TokenId id : tokens) json.Int(id);
  json.EndArray().Key("token_strs");
  if (with_strings) {
    json.BeginArray();
    for (const TokenId id : tokens) json.String(LossyUtf8(node.tokenizer->TokenBytes(id)));
    json.EndArray();
  } else {
    json.Null();
  }
  json.EndObject();
  return out;
}

std::string DetokenizeAnswer(std::string_view prompt) {
  std::string out;
  JsonWriter json(&out);
  json.BeginObject().Key("prompt").String(prompt).EndObject();
  return out;
}

std::string TokenizerInfo(const Node& node) {
  const TokenizerSpec& spec = node.tokenizer->spec();
  std::string out;
  JsonWriter json(&out);
  const auto token = [&](std::string_view key, std::optional<TokenId> id) {
    json.Key(key);
    if (id) {
      json.String(LossyUtf8(node.tokenizer->TokenBytes(*id)));
    } else {
      json.Null();
    }
  };
  json.BeginObject();
  json.Key("tokenizer_class").String("PreTrainedTokenizerFast");
  token("bos_token", spec.bos);
  token("eos_token", spec.eos);
  token("unk_token", spec.unk);
  token("pad_token", spec.pad);
  json.Key("add_bos_token").Bool(spec.add_bos);
  json.Key("add_eos_token").Bool(spec.add_eos);
  json.Key("vocab_size").Int(node.tokenizer->vocab_size());
  json.Key("model_max_length").Int(node.info.max_context_tokens);
  json.Key("chat_template");
  if (node.chat_template != nullptr) {
    json.String(LossyUtf8(node.chat_template->source()));
  } else {
    json.Null();
  }
  json.EndObject();
  return out;
}

std::string RequestList(const RequestRegistry::Listing& listing, absl::Time now) {
  std::string out;
  JsonWriter json(&out);
  json.BeginObject().Key("object").String("list").Key("data").BeginArray();
  for (const RequestInfo& request : listing.requests) AppendRequest(json, request, now);
  json.EndArray();
  json.Key("total").Int(static_cast<int64_t>(listing.total));
  json.Key("has_more").Bool(listing.total > listing.requests.size());
  json.EndObject();
  return out;
}

std::string RequestCancelledAnswer(std::string_view id) {
  std::string out;
  JsonWriter json(&out);
  json.BeginObject().Key("id").String(id).Key("object").String("request");
  json.Key("cancelled").Bool(true).EndObject();
  return out;
}

std::string SystemFingerprint(const ModelInfo& info, std::string_view program_version) {
  const uint64_t hash =
      Fnv1a(StrCat(program_version, "/", info.id, "/", info.architecture, "/", info.quantization));
  return StrCat("fp_", absl::Hex(hash & 0xffffffffff, absl::kZeroPad10));
}

}  // namespace trireme::openai
