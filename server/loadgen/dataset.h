// Prompts out of a file.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace trireme::loadgen {

struct Message {
  std::string role, content;
};

// One conversation up to the answer that is asked for.
struct Prompt {
  std::vector<Message> messages;     // at least one; the last is the user's
  std::optional<int> output_tokens;  // when the dataset says how long the answer is
};

struct Dataset {
  std::vector<Prompt> prompts;  // at least one
  int64_t skipped = 0;          // lines or items without anything to ask
};

inline constexpr size_t kMaxDatasetLineBytes = 4 << 20;  // of an item, too
inline constexpr size_t kMaxDatasetBytes = size_t{1} << 30;

// `path` ending in .jsonl or .json: one JSON object a line, or one array of objects (as ShareGPT
// comes), each of one of these forms
//   {"prompt": "..."}
//   {"messages": [{"role": "user", "content": "..."}, ...]}             (OpenAI)
//   {"conversations": [{"from": "human", "value": "..."}, ...]}         (ShareGPT: the first turn)
// each with an optional "output_tokens". Any other name: one prompt a line. A byte order mark,
// empty lines and conversations without a user's turn are skipped; a line or item that is no JSON,
// no UTF-8 or too long is INVALID_ARGUMENT with its number, and so is a file without any prompt.
absl::StatusOr<Dataset> ReadDataset(const std::string& path);

// The same of a text in memory.
absl::StatusOr<Dataset> ParseDataset(std::string_view text, bool json);

}  // namespace trireme::loadgen
