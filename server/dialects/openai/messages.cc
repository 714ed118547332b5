#include "server/dialects/openai/messages.h"

#include <utility>

#include "runtime/base/status.h"
#include "runtime/base/strings.h"

namespace trireme::openai {
namespace {

namespace json = boost::json;

constexpr std::string_view kTextOnly = "This model takes and gives text only.";

// Appends one content part to `text`.
void ReadPart(FieldReader& message, const std::string& name, const json::value& value, bool first,
              std::string* text) {
  const json::object* object = value.if_object();
  if (object == nullptr) return message.FailType(name, "an object", value);
  FieldReader part(*object, message.Path(name) + ".");
  std::string type, words;
  part.Require("type");
  part.String("type", &type);
  if (part.ok() && type != "text") {
    return message.Fail(InvalidParam(
        part.Path("type"),
        StrCat("Content parts of type '", Printable(type), "' are not supported. ", kTextOnly),
        "unsupported_value"));
  }
  part.Require("text");
  part.String("text", &words);
  if (absl::Status error = part.Finish(); !error.ok()) return message.Fail(std::move(error));
  if (!first) *text += '\n';
  *text += words;
}

// False when the message has no content.
bool ReadContent(FieldReader& message, std::string* text) {
  const json::value* content = message.Find("content");
  if (content == nullptr) return false;
  if (content->is_string()) {
    *text = std::string(std::string_view(content->get_string()));
  } else if (const json::array* parts = content->if_array()) {
    if (parts->empty()) {
      const std::string path = message.Path("content");
      message.Fail(InvalidParam(path, StrCat("Invalid '", path, "': empty array."), "empty_array"));
    }
    for (size_t i = 0; i < parts->size() && message.ok(); ++i) {
      ReadPart(message, StrCat("content[", i, "]"), (*parts)[i], i == 0, text);
    }
  } else {
    message.FailType("content", "a string or an array of content parts", *content);
  }
  return true;
}

// An empty list stands for none: clients echo our own answers back with every key they know.
void RefuseUnlessEmpty(FieldReader& message, std::string_view name, std::string_view why) {
  const json::value* value = message.Find(name);
  if (value == nullptr || (value->is_array() && value->get_array().empty())) return;
  message.Refuse(name, why);
}

json::object ReadMessage(FieldReader& message) {
  std::string role, content, name;
  message.Require("role");
  message.String("role", &role);
  if (message.ok()) {
    absl::StatusOr<std::string> known = TemplateRole(role, message.Path("role"));
    message.Fail(known.status());
    role = known.value_or("");
  }
  RefuseUnlessEmpty(message, "tool_calls", kToolsNotSupported);
  RefuseUnlessEmpty(message, "annotations", kTextOnly);
  message.Refuse("tool_call_id", kToolsNotSupported);
  message.Refuse("function_call", kToolsNotSupported);
  message.Refuse("audio", kTextOnly);
  message.Refuse("refusal", "Refusals cannot be replayed to this model.");
  if (!ReadContent(message, &content)) message.Require("content");
  json::object out;
  out["role"] = role;
  out["content"] = content;
  if (message.String("name", &name)) out["name"] = name;
  message.Fail(message.Finish());
  return out;
}

}  // namespace

void ReadChatPrompt(FieldReader& fields, ChatPrompt* out) {
  fields.Require("messages");
  const json::array* messages = fields.Array("messages");
  if (messages != nullptr && messages->empty()) {
    fields.Fail(InvalidParam("messages", "Invalid 'messages': empty array. At least one is needed.",
                             "empty_array"));
  }
  for (size_t i = 0; messages != nullptr && i < messages->size() && fields.ok(); ++i) {
    const std::string name = StrCat("messages[", i, "]");
    const json::object* object = (*messages)[i].if_object();
    if (object == nullptr) {
      fields.FailType(name, "an object", (*messages)[i]);
      break;
    }
    FieldReader message(*object, name + ".");
    out->messages.push_back(ReadMessage(message));
    fields.Fail(message.Finish());
  }
  fields.Bool("continue_final_message", &out->continue_final_message);
  const bool asked = fields.Bool("add_generation_prompt", &out->add_generation_prompt);
  if (out->continue_final_message) {
    if (asked && out->add_generation_prompt) {
      fields.Fail(InvalidParam("add_generation_prompt",
                               "'add_generation_prompt' and 'continue_final_message' exclude each "
                               "other."));
    }
    out->add_generation_prompt = false;
  }
  if (const json::object* extra = fields.Object("chat_template_kwargs")) {
    out->template_kwargs = *extra;
  }
}

}  // namespace trireme::openai
