// Looks for stop strings in text that arrives in parts (Knuth-Morris-Pratt for each string, one
// byte at a time).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace trireme {

class StopMatcher {
 public:
  // Empty strings and strings that are not UTF-8 can not match and are dropped.
  explicit StopMatcher(const std::vector<std::string>& stops);

  struct Match {
    uint64_t begin = 0;     // offset from the first byte ever scanned
    std::string_view stop;  // empty: no match. Lives as long as the matcher
  };
  // Scans the next part. Of the strings that it completes, the one that begins first; of those, the
  // longest.
  Match Scan(std::string_view text);

  // Length of the longest suffix of all scanned text that a stop string begins with (but is not all
  // of it).
  size_t num_pending() const;

 private:
  struct Stop {
    std::string text;
    std::vector<uint32_t> fallback;  // [i]: longest border of the first i bytes; [size + 1]
    uint32_t matched = 0;            // length of the prefix that the scanned text ends with; < size
  };
  std::vector<Stop> stops_;
  uint64_t num_scanned_ = 0;
};

}  // namespace trireme
