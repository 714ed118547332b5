#include "server/loadgen/answer_scanner.h"

#include <array>
#include <boost/json/basic_parser_impl.hpp>

namespace trireme::loadgen {
namespace {

namespace json = boost::json;
using boost::system::error_code;

// The keys that matter, by name; their place decides whether they count.
enum class Key : uint8_t {
  kOther,
  kChoices,
  kText,
  kDelta,
  kContent,
  kReasoning,
  kFinishReason,
  kUsage,
  kPromptTokens,
  kCompletionTokens,
  kPromptDetails,
  kCachedTokens,
  kError,
  kMessage,
};

Key KeyOf(std::string_view name) {
  constexpr std::pair<std::string_view, Key> kNames[] = {
      {"choices", Key::kChoices},
      {"text", Key::kText},
      {"delta", Key::kDelta},
      {"content", Key::kContent},
      {"reasoning_content", Key::kReasoning},
      {"reasoning", Key::kReasoning},
      {"finish_reason", Key::kFinishReason},
      {"usage", Key::kUsage},
      {"prompt_tokens", Key::kPromptTokens},
      {"completion_tokens", Key::kCompletionTokens},
      {"prompt_tokens_details", Key::kPromptDetails},
      {"cached_tokens", Key::kCachedTokens},
      {"error", Key::kError},
      {"message", Key::kMessage},
  };
  for (const auto& [known, key] : kNames) {
    if (name == known) return key;
  }
  return Key::kOther;
}

// Follows the path of keys and keeps what the event says.
//   depth 1 {choices, usage, error}   2 [choices]   3 {text, delta, finish_reason}   4 {content}
class Handler {
 public:
  static constexpr size_t max_array_size = -1, max_object_size = -1;
  static constexpr size_t max_string_size = -1, max_key_size = 1 << 16;

  AnswerEvent event;

  void Begin() {
    event = AnswerEvent();
    depth_ = 0;
    key_.clear();
    text_.clear();
  }

  bool on_document_begin(error_code&) { return true; }
  bool on_document_end(error_code&) { return true; }
  bool on_object_begin(error_code&) {
    if (At(1, Key::kError)) event.has_error = true;
    if (At(1, Key::kUsage)) event.has_usage = true;
    return Open();
  }
  bool on_object_end(size_t, error_code&) { return Close(); }
  bool on_array_begin(error_code&) { return Open(); }
  bool on_array_end(size_t, error_code&) { return Close(); }
  bool on_key_part(json::string_view part, size_t, error_code&) {
    key_ += part;
    return true;
  }
  bool on_key(json::string_view part, size_t, error_code&) {
    if (!key_.empty()) {
      key_ += part;
      SetKey(key_);
      key_.clear();
    } else {
      SetKey(part);
    }
    return true;
  }
  bool on_string_part(json::string_view part, size_t, error_code&) {
    if (IsError()) text_ += part;
    return true;
  }
  bool on_string(json::string_view part, size_t size, error_code&) {
    if (IsError()) {
      text_ += part;
      event.has_error = true;
      event.error_message = std::move(text_);
      text_.clear();
    }
    if (path_[1] != Key::kChoices) return true;
    if (At(3, Key::kFinishReason)) event.finished = true;
    const bool text = At(3, Key::kText) ||
                      (path_[3] == Key::kDelta && (At(4, Key::kContent) || At(4, Key::kReasoning)));
    if (text && size > 0) event.has_text = true;
    return true;
  }
  bool on_number_part(json::string_view, error_code&) { return true; }
  bool on_int64(int64_t value, json::string_view, error_code&) {
    if (path_[1] != Key::kUsage) return true;
    if (At(2, Key::kPromptTokens)) event.usage.prompt_tokens = value;
    if (At(2, Key::kCompletionTokens)) event.usage.completion_tokens = value;
    if (path_[2] == Key::kPromptDetails && At(3, Key::kCachedTokens)) {
      event.usage.cached_tokens = value;
    }
    return true;
  }
  bool on_uint64(uint64_t, json::string_view, error_code&) { return true; }  // no sane count
  bool on_double(double, json::string_view, error_code&) { return true; }
  bool on_bool(bool, error_code&) { return true; }
  bool on_null(error_code&) { return true; }
  bool on_comment_part(json::string_view, error_code&) { return true; }
  bool on_comment(json::string_view, error_code&) { return true; }

 private:
  bool At(size_t depth, Key key) const { return depth_ == depth && path_[depth] == key; }
  // {"error": "text"} and {"error": {"message": "text"}}
  bool IsError() const {
    return At(1, Key::kError) || (path_[1] == Key::kError && At(2, Key::kMessage));
  }
  bool Open() {
    if (++depth_ < path_.size()) path_[depth_] = Key::kOther;
    return true;
  }
  bool Close() {
    --depth_;
    return true;
  }
  void SetKey(std::string_view name) {
    if (depth_ < path_.size()) path_[depth_] = KeyOf(name);
  }

  // path_[d]: the key that is being read of the object at depth d; deeper levels do not matter. A
  // level above depth_ is stale, so every test names depth_ or a level that is open.
  std::array<Key, 5> path_{};
  size_t depth_ = 0;
  std::string key_, text_;
};

}  // namespace

struct AnswerScanner::Parser {
  json::basic_parser<Handler> json{json::parse_options()};
};

AnswerScanner::AnswerScanner() : parser_(std::make_unique<Parser>()) {}
AnswerScanner::~AnswerScanner() = default;
AnswerScanner::AnswerScanner(AnswerScanner&&) noexcept = default;

const AnswerEvent& AnswerScanner::Scan(std::string_view data) {
  Handler& handler = parser_->json.handler();
  handler.Begin();
  if (data == "[DONE]") {
    handler.event.done = handler.event.valid = true;
    return handler.event;
  }
  error_code error;
  parser_->json.reset();
  const size_t used = parser_->json.write_some(false, data.data(), data.size(), error);
  handler.event.valid = !error && used == data.size() && parser_->json.done();
  return handler.event;
}

}  // namespace trireme::loadgen
