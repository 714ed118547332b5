// Where pulled models are kept, and whether one is there:
//
//   CACHE/models/hf/ORG/NAME/REVISION/  config.json ... .trireme-pull.json
//   CACHE/models/hf/ORG/NAME/REVISION/FILE
//   CACHE/models/s3/BUCKET/PREFIX/      model-00001-of-00002.safetensors ...
//   CACHE/models/https/HOST/PATH         and beside it .NAME.trireme-pull.json
//
// A file under its own name is whole, unless its manifest knows another size. A folder is whole
// when its manifest says so; one that was copied there by hand has none, and is taken for whole
// when weights and config are in it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/pull/source.h"

namespace trireme::pull {

// `configured`, else $XDG_CACHE_HOME/trireme, else ~/.cache/trireme. FAILED_PRECONDITION without a
// home.
absl::StatusOr<std::string> CacheFolder(const std::string& configured);

// The file or folder of a source. `revision` counts for hf only; empty: the source's, else "main".
std::string TargetOf(const Source& source, const std::string& revision, const std::string& cache);

struct Manifest {
  struct File {
    std::string name;
    int64_t bytes = 0;
    std::string checksum;   // Checksum::Text; empty: none is known
    std::string validator;  // ETag or Last-Modified; empty: none, or it is not here yet
  };
  std::string source, revision;
  bool complete = false;
  std::vector<File> files;
};

// Where the manifest of a folder's set stands, and that of a file that was pulled alone.
std::string ManifestOfFolder(const std::string& folder);
std::string ManifestOfFile(const std::string& path);

// An empty manifest where there is none, or a damaged one.
Manifest ReadManifest(const std::string& path);
absl::Status WriteManifest(const std::string& path, const Manifest& manifest);

struct PulledModel {
  std::string path;  // a folder or file that OpenModelFiles takes
  std::string name;  // to serve it by, where the path's end does not tell; else empty
};

// NOT_FOUND when `target` is not there or not whole.
absl::StatusOr<PulledModel> FindPulled(const Source& source, const std::string& target);

// For MODEL of every command: what `text` (IsSource) was pulled to. NOT_FOUND says which command
// pulls it. Asks nothing of the network.
absl::StatusOr<PulledModel> ResolveModel(const std::string& text, const std::string& cache);

}  // namespace trireme::pull
