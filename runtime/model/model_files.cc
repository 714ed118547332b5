#include "runtime/model/model_files.h"

#include <filesystem>
#include <utility>

#include "runtime/base/file.h"
#include "runtime/base/status.h"
#include "runtime/base/strings.h"

namespace trireme {
namespace {

absl::StatusOr<ModelFiles> OpenGguf(const std::string& path) {
  ModelFiles files;
  TRIREME_ASSIGN_OR_RETURN(std::unique_ptr<GgufFile> file, GgufFile::Open(path));
  auto spec = DecoderSpecFromGguf(*file);
  if (!spec.ok()) return Annotate(spec.status(), path);
  files.spec = *std::move(spec);
  files.gguf = file.get();
  files.checkpoint = std::move(file);
  return files;
}

absl::StatusOr<ModelFiles> OpenHuggingFace(const std::string& directory) {
  ModelFiles files;
  const std::string config_path = std::filesystem::path(directory) / "config.json";
  TRIREME_ASSIGN_OR_RETURN(const std::string config, ReadFile(config_path, kMaxSettingsBytes));
  auto spec = DecoderSpecFromConfigJson(config);
  if (!spec.ok()) return Annotate(spec.status(), config_path);
  files.spec = *std::move(spec);
  TRIREME_ASSIGN_OR_RETURN(files.checkpoint, OpenSafetensors(directory));
  files.directory = directory;
  return files;
}

}  // namespace

absl::StatusOr<ModelFiles> OpenModelFiles(const std::string& path) {
  std::error_code error;
  auto files = std::filesystem::is_directory(path, error) ? OpenHuggingFace(path) : OpenGguf(path);
  if (files.ok()) files->path = path;
  return files;
}

}  // namespace trireme
