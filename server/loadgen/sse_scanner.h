// Server-sent events out of a stream of bytes that may be cut anywhere.
#pragma once

#include <string>
#include <string_view>

#include "absl/functional/function_ref.h"

namespace trireme::loadgen {

inline constexpr size_t kMaxEventBytes = 1 << 20;

class SseScanner {
 public:
  // Calls `on_data` with the data of each event that `bytes` completes (lines of one event are
  // joined by '\n'; comments and other fields are passed over). The view lives as long as the call.
  // False: an event is longer than kMaxEventBytes; the scanner is of no use then.
  bool Feed(std::string_view bytes, absl::FunctionRef<void(std::string_view data)> on_data);
  void Reset();

 private:
  void Line(std::string_view line, absl::FunctionRef<void(std::string_view data)> on_data);

  std::string line_;       // what has come of the current line
  std::string data_;       // of the current event
  bool has_data_ = false;  // an empty "data:" line is data, too
  bool after_cr_ = false;  // the last byte was CR: an LF now belongs to it
};

}  // namespace trireme::loadgen
