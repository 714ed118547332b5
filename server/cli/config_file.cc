#include "server/cli/config_file.h"

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <fstream>
#include <string_view>

#include "runtime/base/status.h"
#include "runtime/base/strings.h"

namespace trireme {
namespace {

constexpr size_t kMaxFileBytes = 1 << 20;

// Unlike a model's file, it may be empty, or a pipe.
absl::StatusOr<std::string> ReadText(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string text(kMaxFileBytes + 1, '\0');
  if (!file.read(text.data(), static_cast<std::streamsize>(text.size())) && !file.eof()) {
    return absl::NotFoundError(StrCat(path, ": cannot be read"));
  }
  text.resize(static_cast<size_t>(file.gcount()));
  if (text.size() > kMaxFileBytes) {
    return absl::ResourceExhaustedError(StrCat(path, " is larger than ", kMaxFileBytes, " bytes"));
  }
  return text;
}

absl::StatusOr<std::vector<std::string>> ReadValue(const YAML::Node& node, const Setting& setting) {
  std::vector<std::string> texts;
  if (node.IsScalar()) texts.push_back(node.Scalar());
  if (node.IsSequence()) {
    if (setting.value.kind != SettingValue::Kind::kList) {
      return absl::InvalidArgumentError("one value is wanted, not a list");
    }
    for (const YAML::Node& item : node) {
      if (!item.IsScalar()) return absl::InvalidArgumentError("a list of plain values is wanted");
      texts.push_back(item.Scalar());
    }
  }
  if (texts.empty()) return absl::InvalidArgumentError("a value is wanted");
  return texts;
}

absl::StatusOr<ConfigValues> ReadMapping(const YAML::Node& root,
                                         const std::vector<Setting>& schema) {
  ConfigValues values;
  if (root.IsNull()) return values;
  if (!root.IsMap()) return absl::InvalidArgumentError("a mapping of settings is wanted");
  for (const auto& entry : root) {
    const std::string key = entry.first.IsScalar() ? entry.first.Scalar() : "";
    const auto setting = std::find_if(schema.begin(), schema.end(),
                                      [&](const Setting& row) { return row.name == key; });
    if (setting == schema.end() || key == "config") {
      return absl::InvalidArgumentError(StrCat("\"", Printable(key), "\" is no setting; did you ",
                                               "mean \"", ClosestSetting(key, schema).name, "\"?"));
    }
    auto texts = ReadValue(entry.second, *setting);
    if (!texts.ok()) return Annotate(texts.status(), key);
    if (!values.emplace(key, *std::move(texts)).second) {
      return absl::InvalidArgumentError(StrCat(key, ": appears twice"));
    }
  }
  return values;
}

}  // namespace

absl::StatusOr<ConfigValues> ReadConfigFile(const std::string& path,
                                            const std::vector<Setting>& schema) {
  TRIREME_ASSIGN_OR_RETURN(const std::string text, ReadText(path));
  YAML::Node root;
  try {
    root = YAML::Load(text);
  } catch (const YAML::Exception& e) {
    return absl::InvalidArgumentError(StrCat(path, ": not YAML: ", Printable(e.what(), 200)));
  }
  auto values = ReadMapping(root, schema);
  if (!values.ok()) return Annotate(values.status(), path);
  return values;
}

}  // namespace trireme
