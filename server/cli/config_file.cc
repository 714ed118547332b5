#include "server/cli/config_file.h"

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <string_view>

#include "runtime/base/file.h"
#include "runtime/base/status.h"
#include "runtime/base/strings.h"

namespace trireme {
namespace {

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
      std::vector<std::string> names;
      for (const Setting& row : schema) names.push_back(row.name);
      return absl::InvalidArgumentError(
          StrCat("\"", Printable(key), "\" is no setting", DidYouMean(key, names)));
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
  TRIREME_ASSIGN_OR_RETURN(const std::string text, ReadFile(path, kMaxSettingsBytes));
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
