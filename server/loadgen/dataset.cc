#include "server/loadgen/dataset.h"

#include <algorithm>
#include <boost/json.hpp>

#include "runtime/base/file.h"
#include "runtime/base/status.h"
#include "runtime/base/strings.h"
#include "runtime/text/utf8.h"
#include "server/loadgen/lengths.h"

namespace trireme::loadgen {
namespace {

namespace json = boost::json;

const json::string* TextField(const json::object& object, std::string_view name) {
  const json::value* value = object.if_contains(name);
  return value == nullptr ? nullptr : value->if_string();
}

// The turns of an array of {role_key, text_key}, up to the last that is the user's.
absl::StatusOr<std::vector<Message>> ReadTurns(const json::value& turns, const char* role_key,
                                               const char* text_key, bool first_turn_only) {
  if (!turns.is_array()) return absl::InvalidArgumentError("the turns are no array");
  std::vector<Message> messages;
  size_t wanted = 0;  // messages up to the user's turn
  for (const json::value& turn : turns.get_array()) {
    const json::object* object = turn.if_object();
    const json::string* role = object == nullptr ? nullptr : TextField(*object, role_key);
    const json::string* text = object == nullptr ? nullptr : TextField(*object, text_key);
    if (role == nullptr || text == nullptr) {
      return absl::InvalidArgumentError(
          StrCat("a turn has no \"", role_key, "\" or no \"", text_key, "\" that is a text"));
    }
    const bool user = *role == "user" || *role == "human";
    const std::string name = user                ? "user"
                             : *role == "gpt"    ? "assistant"
                             : *role == "system" ? "system"
                                                 : std::string(*role);
    messages.push_back({name, std::string(*text)});
    if (user && !text->empty()) wanted = messages.size();
    if (first_turn_only && wanted > 0) break;
  }
  messages.resize(wanted);
  if (first_turn_only && wanted > 0) return std::vector<Message>{messages.back()};
  return messages;
}

absl::StatusOr<std::vector<Message>> ReadMessages(const json::object& object) {
  if (const json::value* prompt = object.if_contains("prompt")) {
    if (!prompt->is_string()) return absl::InvalidArgumentError("\"prompt\" is no text");
    if (prompt->get_string().empty()) return std::vector<Message>();
    return std::vector<Message>{{"user", std::string(prompt->get_string())}};
  }
  if (const json::value* messages = object.if_contains("messages")) {
    return ReadTurns(*messages, "role", "content", /*first_turn_only=*/false);
  }
  if (const json::value* turns = object.if_contains("conversations")) {
    return ReadTurns(*turns, "from", "value", /*first_turn_only=*/true);
  }
  return absl::InvalidArgumentError(
      "one of \"prompt\", \"messages\" and \"conversations\" is wanted");
}

absl::StatusOr<Prompt> ReadPrompt(const json::value& value) {
  if (!value.is_object()) return absl::InvalidArgumentError("a JSON object is wanted");
  Prompt prompt;
  TRIREME_ASSIGN_OR_RETURN(prompt.messages, ReadMessages(value.get_object()));
  if (const json::value* tokens = value.get_object().if_contains("output_tokens")) {
    if (!tokens->is_int64() || tokens->get_int64() < 1 || tokens->get_int64() > kMaxLengthTokens) {
      return absl::InvalidArgumentError(
          StrCat("\"output_tokens\" is no integer from 1 to ", kMaxLengthTokens));
    }
    prompt.output_tokens = static_cast<int>(tokens->get_int64());
  }
  return prompt;
}

absl::Status TooLong() {
  return absl::InvalidArgumentError(StrCat("longer than ", kMaxDatasetLineBytes, " bytes"));
}

absl::StatusOr<Prompt> ParseLine(std::string_view line, bool json) {
  if (line.size() > kMaxDatasetLineBytes) return TooLong();
  if (!json) {
    if (!IsValidUtf8(line)) return absl::InvalidArgumentError("no UTF-8");
    return Prompt{.messages = {{"user", std::string(line)}}};
  }
  boost::system::error_code error;
  const json::value value = json::parse(line, error);
  if (error) return absl::InvalidArgumentError(StrCat("no JSON: ", error.message()));
  return ReadPrompt(value);
}

absl::Status Add(absl::StatusOr<Prompt> prompt, const std::string& where, Dataset* dataset) {
  if (!prompt.ok()) return Annotate(prompt.status(), where);
  if (prompt->messages.empty()) {
    ++dataset->skipped;
  } else {
    dataset->prompts.push_back(*std::move(prompt));
  }
  return absl::OkStatus();
}

absl::Status ParseLines(std::string_view text, bool json, Dataset* dataset) {
  for (int64_t number = 1; !text.empty(); ++number) {
    std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(text.size(), line.size() + 1));
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.empty()) continue;
    TRIREME_RETURN_IF_ERROR(Add(ParseLine(line, json), StrCat("line ", number), dataset));
  }
  return absl::OkStatus();
}

void SkipSpace(std::string_view* text) {
  text->remove_prefix(std::min(text->size(), text->find_first_not_of(" \t\r\n")));
}

// The front value of `text`, which moves behind it.
absl::StatusOr<Prompt> TakeItem(json::parser* parser, std::string_view* text) {
  const std::string_view front = text->substr(0, kMaxDatasetLineBytes);
  boost::system::error_code error;
  parser->reset();
  const size_t size = parser->write_some(front.data(), front.size(), error);
  if (error == json::error::incomplete && front.size() < text->size()) return TooLong();
  if (error) return absl::InvalidArgumentError(StrCat("no JSON: ", error.message()));
  text->remove_prefix(size);
  return ReadPrompt(parser->release());
}

// One array, item by item: a tree of the whole file would take many times its size. `text` begins
// behind its bracket.
absl::Status ParseArray(std::string_view text, Dataset* dataset) {
  json::parser parser;
  SkipSpace(&text);
  for (int64_t number = 1; number > 1 || !text.starts_with(']'); ++number) {
    const std::string where = StrCat("item ", number);
    TRIREME_RETURN_IF_ERROR(Add(TakeItem(&parser, &text), where, dataset));
    SkipSpace(&text);
    if (text.starts_with(']')) break;
    if (!text.starts_with(',')) {
      return absl::InvalidArgumentError(StrCat(where, ": neither a comma nor a bracket follows"));
    }
    text.remove_prefix(1);
    SkipSpace(&text);
  }
  text.remove_prefix(1);
  SkipSpace(&text);
  return text.empty() ? absl::OkStatus()
                      : absl::InvalidArgumentError("something follows the array");
}

}  // namespace

absl::StatusOr<Dataset> ParseDataset(std::string_view text, bool json) {
  if (text.starts_with("\xef\xbb\xbf")) text.remove_prefix(3);  // a byte order mark
  Dataset dataset;
  std::string_view array = text;
  SkipSpace(&array);
  if (json && array.starts_with('[')) {
    TRIREME_RETURN_IF_ERROR(ParseArray(array.substr(1), &dataset));
  } else {
    TRIREME_RETURN_IF_ERROR(ParseLines(text, json, &dataset));
  }
  if (dataset.prompts.empty()) return absl::InvalidArgumentError("there is no prompt in it");
  return dataset;
}

absl::StatusOr<Dataset> ReadDataset(const std::string& path) {
  TRIREME_ASSIGN_OR_RETURN(const std::string text, ReadFile(path, kMaxDatasetBytes));
  auto dataset = ParseDataset(text, path.ends_with(".jsonl") || path.ends_with(".json"));
  if (!dataset.ok()) return Annotate(dataset.status(), path);
  return dataset;
}

}  // namespace trireme::loadgen
