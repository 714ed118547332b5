#include "server/cli/weight_cache.h"

#include <filesystem>

#include "absl/strings/str_cat.h"
#include "runtime/base/hash_words.h"
#include "runtime/base/strings.h"
#include "server/pull/cache.h"

namespace trireme {
namespace {

namespace fs = std::filesystem;

bool LiesIn(const fs::path& folder, const fs::path& path) {
  const fs::path below = path.lexically_relative(folder);
  return !below.empty() && below != "." && *below.begin() != "..";
}

}  // namespace

absl::StatusOr<std::string> PackedWeightsFile(const std::string& setting, const std::string& model,
                                              const std::string& cache) {
  if (setting == "off" || model.empty()) return std::string();
  std::error_code error;
  const fs::path path = fs::weakly_canonical(model, error);
  if (error) return std::string();
  fs::path folder = setting;
  if (setting == "auto") {
    const auto ours = pull::CacheFolder(cache);
    if (!ours.ok()) return std::string();
    const fs::path models = fs::weakly_canonical(fs::path(*ours) / "models", error);
    if (error || !LiesIn(models, path)) return std::string();
    folder = path.parent_path();
  } else if (!fs::is_directory(folder, error)) {
    return absl::InvalidArgumentError(StrCat("--weight-cache: there is no folder ",
                                             Printable(setting),
                                             "; create it, or say auto or off"));
  }
  const std::string text = path.string();
  const uint64_t hash = HashWords64({reinterpret_cast<const uint8_t*>(text.data()), text.size()});
  return (folder / StrCat(path.filename().string(), "-",
                          absl::StrCat(absl::Hex(hash, absl::kZeroPad16)), ".trireme-packed"))
      .string();
}

}  // namespace trireme
