#include "server/node/model_text.h"

#include <algorithm>
#include <boost/json.hpp>
#include <filesystem>
#include <map>
#include <utility>

#include "runtime/base/file.h"
#include "runtime/base/status.h"
#include "runtime/base/strings.h"

namespace trireme {
namespace {

namespace fs = std::filesystem;
namespace json = boost::json;

// Far above any published tokenizer.json; a larger file is refused before it is read.
constexpr size_t kMaxJsonBytes = 256u << 20;

// "" when there is no such file.
absl::StatusOr<std::string> ReadOptionalText(const fs::path& path) {
  std::error_code error;
  if (!fs::exists(path, error)) return std::string();
  return ReadFile(path, kMaxJsonBytes);
}

absl::StatusOr<json::object> ParseObject(const std::string& text, const fs::path& path) {
  if (text.empty()) return json::object();
  boost::system::error_code error;
  json::value value = json::parse(text, error);
  if (error || !value.is_object())
    return absl::InvalidArgumentError(StrCat(path.string(), " is no JSON object"));
  return std::move(value.get_object());
}

void AddUnique(std::vector<TokenId>* ids, int64_t id, int vocab_size) {
  if (id < 0 || id >= vocab_size)
    return;  // some published configs name ids their vocabulary does not have
  if (std::find(ids->begin(), ids->end(), static_cast<TokenId>(id)) == ids->end()) {
    ids->push_back(static_cast<TokenId>(id));
  }
}

// Null counts as absent.
const json::value* Get(const json::object& config, const char* key) {
  const json::value* value = config.if_contains(key);
  return value == nullptr || value->is_null() ? nullptr : value;
}

// eos_token_id is a number or a list of numbers.
absl::Status AddEosIds(const json::object& config, int vocab_size, std::vector<TokenId>* ids) {
  const json::value* eos = Get(config, "eos_token_id");
  if (eos == nullptr) return absl::OkStatus();
  const json::array* list = eos->if_array();
  for (const json::value& id : list != nullptr ? *list : json::array{*eos}) {
    if (!id.is_int64()) {
      return absl::InvalidArgumentError("eos_token_id: a token id or a list of them is wanted");
    }
    AddUnique(ids, id.get_int64(), vocab_size);
  }
  return absl::OkStatus();
}

// Only the fields that describe sampling; null and absent leave the wire's default. These values
// stand in every request that does not give its own: what the validator would refuse there is
// refused here, once, and not as an error of every client.
absl::Status FillDefaultSampling(const json::object& config, SamplingParams* out) {
  const std::pair<const char*, float*> numbers[] = {
      {"temperature", &out->temperature},
      {"top_p", &out->top_p},
      {"min_p", &out->min_p},
      {"typical_p", &out->typical_p},
      {"repetition_penalty", &out->repetition_penalty}};
  for (const auto& [key, target] : numbers) {
    const json::value* value = Get(config, key);
    if (value == nullptr) continue;
    if (!value->is_number()) return absl::InvalidArgumentError(StrCat(key, ": not a number"));
    *target = static_cast<float>(value->to_number<double>());
  }
  if (const json::value* top_k = Get(config, "top_k")) {
    if (!top_k->is_int64() || !std::in_range<int>(top_k->get_int64())) {
      return absl::InvalidArgumentError("top_k: not an integer of 32 bits");
    }
    // -1 is a common way to say that it is off.
    out->top_k = top_k->get_int64() == -1 ? 0 : static_cast<int>(top_k->get_int64());
  }
  GenerateRequest request;
  request.prompt = {0};
  request.sampling = *out;
  return ValidateRequest(request, {.vocab_size = 1, .max_context_tokens = 2});
}

// tokenizer_config.json holds one template or a list of named ones; chat_template.jinja wins over
// both.
absl::StatusOr<std::string> FindChatTemplate(const fs::path& directory,
                                             const json::object& tokenizer_config,
                                             std::string* path) {
  *path = directory / "chat_template.jinja";
  TRIREME_ASSIGN_OR_RETURN(std::string file, ReadOptionalText(*path));
  if (!file.empty()) return file;
  *path = directory / "tokenizer_config.json";
  const json::value* value = tokenizer_config.if_contains("chat_template");
  if (value == nullptr) return std::string();
  if (const json::string* text = value->if_string()) return std::string(*text);
  if (const json::array* list = value->if_array()) {
    for (const json::value& entry : *list) {
      const json::object* named = entry.if_object();
      const json::value* name = named == nullptr ? nullptr : named->if_contains("name");
      const json::value* text = named == nullptr ? nullptr : named->if_contains("template");
      if (name != nullptr && text != nullptr && *name == "default" && text->is_string()) {
        return std::string(text->get_string());
      }
    }
  }
  return std::string();
}

absl::StatusOr<ModelText> FromHuggingFace(const fs::path& directory, int vocab_size) {
  ModelText text;
  TRIREME_ASSIGN_OR_RETURN(const std::string tokenizer_json,
                           ReadFile(directory / "tokenizer.json", kMaxJsonBytes));
  const fs::path tokenizer_config_path = directory / "tokenizer_config.json";
  TRIREME_ASSIGN_OR_RETURN(const std::string tokenizer_config_json,
                           ReadOptionalText(tokenizer_config_path));
  auto spec = ParseTokenizerJson(tokenizer_json, tokenizer_config_json);
  const std::string tokenizer_path = directory / "tokenizer.json";
  if (!spec.ok()) {  // says which of the two files by its plain name
    return absl::Status(spec.status().code(),
                        (directory / std::string(spec.status().message())).string());
  }
  auto tokenizer = Tokenizer::Create(*std::move(spec));
  if (!tokenizer.ok()) return Annotate(tokenizer.status(), tokenizer_path);
  text.tokenizer = *std::move(tokenizer);
  TRIREME_ASSIGN_OR_RETURN(const json::object tokenizer_config,
                           ParseObject(tokenizer_config_json, tokenizer_config_path));
  TRIREME_ASSIGN_OR_RETURN(text.chat_template,
                           FindChatTemplate(directory, tokenizer_config, &text.chat_template_file));

  for (const char* name : {"config.json", "generation_config.json"}) {
    const fs::path path = directory / name;
    TRIREME_ASSIGN_OR_RETURN(const std::string config_json, ReadOptionalText(path));
    TRIREME_ASSIGN_OR_RETURN(const json::object config, ParseObject(config_json, path));
    absl::Status status = AddEosIds(config, vocab_size, &text.eos_ids);
    if (status.ok() && std::string_view(name) == "generation_config.json") {
      status = FillDefaultSampling(config, &text.default_sampling);
    }
    if (!status.ok()) return Annotate(status, path.string());
  }
  return text;
}

GgufTokenizerFields TokenizerFields(const GgufFile& gguf) {
  GgufTokenizerFields fields;
  fields.model = gguf.String("tokenizer.ggml.model").value_or("");
  fields.pre = gguf.String("tokenizer.ggml.pre").value_or("");
  fields.tokens = gguf.Strings("tokenizer.ggml.tokens");
  fields.scores = gguf.Floats("tokenizer.ggml.scores");
  fields.token_types = gguf.Ints("tokenizer.ggml.token_type");
  fields.merges = gguf.Strings("tokenizer.ggml.merges");
  fields.bos = gguf.Int("tokenizer.ggml.bos_token_id");
  fields.eos = gguf.Int("tokenizer.ggml.eos_token_id");
  fields.unk = gguf.Int("tokenizer.ggml.unknown_token_id");
  fields.pad = gguf.Int("tokenizer.ggml.padding_token_id");
  fields.eot = gguf.Int("tokenizer.ggml.eot_token_id");
  fields.add_bos = gguf.Bool("tokenizer.ggml.add_bos_token");
  fields.add_eos = gguf.Bool("tokenizer.ggml.add_eos_token");
  fields.add_space_prefix = gguf.Bool("tokenizer.ggml.add_space_prefix");
  return fields;
}

absl::StatusOr<ModelText> FromGguf(const GgufFile& gguf, const std::string& path) {
  ModelText text;
  TRIREME_ASSIGN_OR_RETURN(TokenizerSpec spec, TokenizerSpecFromGguf(TokenizerFields(gguf)));
  TRIREME_ASSIGN_OR_RETURN(text.tokenizer, Tokenizer::Create(std::move(spec)));
  text.chat_template = gguf.String("tokenizer.chat_template").value_or("");
  text.chat_template_file = path;
  return text;
}

}  // namespace

absl::StatusOr<std::unique_ptr<const ChatTemplate>> CompileChatTemplate(
    const ModelText& text, const std::string& replacement_file) {
  std::string source = text.chat_template, path = text.chat_template_file;
  if (!replacement_file.empty()) {
    auto content = ReadFile(replacement_file, kMaxSettingsBytes);
    if (!content.ok()) return Annotate(content.status(), "--chat-template");
    source = *std::move(content);
    path = replacement_file;
  }
  if (source.empty()) return std::unique_ptr<const ChatTemplate>();
  auto compiled = ChatTemplate::Compile(std::move(source));
  if (!compiled.ok()) {
    return Annotate(compiled.status(),
                    StrCat(path, " (replace its chat template with --chat-template FILE)"));
  }
  return compiled;
}

// The type that holds most of the weights' bytes.
std::string DominantType(const Checkpoint& checkpoint) {
  std::map<DType, int64_t> bytes;
  for (const std::string& name : checkpoint.Names()) {
    if (auto tensor = checkpoint.Find(name); tensor.ok())
      bytes[tensor->dtype] += tensor->size_bytes();
  }
  const auto most = std::max_element(
      bytes.begin(), bytes.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
  return most == bytes.end() ? "" : std::string(DTypeName(most->first));
}

absl::StatusOr<ModelText> OpenModelText(const ModelFiles& files) {
  const int vocab_size = files.spec.vocab_size;
  auto text = files.gguf != nullptr ? FromGguf(*files.gguf, files.path)
                                    : FromHuggingFace(files.directory, vocab_size);
  if (!text.ok()) return WithFile(text.status(), files.path);
  if (text->tokenizer->vocab_size() > vocab_size) {
    return absl::InvalidArgumentError(StrCat(files.path, ": the tokenizer has ",
                                             text->tokenizer->vocab_size(),
                                             " tokens, the model only ", vocab_size));
  }
  for (const TokenId id : text->tokenizer->spec().eos_ids)
    AddUnique(&text->eos_ids, id, vocab_size);
  return text;
}

}  // namespace trireme
