// One row of the schema: a setting that may come from a flag, an environment variable or the YAML
// file, and how its text becomes a value.
#pragma once

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace trireme {

// What a setting writes to, and what it takes. Made by the functions below; targets outlive it.
struct SettingValue {
  enum class Kind { kOne, kList, kSwitch };
  Kind kind = Kind::kOne;
  std::string type;          // as --help shows it: "0..65535"; empty for switches
  std::string default_text;  // of the target when this was made; empty: help says it in words
  std::vector<std::string> choices = {};  // of OneOf; empty: no list could name them all
  // One text for kOne and kSwitch ("true", "off", ...). INVALID_ARGUMENT says what is wanted;
  // whoever calls adds where the text came from. The target is untouched then.
  std::function<absl::Status(const std::vector<std::string>& texts)> set;
};

SettingValue Integer(int* target, int min, int max);
SettingValue Integer(int64_t* target, int64_t min, int64_t max);
SettingValue Integer(std::optional<int>* target, int min, int max);
SettingValue WholeNumber(std::optional<uint64_t>* target);
SettingValue WholeNumber(uint64_t* target);
SettingValue Number(float* target, float min, float max);
// type: empty for the range.
SettingValue Number(std::optional<float>* target, float min, float max, std::string_view type = "");
SettingValue Bytes(int64_t* target);  // ParseBytes
SettingValue OneOf(std::string* target, std::initializer_list<const char*> choices);
SettingValue OneOf(int* target, std::initializer_list<int> choices);
SettingValue Text(std::string* target, std::string_view type);
SettingValue Text(std::optional<std::string>* target, std::string_view type);
SettingValue TextList(std::vector<std::string>* target, std::string_view type);
SettingValue Switch(bool* target);
// What `parse` makes of the text; its INVALID_ARGUMENT says what is wanted.
template <typename Target, typename T>
SettingValue Parsed(Target* target, std::string_view type, std::string_view default_text,
                    absl::StatusOr<T> (*parse)(std::string_view)) {
  SettingValue value;
  value.type = type;
  value.default_text = default_text;
  value.set = [target, parse](const std::vector<std::string>& texts) -> absl::Status {
    absl::StatusOr<T> parsed = parse(texts.front());
    if (!parsed.ok()) return parsed.status();
    *target = *std::move(parsed);
    return absl::OkStatus();
  };
  return value;
}

struct Setting {
  std::string name;       // "http-port": --http-port, TRIREME_HTTP_PORT, http-port:
  unsigned commands = 0;  // those that have it, a set of Command bits (schema.h)
  std::string group;      // its heading in --help
  SettingValue value;
  std::string help;
  std::string shorthand = "";  // "-p"
  bool positional = false;     // "MODEL": no flag
};

// Whether the value names a file or folder: shells complete those.
bool TakesPath(const SettingValue& value);

// What stands for a positional setting on the command line: "model" -> "MODEL".
std::string PositionalName(std::string_view name);

// "http-port" -> "TRIREME_HTTP_PORT".
std::string EnvironmentName(std::string_view name);

// Of `names`, the one that `name` was probably meant to be: a third of its letters may differ, one
// in any case. nullopt: none is that close.
std::optional<std::string> ClosestName(std::string_view name,
                                       const std::vector<std::string>& names);
// "; did you mean "NAME"?" of that, with `prefix` before the name; empty when there is none.
std::string DidYouMean(std::string_view name, const std::vector<std::string>& names,
                       std::string_view prefix = "");

// "2GiB", "512M", "1073741824" -> bytes.
absl::StatusOr<int64_t> ParseBytes(std::string_view text);

}  // namespace trireme
