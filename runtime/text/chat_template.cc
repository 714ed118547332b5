#include "runtime/text/chat_template.h"

#include <algorithm>

#include "runtime/base/status.h"
#include "runtime/text/jinja/from_json.h"
#include "runtime/text/jinja/program.h"
#include "runtime/text/jinja/unicode.h"

namespace trireme {
namespace {

namespace json = boost::json;
using jinja::Value;

// Appended to the message to be continued, and cut off again where it comes out. As in Transformers, white space that
// the template strips goes too; the trailing space shows whether it does.
constexpr std::string_view kContinueTag = "CONTINUE_FINAL_MESSAGE_TAG ";

// These words choose between parts of a template and, spliced into "<|user|>", make up its markup. Any other role is
// text of the request like its content.
bool IsKnownRole(std::string_view role) {
  static constexpr std::string_view kRoles[] = {"system", "developer", "user",    "assistant",
                                                "tool",   "function",  "ipython", "model"};
  return std::find(std::begin(kRoles), std::end(kRoles), role) != std::end(kRoles);
}

std::string_view View(const json::string& s) { return {s.data(), s.size()}; }

Value MessageValue(jinja::Runtime& rt, const json::value& message) {
  const Value value = jinja::FromJson(rt, message);
  if (!message.is_object()) return value;
  const json::value* role = message.get_object().if_contains("role");
  if (role != nullptr && role->is_string() && IsKnownRole(View(role->get_string()))) {
    value.dict().Set(rt.NewString("role"),
                     rt.NewStringView(View(role->get_string()), /*user=*/false));
  }
  return value;
}

// The text that continue_final_message continues: the content, or its last text part. Null when there is none.
json::string* FinalText(json::value& message) {
  if (!message.is_object()) return nullptr;
  json::value* content = message.get_object().if_contains("content");
  if (content == nullptr) return nullptr;
  if (content->is_string()) return &content->get_string();
  if (!content->is_array()) return nullptr;
  for (auto part = content->get_array().rbegin(); part != content->get_array().rend(); ++part) {
    json::value* text = part->is_object() ? part->get_object().if_contains("text") : nullptr;
    if (text != nullptr) return text->if_string();
  }
  return nullptr;
}

std::string_view Trim(std::string_view text, bool left) {
  size_t begin, end;
  jinja::TrimSpace(text, left, true, &begin, &end);
  return text.substr(begin, end - begin);
}

// Cuts the rendering right behind the final message's text.
absl::Status CutAtTag(std::string_view final_text, jinja::Rendered* rendered) {
  const std::string_view text = rendered->text;
  const size_t tag = text.rfind(Trim(kContinueTag, true));
  if (tag == std::string_view::npos || text.find(Trim(final_text, true)) == std::string_view::npos) {
    return InvalidParam("continue_final_message",
                        "the chat template leaves out the final message, so it cannot be continued");
  }
  const bool keeps_space = text.substr(tag, kContinueTag.size()) == kContinueTag;
  const size_t end = keeps_space ? tag : Trim(text.substr(0, tag), false).size();
  rendered->text.resize(end);
  auto& user = rendered->user;
  while (!user.empty() && user.back().begin >= end) user.pop_back();
  if (!user.empty()) user.back().end = std::min(user.back().end, end);
  return absl::OkStatus();
}

class JinjaChatTemplate : public ChatTemplate {
 public:
  JinjaChatTemplate(std::string source, std::unique_ptr<const jinja::Program> program)
      : source_(std::move(source)), program_(std::move(program)) {}

  const std::string& source() const override { return source_; }

  absl::StatusOr<RenderedPrompt> Render(const ChatTemplateInputs& inputs) const override {
    for (const auto& [name, value] : inputs.extra) {
      if (name == "messages" || name == "tools" || name == "add_generation_prompt") {
        return InvalidParam("chat_template_kwargs",
                            "messages, tools and add_generation_prompt have their own fields");
      }
    }
    json::value final_message;
    std::string final_text;
    if (inputs.continue_final_message) {
      if (inputs.add_generation_prompt) {
        return InvalidParam("continue_final_message",
                            "add_generation_prompt and continue_final_message exclude each other");
      }
      if (!inputs.messages.empty()) final_message = inputs.messages.back();
      json::string* text = FinalText(final_message);
      if (text == nullptr) {
        return InvalidParam("continue_final_message", "the final message has no text to continue");
      }
      final_text = View(*text);
      text->append({kContinueTag.data(), kContinueTag.size()});
    }
    TRIREME_ASSIGN_OR_RETURN(jinja::Rendered rendered, RenderJinja(inputs, final_message));
    if (inputs.continue_final_message) {
      TRIREME_RETURN_IF_ERROR(CutAtTag(final_text, &rendered));
    }
    RenderedPrompt prompt;
    prompt.text = std::move(rendered.text);
    prompt.user_spans.reserve(rendered.user.size());
    for (const jinja::ByteRange& range : rendered.user) {
      prompt.user_spans.push_back({range.begin, range.end});
    }
    return prompt;
  }

 private:
  // `final_message` replaces the last message unless it is null.
  absl::StatusOr<jinja::Rendered> RenderJinja(const ChatTemplateInputs& inputs,
                                              const json::value& final_message) const {
    const auto define = [&](jinja::Runtime& rt, jinja::Program::Variables& variables) {
      const auto trusted = [&](std::string_view text) { return rt.NewStringView(text, false); };
      variables.Set("bos_token", trusted(inputs.bos_token));
      variables.Set("eos_token", trusted(inputs.eos_token));
      variables.Set("add_generation_prompt", Value::Bool(inputs.add_generation_prompt));
      variables.Set("documents", Value::None());
      jinja::Values messages = rt.NewValues();
      for (size_t i = 0; i < inputs.messages.size(); ++i) {
        const bool replaced = !final_message.is_null() && i + 1 == inputs.messages.size();
        messages.push_back(MessageValue(rt, replaced ? final_message : inputs.messages[i]));
      }
      variables.Set("messages", rt.NewList(std::move(messages)));
      jinja::Values tools = rt.NewValues();
      for (const json::value& tool : inputs.tools) tools.push_back(jinja::FromJson(rt, tool));
      variables.Set("tools", tools.empty() ? Value::None() : rt.NewList(std::move(tools)));
      for (const auto& [name, value] : inputs.extra) {
        variables.Set({name.data(), name.size()}, jinja::FromJson(rt, value));
      }
    };
    return program_->Render(define, inputs.now);
  }

  const std::string source_;
  const std::unique_ptr<const jinja::Program> program_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<const ChatTemplate>> ChatTemplate::Compile(std::string source) {
  TRIREME_ASSIGN_OR_RETURN(auto program, jinja::Program::Compile(source));
  return std::make_unique<const JinjaChatTemplate>(std::move(source), std::move(program));
}

}  // namespace trireme
