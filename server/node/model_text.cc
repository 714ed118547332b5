#include "server/node/model_text.h"

#include <algorithm>
#include <boost/json.hpp>
#include <filesystem>
#include <fstream>
#include <map>
#include <utility>

#include "runtime/base/status.h"
#include "runtime/base/strings.h"

namespace trireme {
namespace {

namespace fs = std::filesystem;
namespace json = boost::json;

// Far above any published tokenizer.json; a larger file is refused before it is read.
constexpr uintmax_t kMaxJsonBytes = 256u << 20;

absl::StatusOr<std::string> ReadText(const fs::path& path) {
  std::error_code error;
  const uintmax_t size = fs::file_size(path, error);
  if (error) return absl::NotFoundError(StrCat("cannot read ", path.string()));
  if (size > kMaxJsonBytes)
    return absl::InvalidArgumentError(StrCat(path.string(), " is larger than 256 MiB"));
  std::ifstream file(path, std::ios::binary);
  std::string text(size, '\0');
  if (!file.read(text.data(), static_cast<std::streamsize>(size))) {
    return absl::NotFoundError(StrCat("cannot read ", path.string()));
  }
  return text;
}

// "" when there is no such file.
absl::StatusOr<std::string> ReadOptionalText(const fs::path& path) {
  std::error_code error;
  if (!fs::exists(path, error)) return std::string();
  return ReadText(path);
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

// eos_token_id is a number or a list of numbers.
void AddEosIds(const json::object& config, int vocab_size, std::vector<TokenId>* ids) {
  const json::value* eos = config.if_contains("eos_token_id");
  if (eos == nullptr) return;
  if (eos->is_int64()) AddUnique(ids, eos->get_int64(), vocab_size);
  if (const json::array* list = eos->if_array()) {
    for (const json::value& id : *list) {
      if (id.is_int64()) AddUnique(ids, id.get_int64(), vocab_size);
    }
  }
}

// Only the fields that describe sampling; null and absent leave the wire's default.
void FillDefaultSampling(const json::object& config, SamplingParams* out) {
  const auto number = [&](const char* key, float* target) {
    const json::value* value = config.if_contains(key);
    if (value != nullptr && value->is_number())
      *target = static_cast<float>(value->to_number<double>());
  };
  number("temperature", &out->temperature);
  number("top_p", &out->top_p);
  number("min_p", &out->min_p);
  number("typical_p", &out->typical_p);
  number("repetition_penalty", &out->repetition_penalty);
  const json::value* top_k = config.if_contains("top_k");
  if (top_k != nullptr && top_k->is_int64())
    out->top_k = static_cast<int>(std::max<int64_t>(0, top_k->get_int64()));
}

// tokenizer_config.json holds one template or a list of named ones; chat_template.jinja wins over
// both.
absl::StatusOr<std::string> FindChatTemplate(const fs::path& directory,
                                             const json::object& tokenizer_config) {
  TRIREME_ASSIGN_OR_RETURN(std::string file, ReadOptionalText(directory / "chat_template.jinja"));
  if (!file.empty()) return file;
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
                           ReadText(directory / "tokenizer.json"));
  const fs::path tokenizer_config_path = directory / "tokenizer_config.json";
  TRIREME_ASSIGN_OR_RETURN(const std::string tokenizer_config_json,
                           ReadOptionalText(tokenizer_config_path));
  auto spec = ParseTokenizerJson(tokenizer_json, tokenizer_config_json);
  if (!spec.ok()) return Annotate(spec.status(), (directory / "tokenizer.json").string());
  TRIREME_ASSIGN_OR_RETURN(text.tokenizer, Tokenizer::Create(*std::move(spec)));
  TRIREME_ASSIGN_OR_RETURN(const json::object tokenizer_config,
                           ParseObject(tokenizer_config_json, tokenizer_config_path));
  TRIREME_ASSIGN_OR_RETURN(text.chat_template, FindChatTemplate(directory, tokenizer_config));

  for (const char* name : {"config.json", "generation_config.json"}) {
    const fs::path path = directory / name;
    TRIREME_ASSIGN_OR_RETURN(const std::string config_json, ReadOptionalText(path));
    TRIREME_ASSIGN_OR_RETURN(const json::object config, ParseObject(config_json, path));
    AddEosIds(config, vocab_size, &text.eos_ids);
    if (std::string_view(name) == "generation_config.json")
      FillDefaultSampling(config, &text.default_sampling);
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

absl::StatusOr<ModelText> FromGguf(const GgufFile& gguf) {
  ModelText text;
  TRIREME_ASSIGN_OR_RETURN(TokenizerSpec spec, TokenizerSpecFromGguf(TokenizerFields(gguf)));
  TRIREME_ASSIGN_OR_RETURN(text.tokenizer, Tokenizer::Create(std::move(spec)));
  text.chat_template = gguf.String("tokenizer.chat_template").value_or("");
  return text;
}

}  // namespace

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
  auto text =
      files.gguf != nullptr ? FromGguf(*files.gguf) : FromHuggingFace(files.directory, vocab_size);
  if (!text.ok()) return text;
  if (text->tokenizer->vocab_size() > vocab_size) {
    return absl::InvalidArgumentError(StrCat("the tokenizer has ", text->tokenizer->vocab_size(),
                                             " tokens, the model only ", vocab_size));
  }
  for (const TokenId id : text->tokenizer->spec().eos_ids)
    AddUnique(&text->eos_ids, id, vocab_size);
  return text;
}

}  // namespace trireme
