#include <algorithm>

#include "absl/strings/str_join.h"
#include "runtime/base/status.h"
#include "runtime/base/strings.h"
#include "server/pull/listing.h"

namespace trireme::pull {
namespace {

constexpr size_t kNamesShown = 8;

bool IsPickle(std::string_view name) {
  for (const char* ending : {".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib"}) {
    if (name.ends_with(ending)) return true;
  }
  return false;
}

// What stands beside the weights.
bool IsCompanion(std::string_view name) {
  for (const char* known :
       {"config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json",
        "tokenizer.model", "special_tokens_map.json", "added_tokens.json", "chat_template.jinja",
        "chat_template.json", "vocab.json", "merges.txt"}) {
    if (name == known) return true;
  }
  return false;
}

std::string Names(const std::vector<RemoteFile>& files) {
  std::vector<std::string> names;
  for (const RemoteFile& file : files) {
    if (names.size() == kNamesShown) {
      names.push_back(StrCat("and ", files.size() - kNamesShown, " more"));
      break;
    }
    names.push_back(Printable(file.name));
  }
  return absl::StrJoin(names, ", ");
}

}  // namespace

absl::StatusOr<std::vector<RemoteFile>> SelectModelFiles(std::vector<RemoteFile> files,
                                                         std::string_view file) {
  if (!file.empty()) {
    if (IsPickle(file)) {
      return absl::FailedPreconditionError(
          StrCat(Printable(file),
                 " is a pickle, which can run code when it is read: take the "
                 "safetensors or a GGUF of this model"));
    }
    std::erase_if(files, [&](const RemoteFile& one) { return one.name != file; });
    if (files.empty()) return absl::NotFoundError(StrCat("there is no ", Printable(file)));
    return files;
  }
  std::vector<RemoteFile> model, gguf;
  bool has_pickle = false, has_weights = false, has_model_weights = false;
  for (RemoteFile& one : files) {
    has_pickle = has_pickle || IsPickle(one.name);
    if (one.name.ends_with(".gguf")) gguf.push_back(one);
    if (one.name.find('/') != std::string::npos) continue;  // other formats and precisions
    const bool weights = one.name.ends_with(".safetensors");
    has_weights = has_weights || weights;
    has_model_weights = has_model_weights || (weights && one.name.starts_with("model"));
    if (weights || one.name.ends_with(".safetensors.index.json") || IsCompanion(one.name))
      model.push_back(std::move(one));
  }
  if (has_weights) {
    // Some repositories have the same weights twice: consolidated.safetensors.
    if (has_model_weights) {
      std::erase_if(model, [](const RemoteFile& one) {
        return one.name.find(".safetensors") != std::string::npos && !one.name.starts_with("model");
      });
    }
    if (model.size() > kMaxModelFiles) {
      return absl::ResourceExhaustedError(
          StrCat(model.size(), " files of weights; at most ", kMaxModelFiles, " are fetched"));
    }
    return model;
  }
  if (gguf.size() == 1) return gguf;
  if (!gguf.empty()) {
    return absl::FailedPreconditionError(
        StrCat("there are ", gguf.size(), " GGUF files: name one after a slash, of ", Names(gguf)));
  }
  return absl::NotFoundError(
      has_pickle
          ? "there are only pickles (.bin, .pt), which can run code when they are read: look "
            "for a repository with safetensors or GGUF"
          : "there are neither safetensors nor GGUF files");
}

}  // namespace trireme::pull
