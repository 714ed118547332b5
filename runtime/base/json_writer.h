// Writes JSON straight into a string. Numbers by std::to_chars (shortest form that reads back
// equal); commas by itself.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace trireme {

// Appends `text` (valid UTF-8) as a JSON string with its quotes.
void AppendJsonString(std::string* out, std::string_view text);

class JsonWriter {
 public:
  explicit JsonWriter(std::string* out) : out_(out) {}  // appends; `out` must outlive the writer

  JsonWriter& BeginObject() { return Open('{'); }
  JsonWriter& EndObject() { return Close('}'); }
  JsonWriter& BeginArray() { return Open('['); }
  JsonWriter& EndArray() { return Close(']'); }
  JsonWriter& Key(std::string_view key);
  JsonWriter& String(std::string_view text);  // valid UTF-8
  JsonWriter& Int(int64_t value);
  JsonWriter& Float(
      float value);  // no infinity or NaN in JSON: they become the nearest finite value, or 0
  JsonWriter& Thousandths(int64_t value);  // 12345 -> 12.345
  JsonWriter& Bool(bool value) { return Raw(value ? "true" : "false"); }
  JsonWriter& Null() { return Raw("null"); }
  JsonWriter& Raw(std::string_view json);  // one complete value

 private:
  JsonWriter& Open(char bracket);
  JsonWriter& Close(char bracket);
  void Separate();

  std::string* const out_;
  bool comma_ = false;  // the next value or key follows another one
};

}  // namespace trireme
