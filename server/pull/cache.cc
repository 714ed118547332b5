#include "server/pull/cache.h"

#include <algorithm>
#include <boost/json.hpp>
#include <filesystem>

#include "runtime/base/file.h"
#include "runtime/base/status.h"
#include "runtime/base/strings.h"
#include "server/pull/environment.h"
#include "server/pull/part_file.h"

namespace trireme::pull {
namespace {

namespace fs = std::filesystem;
namespace json = boost::json;

constexpr char kManifestName[] = ".trireme-pull.json";

const char* FolderName(Scheme scheme) {
  switch (scheme) {
    case Scheme::kHuggingFace:
      return "hf";
    case Scheme::kS3:
      return "s3";
    case Scheme::kHttps:
      break;
  }
  return "https";
}

std::string TextOf(const json::object& object, const char* key) {
  const json::value* value = object.if_contains(key);
  return value != nullptr && value->is_string() ? std::string(value->get_string()) : "";
}

// What is in a folder that nobody has written a manifest for.
Manifest Found(const std::string& folder) {
  Manifest manifest;
  bool config = false, weights = false;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    const std::string name = entry.path().filename().string();
    if (name.ends_with(".part")) return {};
    config = config || name == "config.json";
    weights = weights || name.ends_with(".safetensors");
    if (name.ends_with(".gguf")) manifest.files.push_back({name});
  }
  if (config && weights) manifest.files.clear();
  manifest.complete = (config && weights) || manifest.files.size() == 1;
  return manifest;
}

}  // namespace

absl::StatusOr<std::string> CacheFolder(const std::string& configured) {
  if (!configured.empty()) return configured;
  if (const auto xdg = Environment("XDG_CACHE_HOME")) return *xdg + "/trireme";
  const std::string home = HomeFolder();
  if (!home.empty()) return home + "/.cache/trireme";
  return absl::FailedPreconditionError(
      "there is no HOME to keep models in: give --cache (TRIREME_CACHE) a folder");
}

std::string TargetOf(const Source& source, const std::string& revision, const std::string& cache) {
  std::string path = StrCat(cache, "/models/", FolderName(source.scheme), "/", source.root);
  if (source.scheme == Scheme::kHuggingFace) {
    const std::string& chosen = revision.empty() ? source.revision : revision;
    StrAppend(&path, "/", chosen.empty() ? "main" : UrlEncode(chosen));
  }
  if (!source.path.empty()) StrAppend(&path, "/", source.path);
  while (path.ends_with('/')) path.pop_back();
  return path;
}

std::string ManifestOfFolder(const std::string& folder) { return folder + "/" + kManifestName; }

std::string ManifestOfFile(const std::string& path) {
  const std::string_view name = BaseName(path);
  return StrCat(path.substr(0, path.size() - name.size()), ".", name, kManifestName);
}

Manifest ReadManifest(const std::string& path) {
  Manifest manifest;
  const auto text = ReadFile(path, kMaxSettingsBytes);
  if (!text.ok()) return manifest;
  boost::system::error_code error;
  const json::value value = json::parse(*text, error);
  if (error || !value.is_object()) return manifest;
  const json::object& object = value.get_object();
  manifest.source = TextOf(object, "source");
  manifest.revision = TextOf(object, "revision");
  const json::value* complete = object.if_contains("complete");
  manifest.complete = complete != nullptr && complete->is_bool() && complete->get_bool();
  const json::value* files = object.if_contains("files");
  if (files == nullptr || !files->is_array()) return {};
  for (const json::value& entry : files->get_array()) {
    if (!entry.is_object()) return {};
    const json::value* bytes = entry.get_object().if_contains("bytes");
    Manifest::File file = {TextOf(entry.get_object(), "name"),
                           bytes != nullptr && bytes->is_int64() ? bytes->get_int64() : -1,
                           TextOf(entry.get_object(), "checksum"),
                           TextOf(entry.get_object(), "validator")};
    if (!IsSafePath(file.name)) return {};
    manifest.files.push_back(std::move(file));
  }
  return manifest;
}

absl::Status WriteManifest(const std::string& path, const Manifest& manifest) {
  json::array files;
  for (const Manifest::File& file : manifest.files) {
    files.push_back({{"name", file.name},
                     {"bytes", file.bytes},
                     {"checksum", file.checksum},
                     {"validator", file.validator}});
  }
  const json::object object = {{"source", manifest.source},
                               {"revision", manifest.revision},
                               {"complete", manifest.complete},
                               {"files", std::move(files)}};
  return WriteFileAtomically(path, json::serialize(object) + "\n");
}

absl::StatusOr<PulledModel> FindPulled(const Source& source, const std::string& target) {
  std::error_code error;
  if (fs::is_regular_file(target, error)) {
    const Manifest one = ReadManifest(ManifestOfFile(target));  // none for what was copied here
    if (!one.files.empty() &&
        static_cast<int64_t>(fs::file_size(target, error)) != one.files[0].bytes)
      return absl::NotFoundError(StrCat(target, " has not the size that was pulled"));
    return PulledModel{target, ""};
  }
  const absl::Status missing = absl::NotFoundError(StrCat(target, " is not there"));
  if (!fs::is_directory(target, error)) return missing;
  const bool has_manifest = fs::exists(ManifestOfFolder(target), error);
  const Manifest manifest = has_manifest ? ReadManifest(ManifestOfFolder(target)) : Found(target);
  if (!manifest.complete) return absl::NotFoundError(StrCat(target, " is not whole"));
  for (const Manifest::File& file : manifest.files) {
    const auto size = fs::file_size(target + "/" + file.name, error);
    if (error || (has_manifest && static_cast<int64_t>(size) != file.bytes))
      return absl::NotFoundError(StrCat(target, " is not whole: ", file.name, " is not"));
  }
  if (manifest.files.size() == 1 && manifest.files[0].name.ends_with(".gguf"))
    return PulledModel{target + "/" + manifest.files[0].name, ""};
  // The folder of a repository is named by its revision.
  const bool repository = source.scheme == Scheme::kHuggingFace;
  return PulledModel{target, repository ? std::string(BaseName(source.root)) : ""};
}

absl::StatusOr<PulledModel> ResolveModel(const std::string& text, const std::string& cache) {
  TRIREME_ASSIGN_OR_RETURN(const Source source, ParseSource(text));
  TRIREME_ASSIGN_OR_RETURN(const std::string folder, CacheFolder(cache));
  auto found = FindPulled(source, TargetOf(source, "", folder));
  if (found.ok()) return found;
  return absl::NotFoundError(StrCat(source.text, " is not on this machine (",
                                    FromAbsl(found.status().message()), "): run `trireme pull ",
                                    source.text, "` first"));
}

}  // namespace trireme::pull
