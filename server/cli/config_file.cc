#include "server/cli/config_file.h"

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <numeric>
#include <string_view>

#include "runtime/base/status.h"
#include "runtime/base/strings.h"
#include "runtime/weights/strict_json.h"

namespace trireme {
namespace {

constexpr size_t kMaxFileBytes = 1 << 20;
constexpr size_t kMaxComparedBytes = 64;  // of a key, when the closest one is looked for

// Levenshtein's: insertions, deletions and replacements that turn one text into the other.
size_t EditDistance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t replaced = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, replaced});
    }
  }
  return row.back();
}

std::string Closest(std::string_view key, const std::vector<Setting>& schema) {
  key = key.substr(0, kMaxComparedBytes);
  const auto closest =
      std::min_element(schema.begin(), schema.end(), [&](const Setting& one, const Setting& other) {
        return EditDistance(key, one.name) < EditDistance(key, other.name);
      });
  return closest->name;
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
                                               "mean \"", Closest(key, schema), "\"?"));
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
  absl::StatusOr<std::string> text = ReadSmallFile(path, kMaxFileBytes);
  if (!text.ok()) return WithFile(text.status(), path);
  YAML::Node root;
  try {
    root = YAML::Load(*text);
  } catch (const YAML::Exception& e) {
    return absl::InvalidArgumentError(StrCat(path, ": not YAML: ", Printable(e.what(), 200)));
  }
  auto values = ReadMapping(root, schema);
  if (!values.ok()) return Annotate(values.status(), path);
  return values;
}

}  // namespace trireme
