// The YAML of --config: refused by its name, or values that are printed and read again as the same,
// each taken or refused by its setting.
#include "runtime/base/strings.h"
#include "server/cli/config_file.h"
#include "server/cli/schema.h"
#include "tests/fuzz/fuzz.h"

namespace trireme::fuzz {
namespace {

// YAML's double-quoted style takes any bytes but these as they are.
std::string Quoted(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
      StrAppend(&out, "\\x", absl::Hex(static_cast<unsigned char>(c), absl::kZeroPad2));
    } else {
      out += c;
    }
  }
  out += '"';
  return out;
}

std::string Print(const ConfigValues& values) {
  std::string out;
  for (const auto& [key, texts] : values) {
    StrAppend(&out, key, ": ", texts.size() == 1 ? Quoted(texts[0]) : "");
    if (texts.size() > 1) {
      for (const std::string& text : texts) StrAppend(&out, "\n  - ", Quoted(text));
    }
    out += '\n';
  }
  return out;
}

}  // namespace

void OneInput(std::string_view data) {
  static Options options;  // each input overwrites what the last one set
  static const std::vector<Setting> schema = Schema(&options);
  const InputFile file(data);
  const auto values = ReadConfigFile(file.path(), schema);
  if (!values.ok()) return CheckFileError(values.status(), file.path());
  const InputFile printed(Print(*values));
  const auto again = ReadConfigFile(printed.path(), schema);
  FUZZ_CHECK(again.ok() && *again == *values, Print(*values));
  for (const Setting& setting : schema) {
    const auto found = values->find(setting.name);
    if (found == values->end()) continue;
    if (const absl::Status status = setting.value.set(found->second); !status.ok()) {
      FUZZ_CHECK(absl::IsInvalidArgument(status), FromAbsl(status.message()));
    }
  }
}

}  // namespace trireme::fuzz
