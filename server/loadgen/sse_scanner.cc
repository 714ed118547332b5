#include "server/loadgen/sse_scanner.h"

namespace trireme::loadgen {
namespace {

// Position of the first CR or LF; npos when there is none. Two vectorised scans, the second over
// one line only.
size_t FindLineEnd(std::string_view bytes) {
  const size_t lf = bytes.find('\n');
  const size_t cr = bytes.substr(0, lf).find('\r');
  return cr != std::string_view::npos ? cr : lf;
}

}  // namespace

void SseScanner::Reset() {
  line_.clear();
  data_.clear();
  has_data_ = after_cr_ = false;
}

void SseScanner::Line(std::string_view line,
                      absl::FunctionRef<void(std::string_view data)> on_data) {
  if (line.empty()) {
    if (has_data_) on_data(data_);
    data_.clear();
    has_data_ = false;
    return;
  }
  constexpr std::string_view kField = "data";
  if (!line.starts_with(kField)) return;
  line.remove_prefix(kField.size());
  if (!line.empty() && line.front() != ':') return;  // "database: x" is another field
  if (!line.empty()) line.remove_prefix(1);
  if (line.starts_with(' ')) line.remove_prefix(1);
  if (has_data_) data_ += '\n';
  data_ += line;
  has_data_ = true;
}

bool SseScanner::Feed(std::string_view bytes,
                      absl::FunctionRef<void(std::string_view data)> on_data) {
  while (!bytes.empty()) {
    if (after_cr_) {
      after_cr_ = false;
      if (bytes.front() == '\n') {
        bytes.remove_prefix(1);
        continue;
      }
    }
    const size_t end = FindLineEnd(bytes);
    const std::string_view part = bytes.substr(0, end);
    if (line_.size() + data_.size() + part.size() > kMaxEventBytes) return false;
    if (end == std::string_view::npos) {
      line_ += part;
      return true;
    }
    after_cr_ = bytes[end] == '\r';
    bytes.remove_prefix(end + 1);
    if (line_.empty()) {
      Line(part, on_data);
    } else {
      line_ += part;
      Line(line_, on_data);
      line_.clear();
    }
  }
  return true;
}

}  // namespace trireme::loadgen
