#include "server/node/model_files.h"

#include <algorithm>
#include <boost/json.hpp>
#include <filesystem>
#include <fstream>
#include <map>
#include <utility>

#include "runtime/base/status.h"
#include "runtime/base/strings.h"
#include "runtime/weights/gguf.h"

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

absl::StatusOr<ModelFiles> OpenHuggingFace(const fs::path& directory) {
  ModelFiles files;
  TRIREME_ASSIGN_OR_RETURN(const std::string config_text, ReadText(directory / "config.json"));
  auto spec = DecoderSpecFromConfigJson(config_text);
  if (!spec.ok()) return Annotate(spec.status(), (directory / "config.json").string());
  files.spec = *std::move(spec);
  TRIREME_ASSIGN_OR_RETURN(const json::object config,
                           ParseObject(config_text, directory / "config.json"));

  TRIREME_ASSIGN_OR_RETURN(const std::string tokenizer_text,
                           ReadText(directory / "tokenizer.json"));
  TRIREME_ASSIGN_OR_RETURN(const std::string tokenizer_config_text,
                           ReadOptionalText(directory / "tokenizer_config.json"));
  auto tokenizer_spec = ParseTokenizerJson(tokenizer_text, tokenizer_config_text);
  if (!tokenizer_spec.ok())
    return Annotate(tokenizer_spec.status(), (directory / "tokenizer.json").string());
  TRIREME_ASSIGN_OR_RETURN(files.tokenizer, Tokenizer::Create(*std::move(tokenizer_spec)));
  TRIREME_ASSIGN_OR_RETURN(const json::object tokenizer_config,
                           ParseObject(tokenizer_config_text, directory / "tokenizer_config.json"));
  TRIREME_ASSIGN_OR_RETURN(files.chat_template, FindChatTemplate(directory, tokenizer_config));

  const fs::path generation_path = directory / "generation_config.json";
  TRIREME_ASSIGN_OR_RETURN(const std::string generation_text, ReadOptionalText(generation_path));
  TRIREME_ASSIGN_OR_RETURN(const json::object generation,
                           ParseObject(generation_text, generation_path));
  FillDefaultSampling(generation, &files.default_sampling);
  for (const TokenId id : files.tokenizer->spec().eos_ids)
    AddUnique(&files.eos_ids, id, files.spec.vocab_size);
  AddEosIds(config, files.spec.vocab_size, &files.eos_ids);
  AddEosIds(generation, files.spec.vocab_size, &files.eos_ids);

  TRIREME_ASSIGN_OR_RETURN(files.checkpoint, OpenSafetensors(directory.string()));
  files.quantization = DominantType(*files.checkpoint);
  return files;
}

absl::StatusOr<ModelFiles> OpenGguf(const fs::path& path) {
  ModelFiles files;
  TRIREME_ASSIGN_OR_RETURN(std::unique_ptr<GgufFile> gguf, GgufFile::Open(path.string()));
  auto spec = DecoderSpecFromGguf(*gguf);
  if (!spec.ok()) return Annotate(spec.status(), path.string());
  files.spec = *std::move(spec);

  GgufTokenizerFields fields;
  fields.model = gguf->String("tokenizer.ggml.model").value_or("");
  fields.pre = gguf->String("tokenizer.ggml.pre").value_or("");
  fields.tokens = gguf->Strings("tokenizer.ggml.tokens");
  fields.scores = gguf->Floats("tokenizer.ggml.scores");
  fields.token_types = gguf->Ints("tokenizer.ggml.token_type");
  fields.merges = gguf->Strings("tokenizer.ggml.merges");
  fields.bos = gguf->Int("tokenizer.ggml.bos_token_id");
  fields.eos = gguf->Int("tokenizer.ggml.eos_token_id");
  fields.unk = gguf->Int("tokenizer.ggml.unknown_token_id");
  fields.pad = gguf->Int("tokenizer.ggml.padding_token_id");
  fields.eot = gguf->Int("tokenizer.ggml.eot_token_id");
  fields.add_bos = gguf->Bool("tokenizer.ggml.add_bos_token");
  fields.add_eos = gguf->Bool("tokenizer.ggml.add_eos_token");
  fields.add_space_prefix = gguf->Bool("tokenizer.ggml.add_space_prefix");
  auto tokenizer_spec = TokenizerSpecFromGguf(std::move(fields));
  if (!tokenizer_spec.ok()) return Annotate(tokenizer_spec.status(), path.string());
  TRIREME_ASSIGN_OR_RETURN(files.tokenizer, Tokenizer::Create(*std::move(tokenizer_spec)));

  files.chat_template = gguf->String("tokenizer.chat_template").value_or("");
  for (const TokenId id : files.tokenizer->spec().eos_ids)
    AddUnique(&files.eos_ids, id, files.spec.vocab_size);
  files.quantization = DominantType(*gguf);
  files.checkpoint = std::move(gguf);
  return files;
}

}  // namespace

absl::StatusOr<ModelFiles> OpenModelFiles(const std::string& path) {
  std::error_code error;
  const fs::path location(path);
  if (!fs::exists(location, error)) {
    return absl::NotFoundError(
        StrCat("no model at ", path, ": MODEL is a .gguf file or a directory with config.json"));
  }
  absl::StatusOr<ModelFiles> files = absl::UnknownError("");
  if (!fs::is_directory(location, error)) {
    files = OpenGguf(location);
  } else if (fs::exists(location / "config.json", error)) {
    files = OpenHuggingFace(location);
  } else {
    std::vector<fs::path> ggufs;
    for (const auto& entry : fs::directory_iterator(location, error)) {
      if (entry.path().extension() == ".gguf") ggufs.push_back(entry.path());
    }
    if (ggufs.size() != 1) {
      return absl::InvalidArgumentError(
          StrCat(path, " has no config.json and ", ggufs.size(),
                 " .gguf files: name one file, or a Hugging Face directory"));
    }
    files = OpenGguf(ggufs.front());
  }
  if (files.ok() && files->tokenizer->vocab_size() > files->spec.vocab_size) {
    return absl::InvalidArgumentError(StrCat(path, ": the tokenizer has ",
                                             files->tokenizer->vocab_size(),
                                             " tokens, the model only ", files->spec.vocab_size));
  }
  return files;
}

}  // namespace trireme
