#include "runtime/text/stop_matcher.h"

#include <algorithm>

#include "runtime/text/utf8.h"

namespace trireme {

StopMatcher::StopMatcher(const std::vector<std::string>& stops) {
  for (const std::string& text : stops) {
    if (text.empty() || !IsValidUtf8(text)) continue;
    Stop stop{text, std::vector<uint32_t>(text.size() + 1, 0)};
    for (size_t i = 1; i < text.size(); ++i) {
      uint32_t border = stop.fallback[i];
      while (border > 0 && text[border] != text[i]) border = stop.fallback[border];
      stop.fallback[i + 1] = text[border] == text[i] ? border + 1 : 0;
    }
    stops_.push_back(std::move(stop));
  }
}

StopMatcher::Match StopMatcher::Scan(std::string_view text) {
  Match best;
  for (Stop& stop : stops_) {
    for (size_t i = 0; i < text.size(); ++i) {
      while (stop.matched > 0 && stop.text[stop.matched] != text[i]) {
        stop.matched = stop.fallback[stop.matched];
      }
      if (stop.text[stop.matched] == text[i]) ++stop.matched;
      if (stop.matched < stop.text.size()) continue;
      const uint64_t begin = num_scanned_ + i + 1 - stop.text.size();
      if (best.stop.empty() || begin < best.begin ||
          (begin == best.begin && stop.text.size() > best.stop.size())) {
        best = {begin, stop.text};
      }
      stop.matched = stop.fallback[stop.matched];
    }
  }
  num_scanned_ += text.size();
  return best;
}

size_t StopMatcher::num_pending() const {
  size_t longest = 0;
  for (const Stop& stop : stops_) longest = std::max<size_t>(longest, stop.matched);
  return longest;
}

}  // namespace trireme
