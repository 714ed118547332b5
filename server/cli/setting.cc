#include "server/cli/setting.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <map>
#include <numeric>
#include <utility>

#include "absl/strings/str_join.h"
#include "runtime/base/status.h"
#include "runtime/base/strings.h"

namespace trireme {
namespace {

constexpr size_t kMaxComparedBytes = 64;  // of a name, when the closest one is looked for

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

// nullopt unless all of `text` is one number.
template <typename T>
std::optional<T> Parse(std::string_view text) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

absl::Status Wanted(std::string_view text, std::string_view what) {
  return absl::InvalidArgumentError(StrCat("\"", Printable(text), "\" is not ", what));
}

// A setting of one text, which `parse` (StatusOr<T>) turns into the target's value.
template <typename Target, typename ParseFn>
SettingValue One(Target* target, std::string type, std::string default_text, ParseFn parse) {
  SettingValue value;
  value.type = std::move(type);
  value.default_text = std::move(default_text);
  value.set = [target, parse](const std::vector<std::string>& texts) -> absl::Status {
    TRIREME_ASSIGN_OR_RETURN(*target, parse(texts.front()));
    return absl::OkStatus();
  };
  return value;
}

template <typename T>
auto InRange(T min, T max, std::string_view kind) {
  return [=, kind = std::string(kind)](const std::string& text) -> absl::StatusOr<T> {
    const std::optional<T> value = Parse<T>(text);
    if (value && *value >= min && *value <= max) return *value;
    return Wanted(text, StrCat(kind, " from ", min, " to ", max));
  };
}

absl::StatusOr<uint64_t> ParseWholeNumber(const std::string& text) {
  if (const auto value = Parse<uint64_t>(text)) return *value;
  return Wanted(text, "a whole number of 64 bits");
}

// "2GiB" where that says it exactly, as people would write it.
std::string BytesText(int64_t bytes) {
  if (bytes <= 0) return "";
  for (const auto& [unit, shift] : {std::pair("GiB", 30), std::pair("MiB", 20)}) {
    if (bytes % (int64_t{1} << shift) == 0) return StrCat(bytes >> shift, unit);
  }
  return StrCat(bytes);
}

}  // namespace

SettingValue Integer(int* target, int min, int max) {
  return One(target, StrCat(min, "..", max), StrCat(*target), InRange(min, max, "an integer"));
}

SettingValue Integer(int64_t* target, int64_t min, int64_t max) {
  return One(target, StrCat(min, "..", max), StrCat(*target), InRange(min, max, "an integer"));
}

SettingValue Integer(std::optional<int>* target, int min, int max) {
  return One(target, StrCat(min, "..", max), "", InRange(min, max, "an integer"));
}

SettingValue WholeNumber(std::optional<uint64_t>* target) {
  return One(target, "INTEGER", "", ParseWholeNumber);
}

SettingValue WholeNumber(uint64_t* target) {
  return One(target, "INTEGER", StrCat(*target), ParseWholeNumber);
}

SettingValue Number(float* target, float min, float max) {
  return One(target, StrCat(min, "..", max), StrCat(*target), InRange(min, max, "a number"));
}

SettingValue Number(std::optional<float>* target, float min, float max, std::string_view type) {
  return One(target, type.empty() ? StrCat(min, "..", max) : std::string(type), "",
             InRange(min, max, "a number"));
}

SettingValue Bytes(int64_t* target) {
  return One(target, "SIZE", BytesText(*target),
             [](const std::string& text) { return ParseBytes(text); });
}

SettingValue OneOf(std::string* target, std::initializer_list<const char*> choices) {
  const std::vector<std::string> list(choices.begin(), choices.end());
  SettingValue value = One(target, absl::StrJoin(list, "|"), *target,
                           [list](const std::string& text) -> absl::StatusOr<std::string> {
                             if (std::find(list.begin(), list.end(), text) != list.end())
                               return text;
                             return Wanted(text, StrCat("one of ", absl::StrJoin(list, ", ")));
                           });
  value.choices = list;
  return value;
}

SettingValue OneOf(int* target, std::initializer_list<int> choices) {
  const std::vector<int> list(choices);
  SettingValue value =
      One(target, absl::StrJoin(list, "|"), StrCat(*target),
          [list](const std::string& text) -> absl::StatusOr<int> {
            const std::optional<int> number = Parse<int>(text);
            if (number && std::find(list.begin(), list.end(), *number) != list.end())
              return *number;
            return Wanted(text, StrCat("one of ", absl::StrJoin(list, ", ")));
          });
  for (const int choice : list) value.choices.push_back(StrCat(choice));
  return value;
}

SettingValue Text(std::string* target, std::string_view type) {
  return One(target, std::string(type), *target,
             [](const std::string& text) -> absl::StatusOr<std::string> { return text; });
}

SettingValue Text(std::optional<std::string>* target, std::string_view type) {
  return One(target, std::string(type), "",
             [](const std::string& text) -> absl::StatusOr<std::string> { return text; });
}

SettingValue TextList(std::vector<std::string>* target, std::string_view type) {
  SettingValue value;
  value.kind = SettingValue::Kind::kList;
  value.type = std::string(type);
  value.set = [target](const std::vector<std::string>& texts) {
    *target = texts;
    return absl::OkStatus();
  };
  return value;
}

SettingValue Switch(bool* target) {
  SettingValue value = One(target, "", *target ? "true" : "",
                           [](const std::string& original) -> absl::StatusOr<bool> {
                             std::string text = original;
                             for (char& c : text) c = static_cast<char>(std::tolower(c));
                             for (const char* word : {"true", "yes", "on", "1"})
                               if (text == word) return true;
                             for (const char* word : {"false", "no", "off", "0"})
                               if (text == word) return false;
                             return Wanted(original, "true or false");
                           });
  value.kind = SettingValue::Kind::kSwitch;
  return value;
}

bool TakesPath(const SettingValue& value) {
  return value.type == "FILE" || value.type == "PATH" || value.type == "FOLDER";
}

std::string PositionalName(std::string_view name) {
  std::string out(name);
  for (char& c : out) c = static_cast<char>(std::toupper(c));
  return out;
}

std::string EnvironmentName(std::string_view name) {
  std::string out = "TRIREME_";
  for (const char c : name) out += c == '-' ? '_' : static_cast<char>(std::toupper(c));
  return out;
}

std::optional<std::string> ClosestName(std::string_view name,
                                       const std::vector<std::string>& names) {
  name = name.substr(0, kMaxComparedBytes);
  std::optional<std::string> closest;
  size_t limit = std::max<size_t>(1, name.size() / 3);
  for (const std::string& other : names) {
    const size_t distance = EditDistance(name, other);
    if (distance > limit || (closest && distance == limit)) continue;
    closest = other;
    limit = distance;
  }
  return closest;
}

std::string DidYouMean(std::string_view name, const std::vector<std::string>& names,
                       std::string_view prefix) {
  const std::optional<std::string> closest = ClosestName(name, names);
  return closest ? StrCat("; did you mean \"", prefix, *closest, "\"?") : "";
}

absl::StatusOr<int64_t> ParseBytes(std::string_view text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  std::string unit(end, text.data() + text.size());
  for (char& c : unit) c = static_cast<char>(std::toupper(c));
  static const std::map<std::string, double> units = {
      {"", 1},         {"B", 1},      {"K", 0x1p10},   {"KB", 1e3},    {"KIB", 0x1p10},
      {"M", 0x1p20},   {"MB", 1e6},   {"MIB", 0x1p20}, {"G", 0x1p30},  {"GB", 1e9},
      {"GIB", 0x1p30}, {"T", 0x1p40}, {"TB", 1e12},    {"TIB", 0x1p40}};
  const auto found = units.find(unit);
  if (error != std::errc() || found == units.end() || !(value >= 0) ||
      value * found->second > 0x1p60) {
    return Wanted(text, "a size; write 512MiB, 2GiB or a number of bytes");
  }
  return static_cast<int64_t>(value * found->second);
}

}  // namespace trireme
